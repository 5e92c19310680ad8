"""The widgets' Python side: what they send to the page, what they refuse, what they say without JavaScript."""

import json
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import traitlets

from helpers import plots, widgets
from helpers._chart import STATIC, Chart, plain

PATH = [
    {"lam": 0.1, "value": 3.25, "penalty": 2.68, "information": 0.57, "clipped_share": 0.85, "converged": True},
    {"lam": 1.0, "value": 7.84, "penalty": 2.76, "information": 5.08, "clipped_share": 0.0, "converged": False},
    {"lam": 10.0, "value": 3.0, "penalty": 2.8, "information": 0.2, "clipped_share": 0.0, "converged": True},
    {"lam": 100.0, "value": 2.9, "penalty": 2.89, "information": 0.01, "clipped_share": 0.0, "converged": True},
]
GRID = [
    {"batch_size": b, "lr": lr, "penalty": lr, "trajectory": 1 / b, "flatness": b * lr, "gap": 0.5}
    for b in (16, 64)
    for lr in (0.01, 0.1)
]


def family() -> list[Chart]:
    """One widget of each kind."""
    x = np.array([1.0, 2.0, 4.0])
    curves = widgets.Curves(
        x, {"error": lambda s: s / x}, {"noise": [1, 2]}, x_label="n", y_label="loss", title="Error", slide_x="n"
    )
    return [widgets.LambdaPath(PATH, gap=(2.9, 0.1)), widgets.BoundExplorer(GRID), curves]


@pytest.mark.parametrize("widget", family(), ids=lambda w: type(w).__name__)
def test_repr_names_no_address_and_state_is_strict_json(widget: Chart) -> None:
    assert re.search(r"0x[0-9a-f]+", repr(widget)) is None
    assert repr(widget).startswith(f"{type(widget).__name__}(")
    json.dumps(widget.get_state(), allow_nan=False)


@pytest.mark.parametrize("widget", family(), ids=lambda w: type(w).__name__)
def test_output_carries_the_widget_a_table_and_plain_text(widget: Chart) -> None:
    data, _ = widget._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == widget.model_id
    assert data["text/plain"] == repr(widget)
    assert data["text/html"].count("<tr>") >= 3
    assert widget.chart["title"] in data["text/html"]


@pytest.mark.parametrize("widget", family(), ids=lambda w: type(w).__name__)
def test_position_can_be_observed_and_must_exist(widget: Chart) -> None:
    seen: list[list[int]] = []
    widget.observe(lambda change: seen.append(change["new"]), names="position")
    first = [0] * len(widget.position)
    widget.position = first
    assert seen == [first]
    for wrong in ([], [99] * len(first), [-1] * len(first)):
        with pytest.raises(traitlets.TraitError, match="one index for each slider"):
            widget.position = wrong


def test_lambda_path_sends_its_rows_and_marks_the_degenerate_ends() -> None:
    path = widgets.LambdaPath(PATH, gap=(2.9, 0.1), start=1)
    assert path.row is path.rows[1]
    assert path.chart["series"] == ["bound", "penalty", "information"]
    assert path.chart["frames"] == [[[row[key] for row in PATH] for key in ("value", "penalty", "information")]]
    assert path.chart["gap"] == [2.9, 2.7, 3.1]
    assert path.chart["hollow"] == [1]
    (a, b, clipped), (c, d, hold_out) = path.chart["shades"]
    assert (a, b) == pytest.approx((0.1, math.sqrt(0.1)), rel=1e-5)
    assert "clipped" in clipped
    assert (c, d) == pytest.approx((math.sqrt(10), 100), rel=1e-5)
    assert "hold-out" in hold_out
    assert path.chart["notes"][1] == "0% of the examples sit at the clip. The solver did not converge."


def test_rows_may_be_dataclasses_and_the_gap_an_estimate() -> None:
    @dataclass
    class Row:
        lam: float
        value: float
        penalty: float
        information: float

    @dataclass
    class Estimate:
        value: float
        standard_error: float

    rows = [Row(1.0, 2.0, 0.5, 1.5), Row(2.0, 2.0, 0.5, 1.5)]
    assert widgets.LambdaPath(rows, gap=Estimate(1.0, 0.25)).chart["gap"] == [1.0, 0.5, 1.5]


def test_explorer_keeps_missing_settings_empty() -> None:
    explorer = widgets.BoundExplorer(GRID[:3])  # no run at batch size 64, learning rate 0.1
    assert explorer.chart["frames"] == [[0.01, 0.0625, 0.16], [0.1, 0.0625, 1.6], [0.01, 0.01562, 0.64], None]
    assert explorer.chart["gaps"] == [[0.5, 0.5, 0.5]] * 3 + [None]
    explorer.position = [1, 1]
    assert explorer.row is None
    explorer.position = [1, 0]
    assert explorer.row == GRID[2]
    assert "no run" in explorer._repr_mimebundle_()[0]["text/html"]


def test_curves_from_functions_and_from_arrays_agree() -> None:
    x, a, b = np.array([1.0, 2.0]), [1.0, 2.0, 3.0], [10.0, 20.0]
    common: dict[str, Any] = {"x_label": "x", "y_label": "y", "title": "t"}
    live = widgets.Curves(x, {"s": lambda u, v: u * x + v}, {"a": a, "b": b}, **common)
    array = np.asarray(a)[:, None, None] * x + np.asarray(b)[None, :, None]
    stored = widgets.Curves(x, {"s": array}, {"a": a, "b": b}, **common)
    assert live.chart == stored.chart
    assert live.chart["frames"][1 * len(b) + 0] == [[12.0, 14.0]]  # a = 2, b = 10: row-major


def test_infinity_is_named_and_survives_json() -> None:
    rows = [dict(row, value=math.inf, information=math.inf) if i == 0 else row for i, row in enumerate(PATH)]
    path = widgets.LambdaPath(rows)
    assert path.chart["frames"][0][0][0] == "inf"
    assert "infinite" in path._repr_mimebundle_()[0]["text/html"]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "there are no rows to draw"),
        ([{"lam": 1.0, "value": 1.0, "penalty": 1.0}], "row 0 has no 'information'"),
        ([PATH[0], dict(PATH[1], penalty=math.nan)], "'penalty' of row 1 is nan"),
        ([PATH[0], dict(PATH[1], value="big")], "'value' of row 1 is 'big': it must be a number"),
        ([PATH[1], PATH[0]], "increasing order"),
        ([dict(PATH[0], lam=0.0), PATH[1]], "needs values above 0"),
    ],
)
def test_lambda_path_refuses_what_it_cannot_draw(rows: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        widgets.LambdaPath(rows)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "there are no rows to draw"),
        ([*GRID, GRID[0]], "two rows have batch_size=16, lr=0.01"),
        ([dict(GRID[0], flatness=-1.0)], "'flatness' is -1.0"),
        ([dict(GRID[0], gap=math.nan)], "the gap is nan"),
        ([{"lr": 0.1}], "row 0 has no 'batch_size'"),
    ],
)
def test_explorer_refuses_what_it_cannot_draw(rows: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        widgets.BoundExplorer(rows)


@pytest.mark.parametrize(
    ("x", "series", "sentence"),
    [
        ([1.0], {"s": [1.0]}, "two or more"),
        ([1.0, 2.0], {}, "there must be a series"),
        ([1.0, 2.0], {"s": [1.0, math.nan]}, "holds NaN"),
        ([1.0, 2.0], {"s": [1.0, 2.0, 3.0]}, "has shape (3,); sliders and x ask for (2,)"),
    ],
)
def test_curves_refuse_what_they_cannot_draw(x: list[float], series: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        widgets.Curves(x, series, x_label="x", y_label="y", title="t")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (64, "64"), (0.03, "0.03"), (-2.5, "−2.5"), (10000, "10000"), (1e9, "1 × 10⁹"), (2.5e-7, "2.5 × 10⁻⁷")],
)
def test_numbers_in_words(value: float, text: str) -> None:
    assert plain(value) == text


def test_widgets_and_figures_share_their_colours() -> None:
    css = (STATIC / "widget.css").read_text(encoding="utf-8")
    used = re.findall(r"--fi-\d: (#[0-9a-f]{6});", css)
    assert tuple(used[:5]) == plots.PALETTE
    brighter = [
        "#" + "".join(f"{min(255, round(1.4 * int(colour[i : i + 2], 16))):02x}" for i in (1, 3, 5))
        for colour in plots.PALETTE
    ]
    assert used[5:] == brighter


def test_widgets_and_figures_share_their_dashes() -> None:
    script = (STATIC / "widget.js").read_text(encoding="utf-8")
    listed = re.search(r"const DASHES = \[(.*?)\]", script)
    assert listed is not None
    assert [tuple(map(float, text.split())) for text in re.findall(r'"([^"]*)"', listed[1])] == list(plots.DASHES)
