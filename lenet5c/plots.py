"""Pictures of a training, a model and its mistakes, drawn by matplotlib.

Each function returns a matplotlib Figure and, if it is given a path, writes it there:
as PNG, or what else the file name ends in (.svg, .pdf). pyplot is not used: no window
opens, and no figure stays in memory. Notebooks show a figure that a cell ends with.
"""

from lenet5c.report.curves import (
    plot_calibration,
    plot_confusion,
    plot_histories,
    plot_history,
    plot_rankings,
)
from lenet5c.report.images import (
    plot_augmented,
    plot_feature_maps,
    plot_filters,
    plot_mistakes,
)
from lenet5c.report.occlusion import Occlusion, occlusion, plot_occlusion
from lenet5c.report.scores import (
    Ranking,
    Reliability,
    ranking,
    reliability,
    worst_mistakes,
)

__all__ = [
    "Occlusion",
    "Ranking",
    "Reliability",
    "occlusion",
    "plot_augmented",
    "plot_calibration",
    "plot_confusion",
    "plot_feature_maps",
    "plot_filters",
    "plot_histories",
    "plot_history",
    "plot_mistakes",
    "plot_occlusion",
    "plot_rankings",
    "ranking",
    "reliability",
    "worst_mistakes",
]
