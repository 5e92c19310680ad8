import sys
from types import SimpleNamespace

import pytest
from toy import SQUARES, Squares

from helpers.experiments.machinery import library, runner, storage
from helpers.experiments.machinery.storage import ArtefactError


def test_the_best_profile_there_is_comes_back(tmp_path):
    with pytest.raises(ArtefactError, match=r"squares has not been run: .* --profile laptop"):
        library.best("squares", within=tmp_path)
    for profile in ("smoke", "laptop"):
        runner.run(SQUARES, profile, Squares(), out=tmp_path, quiet=True)
        assert library.best("squares", within=tmp_path).profile == profile


def test_a_caption_says_what_was_run(tmp_path):
    artefact = runner.run(SQUARES, "smoke", Squares(), out=tmp_path, quiet=True, budget=0.0)
    text = library.caption(artefact)
    assert text.startswith("none, smoke profile, 0 of 10 rows so far")
    assert artefact.provenance["device"] in text


def part_of(folder, profile, rows):
    """An artefact on disk with so many of its ten rows."""
    made = runner.run(SQUARES, profile, Squares(), out=folder, quiet=True)
    made.rows[rows:] = [None] * (10 - rows)
    made.save(folder / f"squares.{profile}.json")


def test_what_is_complete_is_better_than_a_larger_profile_that_is_not(tmp_path):
    part_of(tmp_path, "paper", 3)
    part_of(tmp_path, "laptop", 0)
    assert library.best("squares", within=tmp_path).profile == "paper"  # a part is better than nothing
    part_of(tmp_path, "smoke", 10)
    assert library.best("squares", within=tmp_path).profile == "smoke"
    part_of(tmp_path, "laptop", 10)
    assert library.best("squares", within=tmp_path).profile == "laptop"
    part_of(tmp_path, "paper", 10)
    assert library.best("squares", within=tmp_path).profile == "paper"


def test_files_without_rows_are_no_results(tmp_path):
    part_of(tmp_path, "paper", 0)
    with pytest.raises(ArtefactError, match="squares has not been run"):
        library.best("squares", within=tmp_path)


def test_an_artefact_of_another_experiment_is_refused(tmp_path):
    part_of(tmp_path, "smoke", 10)
    (tmp_path / "squares.smoke.json").rename(tmp_path / "cubes.paper.json")
    with pytest.raises(ArtefactError, match=r"holds squares\.smoke; give the file that name"):
        library.best("cubes", within=tmp_path)


def test_the_folder_is_that_of_the_checkout_unless_another_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("HELPERS_RESULTS", raising=False)
    assert library.folder().parts[-2:] == ("book", "results")
    assert library.folders() == [library.folder()]
    monkeypatch.setenv("HELPERS_RESULTS", str(tmp_path))
    assert library.folder() == tmp_path
    assert [folder.parts[-2:] for folder in library.folders()[1:]] == [("book", "results")]


def test_the_readers_run_counts_before_the_books_if_it_is_as_good(tmp_path, monkeypatch):
    """Installed: the package's copy is the book, and the reader's folder is elsewhere."""
    book, mine = tmp_path / "_book", tmp_path / "mine"
    monkeypatch.setattr(library, "book", lambda: book)
    monkeypatch.setenv("HELPERS_RESULTS", str(mine))
    part_of(book / "results", "laptop", 10)
    part_of(mine, "smoke", 10)
    assert library.best("squares").profile == "laptop"
    made = runner.run(SQUARES, "laptop", Squares(power=3.0), out=mine, quiet=True)
    assert library.best("squares").rows == made.rows
    part_of(mine, "paper", 4)
    assert library.best("squares").profile == "laptop"
    monkeypatch.delenv("HELPERS_RESULTS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert library.folder() == tmp_path / "data" / "flatness-and-information" / "results"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert library.folder().parts[-4:] == (".local", "share", "flatness-and-information", "results")


def test_a_benchmark_is_read_if_its_seal_fits(tmp_path, monkeypatch):
    monkeypatch.setattr(library, "book", lambda: tmp_path)
    (tmp_path / "results").mkdir()
    path = tmp_path / "results" / "bench-toy.json"
    storage.write_json(path, storage.sealed({"seconds": 2.5}))
    assert library.benchmark("toy")["seconds"] == 2.5
    path.write_text(path.read_text().replace("2.5", "1.5"))
    with pytest.raises(ArtefactError, match=r"bench-toy\.json was altered"):
        library.benchmark("toy")
    with pytest.raises(ArtefactError, match="does not exist"):
        library.benchmark("other")


@pytest.mark.parametrize("name", ["curvature", "training"])
def test_the_books_benchmarks_are_sealed(name):
    assert library.benchmark(name)


def test_a_frame_has_a_row_for_each_finished_one_and_needs_pandas(tmp_path, monkeypatch):
    part_of(tmp_path, "smoke", 3)
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda rows: ("frame", rows)))
    kind, rows = library.frame("squares", within=tmp_path)
    assert (kind, [row["y"] for row in rows]) == ("frame", [0, 1, 4])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"a frame needs pandas.*pip install pandas"):
        library.frame("squares", within=tmp_path)


def test_a_caption_counts_the_seeds_of_finished_rows_only(tmp_path):
    artefact = runner.run(SQUARES, "smoke", Squares(), out=tmp_path, quiet=True)
    assert library.caption(artefact).startswith("none, smoke profile, 2 seeds, ")
    artefact.rows = [row if row["seed"] == 0 else None for row in artefact.rows]
    assert library.caption(artefact).startswith("none, smoke profile, 1 seed, 5 of 10 rows so far")


def test_a_caption_takes_sizes_and_quality_from_the_rows(tmp_path):
    artefact = runner.run(SQUARES, "smoke", Squares(), out=tmp_path, quiet=True)
    artefact.config |= {"width": 8, "n": 900, "augment": True}
    for i, row in enumerate(artefact.rows):
        row |= {"n": 100 + i, "test_error": 0.25, "test_loss": 1.0 + i / 10, "test_accuracy": [0.1, 0.2]}
    expected = "width 8, n = 100 to 109, 2 seeds, crop and flip, test error 0.25, test loss 1.00 to 1.90, "
    assert f"none, smoke profile, {expected}" in library.caption(artefact)
    for row in artefact.rows:
        del row["n"], row["test_error"], row["test_loss"]
    assert "n = 900, 2 seeds, crop and flip, " + artefact.provenance["device"] in library.caption(artefact)
    artefact.rows[0]["test_accuracy"] = 0.75  # a number, where the others are curves
    assert "crop and flip, test error 0.25, " in library.caption(artefact)
