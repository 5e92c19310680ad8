"""What a reader sees: figures of one style, tables, captions, and results that show themselves.

``figures`` has the colours and the axes, ``forest`` many intervals in one picture, ``tables`` the tables and captions,
``shown`` the form in which a notebook displays an estimate or a bound.
"""

from helpers.plots.figures import (
    BLUE,
    CLIPPED,
    DASHES,
    GREEN,
    GREY,
    HATCH,
    HEIGHT,
    HOLD_OUT,
    MARKERS,
    PALETTE,
    PINK,
    VERMILION,
    VIOLET,
    WIDTH,
    degenerate_regions,
    figure,
    gap_line,
    hatched,
    lambda_path,
    mapping,
    rc,
    style,
    terms_path,
)
from helpers.plots.forest import intervals
from helpers.plots.shown import result_html, show_results
from helpers.plots.tables import Caption, Table, caption, table, uncertain

__all__ = [
    "BLUE",
    "CLIPPED",
    "DASHES",
    "GREEN",
    "GREY",
    "HATCH",
    "HEIGHT",
    "HOLD_OUT",
    "MARKERS",
    "PALETTE",
    "PINK",
    "VERMILION",
    "VIOLET",
    "WIDTH",
    "Caption",
    "Table",
    "caption",
    "degenerate_regions",
    "figure",
    "gap_line",
    "hatched",
    "intervals",
    "lambda_path",
    "mapping",
    "rc",
    "result_html",
    "show_results",
    "style",
    "table",
    "terms_path",
    "uncertain",
    "use",
]


def use() -> None:
    """Switch the book's style on for a notebook: figures become SVG, estimates and bounds show themselves as tables."""
    from helpers.plots import figures

    figures.use_style()
    show_results()
