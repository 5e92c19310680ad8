import errno
import io
import multiprocessing
import signal
import sys
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from math import inf, nan

import pytest
import torch
import toy
from toy import SQUARES, Squares

from helpers.data import DataError
from helpers.experiments.machinery import runner, worker
from helpers.experiments.machinery.artefact import load
from helpers.experiments.machinery.config import ConfigError
from helpers.experiments.machinery.provenance import provenance as real_provenance
from helpers.experiments.machinery.runner import RowError
from helpers.experiments.machinery.storage import ArtefactError

FORK = multiprocessing.get_context("fork")
NAME = "squares.smoke.json"


def run(out, config=None, **changes):
    return runner.run(SQUARES, "smoke", config or Squares(), out=out, quiet=True, **changes)


def test_a_run_fills_the_grid_in_order_and_can_be_read_back(tmp_path):
    made = run(tmp_path)
    found = load(tmp_path / NAME)
    assert found.rows == made.rows
    assert [row["x"] for row in found.rows] == [0, 1, 2, 3, 4] * 2
    assert [row["y"] for row in found.rows] == [0, 1, 4, 9, 16, 1, 2, 5, 10, 17]
    assert found.rows[0]["worker"] == inf
    assert found.complete
    assert found.config == Squares().as_json()
    assert found.provenance["seconds"] >= 0
    assert found.provenance["peak_memory_bytes"] > 0
    assert sorted(p.name for p in tmp_path.iterdir()) == [f".{NAME}.lock", NAME]


def test_any_executor_gives_the_same_rows(tmp_path):
    alone = run(tmp_path / "alone")
    with ThreadPoolExecutor(3) as pool:
        together = run(tmp_path / "together", executor=pool, in_flight=5)
    assert alone.rows == together.rows


def test_a_budget_stops_between_rows_and_a_second_run_goes_on(tmp_path):
    assert run(tmp_path, budget=0.0).finished == []
    config = Squares(pause=0.01)
    part = run(tmp_path, config, budget=0.03)
    assert 0 < len(part.finished) < 10
    whole = run(tmp_path, config)
    assert whole.complete
    assert whole.rows[: len(part.finished)] == part.finished


def test_a_finished_run_computes_nothing_again(tmp_path):
    run(tmp_path)
    before = (tmp_path / NAME).read_bytes()
    experiment = runner.Experiment("squares", "", SQUARES.profiles, toy.points, fail, SQUARES.edition)
    runner.run(experiment, "smoke", Squares(), out=tmp_path, quiet=True)
    assert (tmp_path / NAME).read_bytes() == before


def fail(config, point):
    raise ArtefactError("no row is computed twice")


def failing(error, at=2):
    """The toy experiment with a row that raises."""

    def row(config, point):
        if point["x"] == at:
            raise error
        return toy.row(config, point)

    row.__module__ = toy.row.__module__  # the same code to the engine, so that the run can be resumed
    return replace(SQUARES, row=row)


FORESEEN = [
    (ValueError("x is two"), "failed: x is two"),
    (DataError("train.parquet is missing"), "failed: train.parquet is missing"),
    (MemoryError(), "ran out of memory; lower one of count"),
    (torch.OutOfMemoryError("CUDA out of memory"), "ran out of memory; lower one of count"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "ran out of memory; lower one of count"),
    (ModuleNotFoundError("No module named 'helpers'"), "met a cluster with other packages; install this version"),
    (RuntimeError("Error during deserialization of the task graph.\nThis"), "met a cluster with other packages"),
    (BrokenProcessPool("a process died"), "was lost with its worker .*run the same command again to resume"),
]


@pytest.mark.parametrize(("error", "message"), FORESEEN)
def test_a_row_that_fails_for_a_foreseen_reason_is_one_sentence_and_leaves_the_finished_ones(
    tmp_path, monkeypatch, error, message
):
    monkeypatch.setattr(Squares, "memory", ("count",))
    with pytest.raises(RowError, match=f"row x=2, seed=0 of squares.smoke {message}") as caught:
        runner.run(failing(error), "smoke", Squares(), out=tmp_path, quiet=True)
    assert "\n" not in str(caught.value)
    assert len(load(tmp_path / NAME).finished) == 2
    assert run(tmp_path).rows == run(tmp_path / "whole").rows


def test_an_unforeseen_failure_is_raised_as_it_is_with_a_note_of_the_row(tmp_path):
    with pytest.raises(ZeroDivisionError) as caught:
        runner.run(failing(ZeroDivisionError()), "smoke", Squares(), out=tmp_path, quiet=True)
    assert caught.value.__notes__ == ["in row x=2, seed=0 of squares.smoke; finished rows are saved"]


def test_a_failing_row_does_not_lose_those_in_flight(tmp_path):
    """Row 0 fails at once while rows 1 to 4 are on their way; they are waited for, and no other is started."""

    def slow(config, point):
        if point["x"] == 0:
            raise ValueError("at once")
        time.sleep(0.2)
        return toy.row(config, point)

    experiment = runner.Experiment("squares", "", SQUARES.profiles, toy.points, slow, SQUARES.edition)
    with ThreadPoolExecutor(5) as pool, pytest.raises(RowError, match="at once"):
        runner.run(experiment, "smoke", Squares(), out=tmp_path, executor=pool, in_flight=5, quiet=True)
    assert [row["x"] for row in load(tmp_path / NAME).finished] == [1, 2, 3, 4]


def test_a_process_pool_whose_worker_dies_is_one_sentence_and_resumes(tmp_path):
    marker = tmp_path / "died"
    config = Squares(name=str(marker))
    with ProcessPoolExecutor(2, mp_context=FORK) as pool, pytest.raises(RowError, match="was lost with its worker"):
        runner.run(toy.DEADLY, "smoke", config, out=tmp_path, executor=pool, in_flight=2, quiet=True)
    assert marker.exists()
    with ProcessPoolExecutor(2, mp_context=FORK) as pool:
        made = runner.run(toy.DEADLY, "smoke", config, out=tmp_path, executor=pool, in_flight=2, quiet=True)
    assert [row["y"] for row in made.rows] == [row["y"] for row in run(tmp_path / "whole").rows]


def test_a_worker_with_another_version_of_the_code_is_refused(tmp_path, monkeypatch):
    other = replace(runner.compute(toy.row, Squares(), {"x": 0, "seed": 0}), code="another")
    monkeypatch.setattr(runner, "compute", lambda row, config, point, threads, kept: other)
    with pytest.raises(RowError, match="runs another version of the code"):
        run(tmp_path)
    assert not (tmp_path / NAME).exists()


def test_provenance_adds_up_over_runs_and_names_every_device(tmp_path, monkeypatch):
    assert run(tmp_path, budget=0.0, config=Squares(pause=0.02)).provenance["resumed"] == []
    for budget in (0.03, 0.03):
        run(tmp_path, config=Squares(pause=0.02), budget=budget)
    half = load(tmp_path / NAME)
    real = worker.environment()
    elsewhere = {**real, "device": "Another device", "python": "3.99", "commit": "abc"}
    monkeypatch.setattr(worker, "environment", lambda *_: elsewhere)
    whole = run(tmp_path, config=Squares(pause=0.02))
    origin = whole.provenance
    assert origin["device"] == f"{half.provenance['device']} + Another device"
    assert (origin["python"], origin["commit"]) == (real["python"], real["commit"])
    assert origin["others"] == [{"device": "Another device", "python": "3.99", "commit": "abc"}]
    assert origin["seconds"] >= 0.2
    assert origin["row_seconds"] >= 0.2
    assert min(origin["seconds_by_row"]) >= 0.02
    assert sum(origin["seconds_by_row"]) == pytest.approx(origin["row_seconds"], abs=0.02)
    assert len(origin["resumed"]) == 2
    assert half.provenance["seconds"] < origin["seconds"]


def test_provenance_is_that_of_the_process_that_computes(tmp_path, monkeypatch):
    """Not of the one that hands rows out, which may have other libraries."""
    elsewhere = {"commit": "abc", "device": "Far away", "processors": 64, "libraries": {"torch": "9"}, "python": "3.99"}
    monkeypatch.setattr(worker, "environment", lambda *_: elsewhere)
    origin = run(tmp_path).provenance
    assert {key: origin[key] for key in elsewhere} == elsewhere
    assert origin["others"] == []


def test_another_config_does_not_overwrite(tmp_path):
    run(tmp_path)
    with pytest.raises(ArtefactError, match="holds another config; choose another --out"):
        run(tmp_path, Squares(power=3.0))


def test_rows_of_two_versions_of_the_code_are_not_mixed(tmp_path, monkeypatch):
    run(tmp_path, Squares(pause=0.01), budget=0.02)
    monkeypatch.setattr(runner, "code_fingerprint", lambda module: "another")
    with pytest.raises(ArtefactError, match="begun by another version of the code"):
        run(tmp_path, Squares(pause=0.01))


def in_a_process(out, config):
    """A run in a process of its own, forked, so that it need not import anything."""
    process = FORK.Process(target=run, args=(out, config))
    process.start()
    deadline = time.monotonic() + 60
    while not (out / NAME).exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    return process


@pytest.mark.parametrize("attempt", range(20))
def test_killed_at_any_moment_it_resumes_and_ends_with_the_same_rows(tmp_path, attempt):
    """kill -9 after a delay that sweeps the run; then run again."""
    config = Squares(pause=0.01)
    expected = run(tmp_path / "whole", Squares()).rows
    process = in_a_process(tmp_path, config)
    time.sleep(0.006 * attempt)
    process.kill()
    process.join()
    assert process.exitcode in (-signal.SIGKILL, 0)
    if (tmp_path / NAME).exists():
        assert load(tmp_path / NAME).finished  # whole at every moment, and never without a row
    assert run(tmp_path, config).rows == expected
    assert sorted(p.name for p in tmp_path.iterdir()) == [f".{NAME}.lock", NAME, "whole"]


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "Upper", "x.y", "x\n"])
def test_names_cannot_leave_the_folder(tmp_path, name):
    for pair in ((name, "smoke"), ("squares", name)):
        with pytest.raises(ConfigError, match="cannot name an artefact"):
            runner.artefact_path(tmp_path, *pair)


def test_two_writers_at_once_one_is_sent_away(tmp_path):
    started, finish = threading.Event(), threading.Event()

    def slow(config, point):
        started.set()
        finish.wait(10)
        return toy.row(config, point)

    held = runner.Experiment("squares", "", SQUARES.profiles, toy.points, slow, SQUARES.edition)
    thread = threading.Thread(target=lambda: runner.run(held, "smoke", Squares(), out=tmp_path, quiet=True))
    thread.start()
    started.wait(10)
    with pytest.raises(ArtefactError, match="another run is writing"):
        run(tmp_path)
    finish.set()
    thread.join()
    assert load(tmp_path / NAME).complete


# --- what a failed or foolish run leaves behind ---


def test_a_run_that_fails_before_its_first_row_leaves_no_file(tmp_path):
    with pytest.raises(RowError, match="failed: x is zero"):
        runner.run(failing(ValueError("x is zero"), at=0), "smoke", Squares(), out=tmp_path, quiet=True)
    assert [p.name for p in tmp_path.iterdir()] == [f".{NAME}.lock"]


def test_a_file_without_rows_does_not_block_another_config(tmp_path):
    empty = run(tmp_path)
    empty.rows = [None] * len(empty.rows)
    empty.save(tmp_path / NAME)
    assert run(tmp_path, Squares(power=3.0)).complete


@pytest.mark.parametrize(
    ("setting", "value"),
    [("in_flight", 0), ("in_flight", -1), ("in_flight", 1.5), ("threads", 0), ("budget", nan), ("budget", -1.0)],
)
def test_settings_of_the_engine_that_make_no_sense_are_refused(tmp_path, setting, value):
    with pytest.raises(ConfigError, match=f"{setting} must be a .*, got {value}"):
        run(tmp_path, **{setting: value})
    assert not list(tmp_path.iterdir())


# --- rows that have no numbers ---


class ZeroCurvature(ValueError):
    degenerate = True


@pytest.mark.parametrize("error", [ZeroCurvature("zero curvature")])
def test_a_degenerate_row_is_a_row_that_says_so(tmp_path, error):
    made = runner.run(failing(error), "smoke", Squares(), out=tmp_path, quiet=True)
    assert made.complete
    assert [row["x"] for row in made.rows if "status" in row] == [2, 2]
    assert made.rows[2] == {"x": 2, "seed": 0, "status": "degenerate: zero curvature"}
    assert made.rows[3] == run(tmp_path / "whole").rows[3]


# --- a complete artefact and newer code ---


def coded(value, name="squares"):
    """The toy experiment whose code gives another value."""

    def row(config, point):
        if value is None:
            raise ValueError("no value")
        return {"y": value}

    row.__module__ = f"code that gives {value}"
    return replace(SQUARES, row=row)


def test_a_fresh_run_takes_the_place_of_the_old_one_only_when_it_is_complete(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "code_fingerprint", lambda module: module)
    monkeypatch.setattr(runner, "provenance", lambda edition, module: {**run_origin, "code": module})
    monkeypatch.setattr(worker, "code_fingerprint", lambda module: module)
    run_origin = real_provenance("none", "toy")
    one, two = coded(1), coded(2)
    runner.run(one, "smoke", Squares(), out=tmp_path, quiet=True)
    before = (tmp_path / NAME).read_bytes()
    assert runner.run(two, "smoke", Squares(), out=tmp_path, quiet=True).rows[0]["y"] == 1  # left as it is
    slow = replace(two, row=slowed(two.row, 0.01))
    part = runner.run(slow, "smoke", Squares(), out=tmp_path, quiet=True, fresh=True, budget=0.03)
    assert 0 < len(part.finished) < 10
    assert (tmp_path / NAME).read_bytes() == before
    whole = runner.run(two, "smoke", Squares(), out=tmp_path, quiet=True, fresh=True)
    assert len(whole.provenance["resumed"]) == 1
    assert {row["y"] for row in load(tmp_path / NAME).rows} == {2}
    assert sorted(p.name for p in tmp_path.iterdir()) == [f".{NAME}.lock", NAME]


def slowed(row, seconds):
    def later(config, point):
        time.sleep(seconds)
        return row(config, point)

    later.__module__ = row.__module__
    return later


# --- threads ---


def threads_row(config, point):
    return {"y": torch.get_num_threads()}


COUNTED = replace(SQUARES, row=threads_row)


def test_a_row_has_one_thread_unless_it_is_asked_for_more(tmp_path):
    torch.set_num_threads(2)
    try:
        for threads, expected in ((None, 1), (3, 3)):
            for pool in (None, ThreadPoolExecutor(3)):
                out = tmp_path / f"{threads} {pool is None}"
                made = runner.run(
                    COUNTED, "smoke", Squares(), out=out, executor=pool, in_flight=3, threads=threads, quiet=True
                )
                assert {row["y"] for row in made.rows} == {expected}
                assert made.provenance["threads"] == expected
                assert f"{expected} thread" in made.provenance["device"]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_a_run_goes_on_with_the_threads_that_it_was_begun_with(tmp_path):
    config = Squares(pause=0.01)
    run(tmp_path, config, threads=2, budget=0.02)
    with pytest.raises(ArtefactError, match="begun with 2 threads a row; go on with --threads 2"):
        run(tmp_path, config, threads=1)
    assert run(tmp_path, config).provenance["threads"] == 2


@pytest.mark.parametrize(("asked", "taken"), [(None, 1), (3, 3)])
def test_a_run_that_says_nothing_of_its_threads_goes_on_with_those_that_are_asked_for(tmp_path, asked, taken):
    config = Squares(pause=0.01)
    begun = run(tmp_path, config, budget=0.02)
    path = tmp_path / begun.file_name
    silent = load(path)
    del silent.provenance["threads"]
    silent.save(path)
    assert run(tmp_path, config, threads=asked).provenance["threads"] == taken


# --- what a run does not depend on ---


class Broken:
    """A stream that takes nothing, like a closed or full one."""

    def __init__(self, error):
        self.error = error

    def write(self, text):
        raise self.error

    def flush(self):
        raise self.error


@pytest.mark.parametrize("stream", [None, Broken(OSError(errno.ENOSPC, "full")), Broken(ValueError("closed"))])
def test_a_bar_that_cannot_be_drawn_is_dropped(tmp_path, monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    assert runner.run(SQUARES, "smoke", Squares(), out=tmp_path).complete


def test_a_bar_that_breaks_on_the_way_is_dropped(tmp_path, monkeypatch):
    class Late(io.StringIO):
        def write(self, text):
            if "3/10" in text:
                raise BrokenPipeError
            return super().write(text)

    stream = Late()
    monkeypatch.setattr(sys, "stderr", stream)
    assert runner.run(SQUARES, "smoke", Squares(pause=0.15, count=5), out=tmp_path).complete
    assert "2/10" in stream.getvalue()
    assert "4/10" not in stream.getvalue()


class Forsaken(ThreadPoolExecutor):
    """Takes rows and never computes one."""

    looks = 0

    def submit(self, fn, /, *arguments, **keywords):
        return Future()

    def forsaken(self):
        self.looks += 1
        return self.looks > 2


def test_a_run_stops_when_nobody_is_left_to_compute(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "SECONDS_BETWEEN_LOOKS", 0.01)
    pool = Forsaken()
    with pytest.raises(
        RowError, match=r"all workers are gone with 3 rows of .*; finished rows are saved, start workers"
    ):
        run(tmp_path, executor=pool, in_flight=3)
    assert pool.looks == 3
