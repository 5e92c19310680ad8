"""Intervals in one picture: what is full, what is hollow, what leaves the frame."""

import math

import matplotlib as mpl
import pytest
from matplotlib.axes import Axes

mpl.use("agg")

import matplotlib.pyplot as plt

from helpers import plots

COLUMNS = {
    "width": {"gap": (-0.5, -0.75, -0.25), "bound": (0.25, -0.5, 1.0)},
    "noise": {"gap": (0.5, 0.25, 0.75), "trace": (2.0, 1.5, 3.5)},
}


def marks(ax: Axes, y: float, marker: str = "o") -> list[tuple[float, bool]]:
    """Where the markers of a row stand, and whether they are full."""
    found = []
    for line in ax.lines:
        if line.get_marker() == marker and list(line.get_ydata()) == [y]:
            assert line.get_markevery() == 1  # a share of one point would draw none
            found.append((float(line.get_xdata()[0]), line.get_markerfacecolor() == line.get_color()))
    return found


def bars(ax: Axes, y: float) -> list[tuple[float, ...]]:
    """The horizontal pieces of a row."""
    return [tuple(line.get_xdata()) for line in ax.lines if list(line.get_ydata()) == [y, y]]


def test_rows_stand_where_their_name_does_in_every_column() -> None:
    left, right = plots.intervals(COLUMNS, label="exponent").axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["gap", "bound", "trace"]
    assert bars(left, 0) == [(-0.75, -0.25)]
    assert bars(left, 1) == [(-0.5, 1.0)]
    assert bars(left, 2) == []
    assert bars(right, 1) == []
    assert bars(right, 2) == [(1.5, 3.5)]
    assert left.get_ylim()[0] > left.get_ylim()[1]  # the first row on top
    plt.close("all")


def test_an_interval_that_holds_zero_is_hollow() -> None:
    left, right = plots.intervals(COLUMNS, label="exponent").axes
    assert marks(left, 0) == [(-0.5, True)]
    assert marks(left, 1) == [(0.25, False)]
    assert marks(right, 0) == [(0.5, True)]
    plt.close("all")


def test_what_leaves_the_frame_ends_in_an_arrowhead() -> None:
    left, right = plots.intervals(COLUMNS, label="exponent", limits=(-0.6, 3.0)).axes
    assert bars(left, 0) == [(-0.6, -0.25)]
    assert [x for x, _ in marks(left, 0, "<")] == [-0.6]
    assert [x for x, _ in marks(right, 2, ">")] == [3.0]
    assert marks(left, 1, "<") == marks(left, 1, ">") == []
    assert left.get_xlim() == (-0.6, 3.0)
    plt.close("all")


def test_the_row_to_compare_with_is_a_band_and_seeds_are_dots() -> None:
    dots = {"width": {"gap": [-0.6, -0.4]}}
    left, right = plots.intervals(COLUMNS, label="exponent", compare="gap", points=dots).axes
    assert left.patches[0].get_x() == -0.75
    assert left.patches[0].get_width() == pytest.approx(0.5)
    assert [x for x, _ in marks(left, 0.25, ".")] == [-0.6, -0.4]
    assert marks(right, 0.25, ".") == []
    plt.close("all")


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({}, "there is nothing to draw"),
        ({"a": {}}, "there is nothing to draw"),
        ({"a": {"gap": (1.0, 2.0, 3.0)}}, "'gap' of 'a' must be finite with low <= value <= high"),
        ({"a": {"gap": (1.0, math.nan, 3.0)}}, "must be finite"),
        ({"a": {"gap": (1.0, 0.0, math.inf)}}, "must be finite"),
    ],
)
def test_numbers_without_an_interval_are_refused(columns: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        plots.intervals(columns, label="exponent")


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"compare": "gaps"}, "compare must be the name of a row"),
        ({"points": {"widths": {"gap": [0.1]}}}, "of 'widths'"),
        ({"points": {"width": {"gaps": [0.1]}}}, r"got \['gaps'\] of 'width'"),
        ({"points": {"width": {"gap": [0.1, math.nan]}}}, "points of 'width' must be finite"),
        ({"limits": (1.0, -1.0)}, "limits must be finite and in order"),
        ({"limits": (-1.0, math.inf)}, "limits must be finite and in order"),
    ],
)
def test_what_would_be_drawn_nowhere_is_refused(extra: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        plots.intervals(COLUMNS, label="exponent", **extra)
