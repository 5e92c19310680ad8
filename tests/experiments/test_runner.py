import errno
import json
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from functools import cache
from math import inf
from pathlib import Path

import pytest
import torch
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import SQUARES, Squares

from helpers.data import DataError
from helpers.experiments.machinery import artefact as artefacts
from helpers.experiments.machinery import runner, verify
from helpers.experiments.machinery.artefact import ArtefactError, fingerprint, load, restored, storable
from helpers.experiments.machinery.config import ConfigError
from helpers.experiments.machinery.runner import RowError

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


def test_a_budget_stops_between_rows_and_a_second_run_goes_on(tmp_path, monkeypatch):
    assert run(tmp_path, budget=0.0).finished == []
    calls = []
    monkeypatch.setattr(toy, "row", lambda config, point: calls.append(point))
    part = run(tmp_path, Squares(pause=1e-9), budget=1e-9)
    assert not part.complete
    whole = run(tmp_path)
    assert whole.complete


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
    monkeypatch.setattr(runner, "SIZES", ("count",))
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
    monkeypatch.setattr(runner, "compute", lambda row, config, point: other)
    with pytest.raises(RowError, match="runs another version of the code"):
        run(tmp_path)
    assert load(tmp_path / NAME).finished == []


def test_provenance_adds_up_over_runs_and_names_every_device(tmp_path, monkeypatch):
    first = run(tmp_path, budget=1e-9, config=Squares(pause=0.02))
    assert len(first.finished) <= 1
    run(tmp_path, config=Squares(pause=0.02), budget=0.05)
    half = load(tmp_path / NAME)
    monkeypatch.setattr(runner, "device_name", lambda: "Another device")
    whole = run(tmp_path, config=Squares(pause=0.02))
    assert whole.provenance["device"] == f"{half.provenance['device']} + Another device"
    assert whole.provenance["seconds"] >= 0.2
    assert whole.provenance["row_seconds"] >= 0.2
    assert len(whole.provenance["resumed"]) == 2
    assert half.provenance["seconds"] < whole.provenance["seconds"]


def test_another_config_does_not_overwrite(tmp_path):
    run(tmp_path)
    with pytest.raises(ArtefactError, match="holds another config; choose another --out"):
        run(tmp_path, Squares(power=3.0))


def test_rows_of_two_versions_of_the_code_are_not_mixed(tmp_path, monkeypatch):
    run(tmp_path, budget=0.0)
    monkeypatch.setattr(runner, "code_fingerprint", lambda module: "another")
    with pytest.raises(ArtefactError, match="begun by another version of the code"):
        run(tmp_path)


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
    expected = run(tmp_path / "whole", config).rows
    process = in_a_process(tmp_path, config)
    time.sleep(0.006 * attempt)
    process.kill()
    process.join()
    assert process.exitcode in (-signal.SIGKILL, 0)
    load(tmp_path / NAME)  # whole at every moment
    assert run(tmp_path, config).rows == expected
    assert sorted(p.name for p in tmp_path.iterdir()) == [f".{NAME}.lock", NAME, "whole"]


def test_an_interrupt_while_saving_leaves_a_whole_artefact(tmp_path, monkeypatch):
    real = os.replace

    def interrupted(source, target):
        if json.loads(Path(source).read_text())["rows"][2] is not None:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(artefacts.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    monkeypatch.undo()
    assert len(load(tmp_path / NAME).finished) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == [f".{NAME}.lock", NAME]


def test_a_full_disk_loses_nothing_and_says_what_to_do(tmp_path, monkeypatch):
    real, saves = os.fsync, []

    def full(descriptor):
        saves.append(descriptor)
        if len(saves) > 6:  # two a row, of the file and of its folder
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(artefacts.os, "fsync", full)
    with pytest.raises(ArtefactError, match=r"could not be written \(No space left on device\).*make room"):
        run(tmp_path)
    monkeypatch.undo()
    assert len(load(tmp_path / NAME).finished) == 2
    assert not list(tmp_path.glob("*.tmp"))
    assert not list(tmp_path.glob(".*.tmp"))
    assert run(tmp_path).complete


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtefactError, match=r"cannot be written to .* choose another --out"):
        run(tmp_path / "file")


def test_a_read_only_folder_can_be_read_but_not_run_in(tmp_path, monkeypatch):
    run(tmp_path, budget=1e-9)

    def refused(self, *arguments, **keywords):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(ArtefactError, match=r"cannot be written to \(Permission denied\); choose another --out"):
        run(tmp_path)
    monkeypatch.undo()
    assert not load(tmp_path / NAME).complete


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


def edited(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["rows"][3].update(y=8), "was altered"),
        (lambda c: c["config"].update(power=3.0), "was altered"),
        (lambda c: c["provenance"].update(data="CIFAR-10"), "was altered"),
        (lambda c: c.update(digest="0" * 64), "was altered"),
        (lambda c: c.update(schema=0), "has schema 0, this version reads 1"),
        (lambda c: (c.clear(), c.update(schema=0)), "has schema 0, this version reads 1"),
        (lambda c: c["rows"].pop(), "its fields differ"),
        (lambda c: c["rows"].__setitem__(0, {"y": 1}), "its fields differ"),
        (lambda c: c["rows"].__setitem__(0, 3), "its fields differ"),
        (lambda c: c.update(points={}), "its fields differ"),
        (lambda c: c["provenance"].pop("device"), "its fields differ"),
        (lambda c: c.pop("rows"), "its fields differ"),
        (lambda c: c["rows"][0].update(y=inf), "was altered"),
    ],
)
def test_an_edit_by_hand_is_found(tmp_path, change, message):
    run(tmp_path)
    edited(tmp_path / NAME, change)
    with pytest.raises(ArtefactError, match=message):
        load(tmp_path / NAME)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "[" * 100_000, '{"schema": 1}'])
def test_a_broken_file_is_refused(tmp_path, content):
    (tmp_path / NAME).write_text(content)
    with pytest.raises(ArtefactError, match=r"cannot be read as JSON|not an artefact"):
        load(tmp_path / NAME)
    with pytest.raises(ArtefactError, match="does not exist; run the experiment"):
        load(tmp_path / "other.json")


@cache
def run_once(folder):
    """The content of a finished artefact."""
    run(folder)
    return json.loads((folder / NAME).read_text())


@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
@settings(max_examples=200, deadline=None)
def test_a_flipped_bit_is_found(tmp_path_factory, position, bit):
    folder = tmp_path_factory.getbasetemp() / "flipped"
    text = json.dumps(run_once(folder)).encode()
    content = bytearray(text)
    content[position % len(content)] ^= 1 << bit
    (folder / NAME).write_bytes(bytes(content))
    with suppress(ArtefactError):  # only a bit of white space may pass
        assert fingerprint(storable(load(folder / NAME).rows)) == fingerprint(run_once(folder)["rows"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(field=st.sampled_from(sorted(artefacts.FIELDS)), value=JSON)
@settings(max_examples=2000, deadline=None)
def test_a_forged_field_with_a_right_digest_is_refused_or_read_never_a_crash(tmp_path_factory, field, value):
    folder = tmp_path_factory.getbasetemp() / "forged"
    content = {**run_once(folder), field: value}
    content.pop("digest")
    forged = folder / "forged.json"
    with suppress(ValueError):  # NaN has no canonical form, and so no digest
        content |= {"config_hash": fingerprint(content["config"])}
        content |= {"digest": fingerprint(content)}
    forged.write_text(json.dumps(content))
    with pytest.raises(ArtefactError, match=str(forged)):  # at the latest because of the file's name
        verify.state(forged, {"squares": SQUARES})
    forged.rename(folder / NAME)
    with suppress(ArtefactError):
        assert verify.state(folder / NAME, {"squares": SQUARES})


@given(
    st.recursive(
        st.floats() | st.integers() | st.text(max_size=3) | st.none(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
    )
)
@settings(max_examples=100)
def test_what_is_stored_comes_back(value):
    text = artefacts.canonical(storable(value))
    assert artefacts.canonical(storable(restored(json.loads(text)))) == text
