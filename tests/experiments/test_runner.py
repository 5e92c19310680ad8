import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from math import inf
from pathlib import Path

import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import SQUARES, Squares

from helpers.experiments import artefact as artefacts
from helpers.experiments import runner
from helpers.experiments.artefact import ArtefactError, fingerprint, load, restored, storable

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


def test_a_row_that_fails_leaves_the_finished_ones(tmp_path):
    def third_fails(config, point):
        if point["x"] == 2:
            raise RuntimeError("boom")
        return toy.row(config, point)

    broken = runner.Experiment("squares", "", SQUARES.profiles, toy.points, third_fails, SQUARES.edition)
    with pytest.raises(RuntimeError, match="boom"):
        runner.run(broken, "smoke", Squares(), out=tmp_path, quiet=True)
    assert len(load(tmp_path / NAME).finished) == 2


def test_another_config_does_not_overwrite(tmp_path):
    run(tmp_path)
    with pytest.raises(ArtefactError, match="holds another config; choose another --out"):
        run(tmp_path, Squares(power=3.0))


def test_rows_of_two_versions_of_the_code_are_not_mixed(tmp_path, monkeypatch):
    run(tmp_path, budget=0.0)
    monkeypatch.setattr(runner, "code_fingerprint", lambda module: "another")
    with pytest.raises(ArtefactError, match="begun by another version of the code"):
        run(tmp_path)


@pytest.mark.parametrize("attempt", range(20))
def test_killed_at_any_moment_it_resumes_and_ends_with_the_same_rows(tmp_path, attempt):
    """kill -9 after a delay that sweeps the run; then run again."""
    expected = run(tmp_path / "whole", Squares(pause=0.01)).rows
    command = [sys.executable, str(Path(toy.__file__)), str(tmp_path)]
    process = subprocess.Popen(command, env={**os.environ, "PAUSE": "0.01"})
    deadline = time.monotonic() + 60
    while not (tmp_path / NAME).exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(0.006 * attempt)
    process.send_signal(signal.SIGKILL)
    process.wait()
    load(tmp_path / NAME)  # whole at every moment
    assert run(tmp_path, Squares(pause=0.01)).rows == expected


def test_a_full_disk_loses_nothing_and_says_what_to_do(tmp_path, monkeypatch):
    real, saves = os.fsync, []

    def full(descriptor):
        saves.append(descriptor)
        if len(saves) > 3:
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
    with pytest.raises(ArtefactError, match="cannot be written to .* choose another --out"):
        run(tmp_path / "file")


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
    with pytest.raises(ArtefactError, match="cannot be read as JSON|not an artefact"):
        load(tmp_path / NAME)
    with pytest.raises(ArtefactError, match="does not exist; run the experiment"):
        load(tmp_path / "other.json")


@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_a_flipped_bit_is_found(tmp_path_factory, position, bit):
    folder = tmp_path_factory.mktemp("flip")
    run(folder)
    path = folder / NAME
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1 << bit
    path.write_bytes(bytes(content))
    try:
        assert fingerprint(storable(load(path).rows)) == fingerprint(storable(run(folder).rows))  # white space only
    except ArtefactError as error:
        assert str(path) in str(error)


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
