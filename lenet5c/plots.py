"""Pictures of a model, of its training and of its mistakes."""

from lenet5c.report.plots import (
    Reliability,
    plot_augmented,
    plot_calibration,
    plot_confusion,
    plot_feature_maps,
    plot_filters,
    plot_history,
    plot_mistakes,
    reliability,
    worst_mistakes,
)

__all__ = [
    "Reliability",
    "plot_augmented",
    "plot_calibration",
    "plot_confusion",
    "plot_feature_maps",
    "plot_filters",
    "plot_history",
    "plot_mistakes",
    "reliability",
    "worst_mistakes",
]
