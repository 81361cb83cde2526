"""What is public of lenet5c.report.plots."""

from lenet5c.report.plots import (
    CALIBRATION_BINS,
    DOTS_PER_INCH,
    Reliability,
    feature_layers,
    plot_augmented,
    plot_calibration,
    plot_confusion,
    plot_feature_maps,
    plot_filters,
    plot_history,
    plot_mistakes,
    png,
    printable,
    reliability,
    require_matplotlib,
    worst_mistakes,
)
from lenet5c.report.plots import (
    __doc__ as __doc__,
)

__all__ = [
    "CALIBRATION_BINS",
    "DOTS_PER_INCH",
    "Reliability",
    "feature_layers",
    "plot_augmented",
    "plot_calibration",
    "plot_confusion",
    "plot_feature_maps",
    "plot_filters",
    "plot_history",
    "plot_mistakes",
    "png",
    "printable",
    "reliability",
    "require_matplotlib",
    "worst_mistakes",
]
