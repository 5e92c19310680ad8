"""The claims ledger names only functions, tests, artefacts and chapters that are there."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.experiments.artefact import load
from tools.verdicts import RULES

ROOT = Path(__file__).resolve().parents[2]
ROWS: list[dict[str, Any]] = yaml.safe_load((ROOT / "book" / "claims.yml").read_text(encoding="utf-8"))
KEYS = {"id", "seed", "number", "kind", "says", "chapter", "function", "test", "artefact", "verdict", "why"}
VERDICTS = {"reproduced", "partly", "not reproduced", "source wrong", "not run yet"}


def test_ids_are_unique() -> None:
    assert len({row["id"] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_a_row_names_only_what_is_there(row: dict[str, Any]) -> None:
    assert set(row) == KEYS
    assert row["seed"] in {"000", "001", "002", "003", "004"}
    assert row["verdict"] in VERDICTS
    module, name = row["function"].split(".")
    assert hasattr(import_module(f"helpers.{module}"), name), f"helpers.{row['function']} is not there"
    if row["chapter"]:
        assert list((ROOT / "book").glob(f"{row['chapter']}.*")), f"chapter {row['chapter']} is not there"
    if row["artefact"]:
        assert (ROOT / "book" / "results" / row["artefact"]).exists(), f"artefact {row['artefact']} is not there"
    if row["test"]:
        path, _, function = row["test"].partition("::")
        source = (ROOT / path).read_text(encoding="utf-8")
        assert not function or re.search(rf"^def {function}\(", source, re.M), f"{row['test']} is not there"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_a_verdict_rests_on_a_test_or_an_artefact(row: dict[str, Any]) -> None:
    supported = bool(row["test"] or row["artefact"])
    assert supported or row["verdict"] == "not run yet", f"{row['id']} has a verdict and nothing that supports it"
    assert row["why"]


@pytest.mark.parametrize("row", [row for row in ROWS if row["artefact"]], ids=lambda row: row["id"])
def test_a_verdict_is_the_one_that_its_artefact_supports(row: dict[str, Any]) -> None:
    assert row["id"] in RULES, f"{row['id']} rests on an artefact: give it a rule in tools/verdicts.py"
    artefact = load(ROOT / "book" / "results" / row["artefact"])
    assert RULES[row["id"]](artefact) == row["verdict"]


def test_a_rule_belongs_to_a_row_that_names_an_artefact() -> None:
    assert set(RULES) <= {row["id"] for row in ROWS if row["artefact"]}
