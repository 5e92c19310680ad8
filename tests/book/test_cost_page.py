"""The cost page draws what the benchmark of the whole bound measured, and says so where it has not been run."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from helpers.experiments import library
from helpers.experiments.machinery.storage import sealed

PAGE = Path(__file__).resolve().parents[2] / "book" / "cost.ipynb"
GROWTH = {  # seconds in proportion to k, to n^2, not to d, and to the root of the number of lambdas
    "k": [{"k": k, "n": 4, "d": 100, "lambdas": 2, "seconds": 3.0 * k} for k in (2, 4, 8)],
    "n": [{"k": 2, "n": n, "d": 100, "lambdas": 2, "seconds": 0.01 * n**2} for n in (1000, 2000)],
    "width": [{"k": 2, "n": 4, "d": d, "lambdas": 2, "seconds": 5.0} for d in (100, 400)],
    "lambdas": [{"k": 2, "n": 4, "d": 100, "lambdas": m, "seconds": m**0.5} for m in (1, 4, 16)],
}
ORIGIN = {"date": "today", "device": "a device", "cores": 2, "python": "3", "libraries": {"torch": "2"}, "data": "x"}
BOUND = {"k": 4, "n": 8000, "epochs": 30, "lambdas": [1.0] * 8, "ratio": 0.25}
FOUND = {
    "origin": ORIGIN,
    "growth": GROWTH,
    "bound": {**BOUND, "seconds": {"training": 400.0, "bound": 100.0}},
}


def page(folder, monkeypatch):
    """What the cells of the page define when the book is this folder."""
    monkeypatch.setattr(library, "book", lambda: folder)
    names = {}
    for cell in json.loads(PAGE.read_text())["cells"]:
        if cell["cell_type"] == "code" and "remove-cell" not in cell["metadata"].get("tags", []):
            exec("".join(cell["source"]), names)
    return names


@pytest.fixture
def measured(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "bench-bound.json").write_text(json.dumps(sealed(FOUND)))
    yield page(tmp_path, monkeypatch)
    plt.close("all")


def test_the_growth_of_the_bound_is_a_table_with_its_exponents(measured):
    rows = list(measured["whole_rows"](measured["whole"]))
    assert [row[-1] for row in rows] == ["1.00", "2.00", "0.00", "0.50"]
    assert rows[1][1:3] == ["1,000 to 2,000", "10000 to 40000"]
    assert measured["exponent"](GROWTH["k"][:1], "k") is None


def test_the_growth_of_the_bound_is_drawn_point_by_point(measured):
    plt.close("all")
    measured["draw_whole"](measured["whole"])
    for ax, axis, key in zip(plt.gcf().axes, GROWTH, ("k", "n", "d", "lambdas"), strict=True):
        (line,) = ax.lines
        assert list(line.get_xdata()) == [point[key] for point in GROWTH[axis]]
        assert list(line.get_ydata()) == [point["seconds"] for point in GROWTH[axis]]


def test_the_bound_stands_beside_its_training(measured):
    text = measured["beside_training"](measured["whole"])
    assert "4 runs of 8,000 examples each, 30 epochs of training take 400 seconds" in text
    assert "8 values of λ takes 100: 0.25 of the training" in text


def test_what_was_not_measured_is_said_to_be_missing(tmp_path, monkeypatch):
    names = page(tmp_path, monkeypatch)
    assert names["whole"] is None
    assert "make bench" in names["MISSING"]


def test_what_a_measurement_says_is_text(measured):
    """A file that was made elsewhere cannot put markup into the page."""
    slip = "<img src=x onerror=alert(1)> | cell"
    assert "<img" not in measured["origin"]({**FOUND, "origin": {**ORIGIN, "device": slip}})
    row = measured["table"](["head"], [[slip]]).splitlines()[-1]
    assert "<img" not in row
    assert row.count("|") == 2
