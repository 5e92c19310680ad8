import pytest
from toy import SQUARES, Squares

from helpers.experiments.machinery import library, runner
from helpers.experiments.machinery.artefact import ArtefactError


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


def test_the_folder_is_that_of_the_checkout():
    assert library.folder().parts[-2:] == ("book", "results")


def test_a_caption_counts_the_seeds_of_finished_rows_only(tmp_path):
    artefact = runner.run(SQUARES, "smoke", Squares(), out=tmp_path, quiet=True)
    assert library.caption(artefact).startswith("none, smoke profile, 2 seeds, ")
    artefact.rows = [row if row["seed"] == 0 else None for row in artefact.rows]
    assert library.caption(artefact).startswith("none, smoke profile, 1 seed, 5 of 10 rows so far")
