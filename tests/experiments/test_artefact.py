"""Artefacts on disk: whole at every moment, sealed, held by one writer, and refused when they are not what they say."""

import errno
import json
import os
import subprocess
import sys
from contextlib import suppress
from functools import cache
from math import inf
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import SQUARES, Squares

from helpers.experiments.machinery import artefact as artefacts
from helpers.experiments.machinery import runner, storage, verify, worker
from helpers.experiments.machinery.artefact import Artefact, load, restored, storable
from helpers.experiments.machinery.storage import ArtefactError, fingerprint, is_intact, sealed

NAME = "squares.smoke.json"


def part_of(folder, rows):
    """An artefact on disk with so many rows."""
    made = run(folder)
    made.rows[rows:] = [None] * (len(made.rows) - rows)
    made.save(folder / NAME)
    return made


def run(out, config=None, **changes):
    return runner.run(SQUARES, "smoke", config or Squares(), out=out, quiet=True, **changes)


def test_an_interrupt_while_saving_leaves_a_whole_artefact(tmp_path, monkeypatch):
    real = os.replace

    def interrupted(source, target):
        if json.loads(Path(source).read_text())["rows"][2] is not None:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(storage.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    monkeypatch.undo()
    assert len(load(tmp_path / NAME).finished) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == [f".{NAME}.lock", NAME]


def test_a_full_disk_loses_nothing_and_says_what_to_do(tmp_path, monkeypatch):
    real, saves = os.fsync, []

    def full(descriptor):
        saves.append(descriptor)
        if len(saves) > 4:  # two a row, of the file and of its folder
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(storage.os, "fsync", full)
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
    part_of(tmp_path, rows=2)

    def refused(path, *arguments, **keywords):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(storage.os, "open", refused)
    with pytest.raises(ArtefactError, match=r"cannot be written to \(Permission denied\); choose another --out"):
        run(tmp_path)
    monkeypatch.undo()
    assert not load(tmp_path / NAME).complete


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
        verify.condition(forged, {"squares": SQUARES})
    forged.rename(folder / NAME)
    with suppress(ArtefactError):
        assert verify.condition(folder / NAME, {"squares": SQUARES})


@given(
    st.recursive(
        st.floats() | st.integers() | st.text(max_size=3) | st.none(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
    )
)
@settings(max_examples=100)
def test_what_is_stored_comes_back(value):
    text = storage.canonical(storable(value))
    assert storage.canonical(storable(restored(json.loads(text)))) == text


def test_files_that_carry_another_name_than_their_content_are_refused(tmp_path):
    run(tmp_path)
    (tmp_path / NAME).rename(tmp_path / "cubes.smoke.json")
    with pytest.raises(ArtefactError, match=r"cubes.smoke.json holds squares.smoke; give the file that name"):
        load(tmp_path / "cubes.smoke.json")


def test_a_row_too_deep_to_read_is_refused_in_words(tmp_path):
    content = json.loads(json.dumps(run(tmp_path).content()))
    deep: dict = {}
    for _ in range(900):
        deep = {"deeper": deep}
    content["rows"][0]["y"] = deep
    (tmp_path / NAME).write_text(json.dumps(sealed(content)))
    with suppress(ArtefactError):
        load(tmp_path / NAME)


@pytest.mark.parametrize("name", [f".{NAME}.lock", f".{NAME}.tmp"])
def test_hidden_neighbours_are_not_followed_as_links(tmp_path, name):
    """A link by the name of the lock or of the temporary file leads nowhere: what it points at stays as it is."""
    (tmp_path / "precious").write_text("kept")
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / name).symlink_to(tmp_path / "precious")
    if name.endswith("lock"):
        with pytest.raises(ArtefactError, match="cannot be written to"):
            run(folder)
    else:
        assert run(folder).complete
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_temporary_file_left_by_a_killed_writer_is_in_nobodys_way(tmp_path):
    (tmp_path / f".{NAME}.tmp").write_text("half")
    assert run(tmp_path).complete
    assert not (tmp_path / f".{NAME}.tmp").exists()


def test_an_artefact_shows_itself_in_a_line(tmp_path):
    assert repr(part_of(tmp_path, rows=3)) == "<squares.smoke: 3 of 10 rows>"
    assert repr(Artefact("a", "b", {}, {}, [])) == "<a.b: 0 of 0 rows>"


def test_a_seal_covers_everything_but_itself():
    content = sealed({"a": [1, 2.5, None], "b": {"c": "d"}})
    assert is_intact(content)
    assert sealed(content) == content
    assert not is_intact({**content, "a": [1, 2.5]})
    assert not is_intact({**content, "e": 1})
    assert not is_intact({key: value for key, value in content.items() if key != "digest"})
    assert not is_intact({**content, "a": inf})


WITHOUT = """
import sys, types
sys.modules["fcntl"] = sys.modules["resource"] = None
from pathlib import Path
from helpers.experiments.machinery import provenance, storage

def locking(descriptor, mode, count):
    assert (mode, count) == (3, 1)
    if sys.argv[2] == "busy":
        raise OSError(36, "Resource deadlock avoided")

sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=3, locking=locking)
path = Path(sys.argv[1])
with storage.exclusive(path):
    storage.write_json(path, {"peak": provenance.peak_memory()})
"""


def test_the_package_imports_where_there_is_no_fcntl_and_no_resource(tmp_path):
    """As on Windows, where the lock is msvcrt's; here a stand-in that is asked for one byte without waiting."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    errors = []
    for state in ("free", "busy"):
        command = [sys.executable, "-c", WITHOUT, str(tmp_path / f"{state}.json"), state]
        errors.append(subprocess.run(command, env=environment, capture_output=True, text=True).stderr)
    assert errors[0] == ""
    assert json.loads((tmp_path / "free.json").read_text()) == {"peak": 0}
    assert "another run is writing" in errors[1]


class FakeAccelerator:
    """What the provenance asks of CUDA, on a machine that has none."""

    def __init__(self, monkeypatch):
        self.taken = 0
        for name, answer in {
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "device_count": lambda: 1,
            "memory_stats": lambda _: {"allocation.all.allocated": self.taken},
            "get_device_name": lambda: "An accelerator",
            "max_memory_allocated": lambda: 7,
        }.items():
            monkeypatch.setattr(torch.cuda, name, answer)


def test_a_row_is_stamped_with_the_device_that_computed_it(monkeypatch):
    """A machine may have an accelerator that a row leaves alone."""
    accelerator = FakeAccelerator(monkeypatch)

    def used(config, point):
        accelerator.taken += point["tensors"]
        return {}

    there, here = (worker.compute(used, Squares(), {"tensors": count}) for count in (3, 0))
    assert (there.environment["device"], there.peak_memory_bytes) == ("An accelerator", 7)
    assert "1 thread" in here.environment["device"]
    assert here.peak_memory_bytes > 1000
