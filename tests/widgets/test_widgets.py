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
from helpers.widgets.chart import STATIC, Chart, plain, rounded

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

WALK = np.array([[0.0, 0.0], [1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])


def family() -> list[Chart]:
    """One widget of each kind."""
    x = np.array([1.0, 2.0, 4.0])
    curves = widgets.Curves(
        x, {"error": lambda s: s / x}, {"noise": [1, 2]}, x_label="n", y_label="loss", title="Error", slide_x="n"
    )
    return [widgets.LambdaPath(PATH, gap=(2.9, 0.1)), widgets.BoundExplorer(GRID), curves, plane(play=True)]


def plane(**changes: Any) -> widgets.Plane:
    """A path of four points beside two ghosts, over three noises, on the contours of a bowl."""
    options: dict[str, Any] = {
        "paths": {"SGD": WALK, "ghosts": lambda noise: WALK + noise * np.array([[[0.0, 1.0]], [[1.0, 0.0]]])},
        "points": {"minimum": np.zeros((1, 2))},
        "along": {"step": range(4)},
        "readings": {"spread": lambda noise: noise * np.arange(4.0)},
        "x_label": "x",
        "y_label": "y",
        "title": "A ghost beside SGD",
    }
    sliders = changes.pop("sliders", {"noise": [1.0, 2.0, 3.0]})
    return widgets.Plane(sliders, **(options | changes))


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


def test_marks_and_readings_have_one_number_for_each_choice_of_the_sliders() -> None:
    x, common = np.array([1.0, 2.0]), {"x_label": "x", "y_label": "y", "title": "t", "slide_x": "x"}
    sliders = {"a": [1.0, 2.0, 3.0], "b": [10.0, 20.0]}
    live = widgets.Curves(
        x, {"s": x[None, None] * np.ones((3, 2, 1))}, sliders, marks={"best": lambda a, b: a / b},
        readings={"ratio": np.arange(6.0).reshape(3, 2)}, **common,
    )  # fmt: skip
    assert live.chart["marks"] == {"best": [0.1, 0.05, 0.2, 0.1, 0.3, 0.15]}
    assert live.chart["readings"] == {"ratio": [0, 1, 2, 3, 4, 5]}
    shapes, finite = "has shape (6,); the sliders ask for (3, 2)", "not finite"
    for wrong, sentence in ((np.ones(6), shapes), (lambda a, b: math.inf, finite)):
        with pytest.raises(ValueError, match=re.escape(sentence)):
            widgets.Curves(x, {"s": lambda a, b: x}, sliders, marks={"best": wrong}, **common)


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


def test_a_plane_sends_each_path_once_if_the_sliders_do_not_move_it() -> None:
    chart = plane().chart
    assert chart["series"] == ["SGD", "ghosts", "minimum"]
    assert chart["kinds"] == ["path", "path", "points"]
    still, ghosts, minimum = chart["frames"][0]
    assert still == [[0, 0, 1, 10, 2, 20, 4, 40]]
    assert ghosts == [[0, 1, 1, 11, 2, 21, 4, 41], [1, 0, 2, 10, 3, 20, 5, 40]]
    assert minimum == [[0, 0]]
    moved = chart["frames"][2]
    assert moved[0] is None
    assert moved[2] is None
    assert moved[1][0] == [0, 3, 1, 13, 2, 23, 4, 43]
    assert chart["readings"] == {"spread": [[0, 1, 2, 3], [0, 2, 4, 6], [0, 3, 6, 9]]}


def test_lines_that_glow_are_named_by_their_place() -> None:
    chart = plane(lines={"floor": WALK, "wall": WALK + 1}, glow=["wall"]).chart
    assert [chart["series"][i] for i in chart["glow"]] == ["wall"]
    assert "glow" not in plane().chart


def test_a_plane_starts_at_the_end_of_its_paths_and_never_by_itself() -> None:
    widget = plane()
    assert widget.position == [1, 3]
    assert widget.chart["mark"] is True
    assert widget.chart["play"] is False
    assert [slider["text"] for slider in widget.chart["sliders"]] == [["1", "2", "3"], ["0", "1", "2", "3"]]


def test_arrays_and_functions_draw_the_same_plane() -> None:
    shifts = np.array([1.0, 2.0, 3.0])[:, None, None]
    live = plane(paths={"SGD": lambda noise: WALK + noise})
    stored = plane(paths={"SGD": WALK + shifts})
    assert live.chart == stored.chart
    many = plane(paths={"SGD": (WALK + shifts)[:, None]})
    assert many.chart == live.chart


def test_the_frame_of_a_plane_holds_every_position_and_the_grid_if_there_is_one() -> None:
    low, high = plane().chart["y"]["range"]
    assert (low, high) == pytest.approx((-0.06 * 43, 43 + 0.06 * 43), rel=1e-5)
    grid = np.linspace(-1, 1, 81)
    contoured = plane(contours=(grid, 2 * grid, lambda x, y: x**2 + y**2), levels=[0.25, 9.0])
    assert contoured.chart["x"]["range"] == [-1, 1]
    assert contoured.chart["y"]["range"] == [-2, 2]
    assert plane(x_limits=(0, 2)).chart["x"]["range"] == [0, 2]
    near, far = contoured.chart["contours"]
    assert (near["level"], far["level"], far["lines"]) == (0.25, 9.0, [])
    line = np.array(near["lines"][0]).reshape(-1, 2)
    assert np.hypot(*line.T) == pytest.approx(0.5, abs=2e-3)  # linear interpolation


def test_coordinates_far_from_zero_keep_what_can_be_seen() -> None:
    x = 1e6 + np.array([0.0, 0.25, 1.0])
    chart = widgets.Plane(paths={"p": np.stack([x, x], 1)}, x_label="x", y_label="y", title="t").chart
    assert np.array(chart["frames"][0][0][0][::2]) - 1e6 == pytest.approx([0, 0.25, 1], abs=2e-4)


def test_the_table_of_a_plane_shows_its_readings_and_points() -> None:
    head, rows = plane()._table()
    assert head == ["point (at noise = 2)", "x", "y"]
    assert rows[0] == ["spread", "6", ""]
    assert rows[4] == ["SGD, 4", "4", "40"]
    assert rows[5] == ["ghosts, 1", "0", "2"]
    assert rows[-1] == ["minimum, 1", "0", "0"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"paths": None, "points": None}, "there must be something to draw"),
        ({"sliders": {"noise": []}}, "a value for every slider"),
        ({"paths": {"SGD": WALK[:3]}}, "path 'SGD' must have 4 points"),
        ({"paths": {"SGD": WALK[None]}}, "has shape (1, 4, 2); sliders ask for (3,)"),
        ({"paths": {"SGD": WALK[:, :1]}}, "must hold points of the plane"),
        ({"paths": {"SGD": WALK * math.nan}}, "path 'SGD' holds a value that is not finite"),
        ({"points": {"SGD": WALK}}, "two series have the same name"),
        ({"lines": dict.fromkeys("abc", WALK)}, "more than five series"),
        ({"regions": dict.fromkeys("ab", WALK), "lines": {"c": WALK}}, "more than five series"),
        ({"along": {"step": range(4), "t": range(4)}}, "along takes one slider"),
        ({"paths": None, "along": {"step": range(4)}}, "paths that it runs along"),
        ({"sliders": {}, "along": None, "paths": None, "readings": None, "play": True}, "needs a slider to move"),
        ({"x_log": True, "equal": True}, "units cannot be equal"),
        ({"x_log": True}, "a logarithmic axis 'x' needs values above 0"),
        ({"glow": ["SGD"]}, "glow must name lines of this plane, not 'SGD'"),
        ({"x_limits": (1, 0)}, "limits of 'x' must be finite and in order"),
        ({"readings": {"spread": np.zeros(2)}}, "reading 'spread' has shape (2,)"),
        ({"readings": {"spread": lambda noise: math.nan}}, "reading 'spread' holds NaN"),
        ({"contours": ([0, 1], [0, 1], np.zeros((2, 3)))}, "finite heights of shape (2, 2)"),
        ({"contours": ([1, 0], [0, 1], np.zeros((2, 2)))}, "must increase along x and along y"),
    ],
)
def test_a_plane_refuses_what_it_cannot_draw(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        plane(**changes)


def test_a_gap_has_two_standard_errors_on_either_side() -> None:
    assert widgets.LambdaPath(PATH, gap=(3.0, 0.5)).chart["gap"] == [3.0, 2.0, 4.0]
    explorer = widgets.BoundExplorer([dict(row, gap_standard_error=0.1) for row in GRID])
    assert explorer.chart["gaps"] == [[0.5, 0.3, 0.7]] * len(GRID)


def test_long_tables_are_thinned_from_end_to_end_and_not_cut_off() -> None:
    x = np.arange(1.0, 101.0)
    curves = widgets.Curves(x, {"line": x}, x_label="n", y_label="loss", title="Long")
    _, rows = curves._table()
    assert [row[0] for row in rows] == [plain(v) for v in x[::5]]
    many = [dict(GRID[0], batch_size=b) for b in range(1, 61)]
    _, rows = widgets.BoundExplorer(many)._table()
    assert [row[0] for row in rows] == [plain(b) for b in range(1, 61, 3)]


def test_a_gap_without_an_error_has_none() -> None:
    assert widgets.LambdaPath(PATH, gap=2.9).chart["gap"] == [2.9, 2.9, 2.9]


def test_notes_say_when_the_noise_is_above_the_weights() -> None:
    rows = [dict(row, noise_to_weight=ratio) for row, ratio in zip(PATH, (0.5, 1.0, 1.5, 30.0), strict=True)]
    larger = ["larger than the weights" in note for note in widgets.LambdaPath(rows).chart["notes"]]
    assert larger == [False, False, True, True]


def test_a_plane_says_what_it_shows_unless_told() -> None:
    assert plane().chart["description"]
    assert plane(description="Two ways down.").chart["description"] == "Two ways down."


@pytest.mark.parametrize("short", [0, 1])
def test_every_path_of_a_plane_has_a_point_for_each_stop(short: int) -> None:
    walks = [WALK[:-1] if i == short else WALK for i in range(2)]
    with pytest.raises(ValueError, match=f"path '{short}' must have 4 points"):
        plane(paths={str(i): walk for i, walk in enumerate(walks)}, readings=None)


# --- What mutants told apart ------------------------------------------------------------------------------------------


def dots(points: Any, **changes: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"x_label": "x", "y_label": "y", "title": "t", **changes}
    chart: dict[str, Any] = widgets.Plane(points={"p": np.asarray(points, dtype=float)}, **options).chart
    return chart


def test_a_single_point_has_room_around_it() -> None:
    """A margin of 6% of its size, of 1 at zero, and a factor of 2 on a logarithmic axis."""
    assert dots([[0.0, 50.0]])["x"]["range"] == pytest.approx([-0.06, 0.06])
    assert dots([[0.0, 50.0]])["y"]["range"] == pytest.approx([47, 53])
    assert dots([[3.0, 1.0]], x_log=True)["x"]["range"] == pytest.approx([1.5, 6])
    wide = dots([[1.0, 1.0], [100.0, 1.0]], x_log=True)["x"]["range"]
    assert wide == pytest.approx([100**-0.06, 100**1.06])


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_a_logarithmic_axis_does_not_begin_at_zero(low: float) -> None:
    with pytest.raises(ValueError, match="a logarithmic axis 'x' needs values above 0"):
        dots([[1.0, 1.0]], x_log=True, x_limits=(low, 2.0))


def test_coordinates_are_rounded_by_the_width_of_the_axis_and_not_more() -> None:
    """Visible at any scale: of 0 to 1000 a thousandth, of 0 to 0.001 a millionth of that."""
    for scale in (1e3, 1.0, 1e-3):
        sent = dots(scale * np.array([[0.0, 0.0], [0.123456789, 0.0], [1.0, 1.0]]))["frames"][0][0]
        values = np.ravel(sent)
        x = values[np.argmin(np.abs(values - 0.123456789 * scale))]
        assert 0 < abs(x - 0.123456789 * scale) < 1e-3 * scale


def test_two_regions_are_the_most() -> None:
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    options: dict[str, Any] = {"x_label": "x", "y_label": "y", "title": "t"}
    assert widgets.Plane(regions=dict.fromkeys("ab", square), **options).chart["kinds"] == ["region", "region"]
    with pytest.raises(ValueError, match="or two regions, cannot be told apart"):
        widgets.Plane(regions=dict.fromkeys("abc", square), **options)


def test_heights_of_contours_are_all_finite_and_may_be_whole_numbers() -> None:
    with pytest.raises(ValueError, match="need finite heights"):
        dots([[0.5, 0.5]], contours=([0, 1], [0, 1], np.array([[0.0, math.nan], [1.0, 1.0]])))
    drawn = dots([[0.5, 0.5]], contours=([0, 1], [0, 1], [[0, 1], [0, 1]]), levels=[0.5])["contours"]
    assert drawn[0]["lines"] == [pytest.approx([0.5, 0.0, 0.5, 1.0])] or drawn[0]["lines"] == [
        pytest.approx([0.5, 1.0, 0.5, 0.0])
    ]
    assert [c["level"] for c in dots([[0, 0]], contours=([0, 1], [0, 1], [[0, 4], [0, 4]]), levels=3)["contours"]] == [
        1, 2, 3,
    ]  # fmt: skip


def test_readings_are_numbers_or_lists_along_the_path() -> None:
    """An array for every position and stop, one for every position, and one number where there is no slider."""
    rows = np.arange(12.0).reshape(3, 4)
    _, table = plane(readings={"r": rows})._table()
    assert table[0] == ["r", "7", ""]
    assert plane(readings={"r": np.array([1.0, 5.0, 9.0])})._table()[1][0] == ["r", "5", ""]
    with pytest.raises(ValueError, match=r"has shape \(12,\)"):
        plane(readings={"r": rows.ravel()})
    with pytest.raises(ValueError, match="holds NaN or minus infinity"):
        plane(readings={"r": np.where(rows == 5, -math.inf, rows)})


def test_the_vertical_axis_is_logarithmic_where_it_is_asked_for() -> None:
    assert widgets.BoundExplorer(GRID).log is False
    assert widgets.BoundExplorer(GRID, log=True).log is True
    x = [1.0, 2.0]
    options: dict[str, Any] = {"x_label": "x", "y_label": "y", "title": "t"}
    assert widgets.Curves(x, {"a": x}, **options).log is True
    assert widgets.Curves(x, {"a": x}, log=False, **options).log is False


def test_every_widget_describes_itself_in_words_of_its_own_or_the_callers() -> None:
    assert "hatched" in widgets.LambdaPath(PATH).chart["description"]
    assert widgets.LambdaPath(PATH, description="Mine.").chart["description"] == "Mine."
    assert "stacked" in widgets.BoundExplorer(GRID).chart["description"]
    assert widgets.BoundExplorer(GRID, description="Mine.").chart["description"] == "Mine."
    x = [1.0, 2.0]
    options: dict[str, Any] = {"x_label": "steps", "y_label": "y", "title": "t"}
    assert widgets.Curves(x, {"a": x, "b": x}, **options).chart["description"] == "a, b against steps."
    assert widgets.Curves(x, {"a": x}, description="Mine.", **options).chart["description"] == "Mine."


def test_rows_that_do_not_say_converged_are_drawn_as_they_are() -> None:
    rows = [{key: value for key, value in row.items() if key != "converged"} for row in PATH]
    assert widgets.LambdaPath(rows).chart["hollow"] == []
    assert widgets.LambdaPath(PATH).chart["hollow"] == [1]


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (-2.5, "−2.5"), (0.001, "0.001"), (0.000999, "9.99 × 10⁻⁴"), (-1e-5, "−1 × 10⁻⁵"), (12345.6, "12346"),
     (-12345.6, "−12346"), (99999, "99999"), (1e5, "1 × 10⁵"), (123456, "1.23 × 10⁵")],
)  # fmt: skip
def test_a_number_beside_a_slider(value: float, text: str) -> None:
    assert plain(value) == text


def test_a_slider_over_words_hands_them_on_and_shows_them() -> None:
    options: dict[str, Any] = {"x_label": "x", "y_label": "y", "title": "t"}
    heights = {"soft rank": 1.0, "trace": 2.0}
    choices = {"measure": list(heights), "rate": [0.1, 1e-5]}
    plane = widgets.Plane(choices, points={"p": lambda word, rate: [[rate, heights[word]]]}, **options)
    curves = widgets.Curves([1.0, 2.0], {"c": lambda word, rate: [rate, heights[word]]}, choices, **options)
    for widget in (plane, curves):
        texts = [slider["text"] for slider in widget.chart["sliders"]]
        assert texts == [["soft rank", "trace"], ["0.1", "1 × 10⁻⁵"]]
    assert plane.chart["frames"][2] == [[[0.1, 2.0]]]
    assert curves.chart["frames"][3] == [[1e-5, 2.0]]
    assert "measure = trace" in curves._repr_mimebundle_()[0]["text/html"]


def test_a_logarithmic_axis_reaches_as_far_down_as_it_is_told() -> None:
    options: dict[str, Any] = {"x_label": "x", "y_label": "y", "title": "t"}
    assert widgets.Curves([1.0, 2.0], {"c": [1e-9, 1.0]}, decades=10, **options).chart["y"]["decades"] == 10
    assert "decades" not in widgets.Curves([1.0, 2.0], {"c": [1e-9, 1.0]}, **options).chart["y"]


@pytest.mark.parametrize("bad", [math.nan, -math.inf, -1e308])
def test_one_value_that_cannot_be_drawn_is_enough(bad: float) -> None:
    options: dict[str, Any] = {"x_label": "x", "y_label": "y", "title": "t"}
    with pytest.raises(ValueError, match="holds NaN or minus infinity"):
        widgets.Curves([1.0, 2.0, 3.0], {"a": [1.0, bad, 2.0]}, **options)
    rows = np.ones((3, 4))
    rows[1, 2] = bad
    with pytest.raises(ValueError, match="reading 'r' holds NaN or minus infinity"):
        plane(readings={"r": rows})
    rows[1, 2] = math.inf
    assert widgets.Curves([1.0, 2.0], {"a": [1.0, math.inf]}, **options).chart["frames"] == [[[1.0, "inf"]]]


def test_the_table_of_a_plane_names_every_slider_but_the_one_along_the_path() -> None:
    sliders = {"noise": [1.0, 2.0], "seed": [3.0, 4.0]}
    paths = {"SGD": lambda noise, seed: noise * WALK + seed}
    head, _ = plane(sliders=sliders, paths=paths, readings=None)._table()
    assert head[0] == "point (at noise = 2, seed = 4)"


def test_what_is_too_large_or_too_small_to_draw_counts_as_infinite_or_nothing() -> None:
    options: dict[str, Any] = {"x_label": "x", "y_label": "y", "title": "t"}
    (frame,) = widgets.Curves([1.0, 2.0, 3.0], {"a": [1e308, 1e-323, 1e300]}, **options).chart["frames"]
    assert frame == [["inf", 0.0, 1e300]]
    assert rounded(-1e-310) == 0
    with pytest.raises(ValueError, match="of at most 1e300"):
        widgets.Curves([-1e308, 1e308], {"a": [1.0, 2.0]}, **options)
    with pytest.raises(ValueError, match="needs values above 0"):
        widgets.Curves([1e-323, 1.0], {"a": [1.0, 2.0]}, x_log=True, **options)
    with pytest.raises(ValueError, match="holds a value that is not finite"):
        plane(paths={"SGD": np.where(WALK.max() == WALK, 1e308, WALK)})
    with pytest.raises(ValueError, match="must be finite and in order"):
        plane(x_limits=(-1e308, 1e308))


def test_rounding_twice_is_rounding_once() -> None:
    """The page has four digits of a number and writes three."""
    for value in (0.29553, 0.29547, 1234.51, 0.1, -0.29553, 2.5e-7, 0.295501):
        assert f"{rounded(value):.3g}" == f"{value:.3g}"
    assert rounded(math.inf) == "inf"
