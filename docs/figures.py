"""Gallery: a figure that is a cell's value is shown, as notebooks show it."""

from typing import Any

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst


def scrape(block: Any, block_vars: dict[str, Any], gallery_conf: Any) -> str:
    """The reST that shows the figure, or nothing."""
    names = block_vars["example_globals"]
    figure = names.get("___")  # sphinx-gallery's name for the last value
    if not isinstance(figure, Figure):
        return ""
    names["___"] = None  # no repr, and not again after the next cell
    path = next(block_vars["image_path_iterator"])
    figure.savefig(path)
    return figure_rst([path], gallery_conf["src_dir"])
