"""An artefact takes the fingerprint of newer code if, and only if, its rows come out the same."""

from dataclasses import replace

import pytest
import toy
from toy import SQUARES, Squares

from helpers.experiments.machinery import restamp as restamping
from helpers.experiments.machinery import runner, worker
from helpers.experiments.machinery.artefact import load
from helpers.experiments.machinery.restamp import restamp
from helpers.experiments.machinery.runner import RowError
from helpers.experiments.machinery.storage import ArtefactError

NAME = "squares.smoke.json"


@pytest.fixture
def old(tmp_path):
    """A complete artefact whose code is called "old"; its cheapest row is x = 2, seed = 1."""
    made = runner.run(SQUARES, "smoke", Squares(), out=tmp_path, quiet=True)
    made.provenance["code"] = "old"
    made.provenance["seconds_by_row"] = [5.0, 4.0, 3.0, 6.0, 7.0, 8.0, 9.0, 1.0, None, 2.0]
    made.save(tmp_path / NAME)
    return tmp_path / NAME


def changed(change=lambda y: y, calls=None, **more):
    """The experiments, with a row that comes out differently; ``calls`` collects the points that are computed."""

    def row(config, point):
        if calls is not None:
            calls.append((point["x"], point["seed"]))
        measured = toy.row(config, point)
        return {**measured, "y": change(measured["y"]), **more}

    row.__module__ = toy.row.__module__
    return {"squares": replace(SQUARES, row=row)}


def test_rows_that_agree_give_the_artefact_the_code_of_now(old):
    calls, rows = [], load(old).rows
    assert restamp(old, changed(calls=calls)) == "restamped, 1 of 10 rows agree to a relative difference of 0"
    assert calls == [(2, 1)]
    made = load(old)
    assert made.provenance["code"] == SQUARES.code
    assert made.rows == rows
    (note,) = made.provenance["restamped"]
    assert note.pop("at").endswith("+00:00")
    assert note == {"from": "old", "to": SQUARES.code, "rows_checked": 1, "largest_relative_difference": 0.0}
    assert restamp(old, changed(calls=calls)) == "current, nothing to do"
    assert len(calls) == 1


def test_the_cheapest_rows_are_computed_first_and_those_of_unknown_cost_last(old):
    calls = []
    restamp(old, changed(calls=calls), rows=4)
    assert calls == [(2, 1), (4, 1), (2, 0), (1, 0)]
    made = load(old)
    made.provenance |= {"code": "old"}
    made.provenance.pop("seconds_by_row")  # as in artefacts of earlier versions
    made.save(old)
    restamp(old, changed(calls=calls), rows=2)
    assert calls[4:] == [(0, 0), (1, 0)]
    made.save(old)
    assert restamp(old, changed(calls=calls), rows=99).startswith("restamped, 10 of 10 rows")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y + 1, r"in row x=2, seed=1 y was 5.0 and is 6.0; run it again with --fresh"),
        (lambda y: y * (1 + 1e-15), r"y was 5.0 and is 5.0000000000000"),
        (lambda y: int(y), "y was 5.0 and is 5"),
        (lambda y: str(y), "y was 5.0 and is '5.0'"),
        (lambda y: float("nan"), "y was 5.0 and is nan"),
        (lambda y: [y], r"y was 5.0 and is \[5.0\]"),
    ],
)
def test_a_number_that_differs_is_named_and_the_artefact_stays(old, change, message):
    before = old.read_bytes()
    with pytest.raises(ArtefactError, match=message):
        restamp(old, changed(change))
    assert old.read_bytes() == before


def test_rows_with_other_entries_differ(old):
    with pytest.raises(ArtefactError, match="the row was"):
        restamp(old, changed(z=1))


def test_times_are_no_results(old):
    made = load(old)
    made.rows = [{**row, "seconds": 1.0} for row in made.rows]
    made.save(old)
    assert restamp(old, changed(seconds=2.0)).startswith("restamped")


@pytest.mark.parametrize("place", ["device", "libraries"])
def test_another_machine_may_differ_by_a_millionth(old, monkeypatch, place):
    here = worker.environment()
    monkeypatch.setattr(
        worker, "environment", lambda *_: {**here, place: {"torch": "9"} if place == "libraries" else "far"}
    )
    with pytest.raises(ArtefactError, match="y was"):
        restamp(old, changed(lambda y: y * (1 + 2e-6)))
    assert "relative difference of 5e-07" in restamp(old, changed(lambda y: y * (1 + 5e-7)))
    assert load(old).provenance["restamped"][0]["largest_relative_difference"] == pytest.approx(5e-7, rel=1e-3)


def test_a_tolerance_that_is_asked_for_counts(old):
    with pytest.raises(ArtefactError, match="y was"):
        restamp(old, changed(lambda y: y * 1.01), rtol=1e-3)
    assert restamp(old, changed(lambda y: y * 1.01), rtol=0.1).startswith("restamped")


def test_nothing_to_compare_and_rows_that_fail_are_one_sentence(old):
    def failing(y):
        raise ValueError("no data")

    with pytest.raises(RowError, match=r"row x=2, seed=1 of squares\.smoke failed: no data"):
        restamp(old, changed(failing))
    made = load(old)
    made.rows = [None] * 10
    made.save(old)
    with pytest.raises(ArtefactError, match="has no row to compare"):
        restamp(old, changed())
    with pytest.raises(ArtefactError, match="unknown experiment"):
        restamp(old, {})


def test_infinity_and_nan_are_equal_to_themselves():
    assert restamping._relative(float("inf"), float("inf")) == 0
    assert restamping._relative(float("nan"), float("nan")) == 0
    assert restamping._relative(0.0, 0.0) == 0
    assert restamping._relative(0.0, 1e-300) == 1
    assert restamping._relative(True, 1) == float("inf")
    assert restamping._relative(1.0, float("inf")) == float("inf")
