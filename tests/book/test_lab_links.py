"""The chapters' links to the laboratory: each opens a setting, and what its sentence says happens there."""

import importlib
import inspect
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from helpers.widgets.laboratory import measure, replay

BOOK = Path(__file__).resolve().parents[2] / "book"
ENTRIES = yaml.safe_load((BOOK / "laboratory.yml").read_text())


@cache
def measured(*setting):
    done = replay("digits", **dict(setting))
    return measure(done.run, done.roles, lambdas=(1.0,), sigma=done.sigma, incoherence=done.incoherence)


def quantity(name, setting):
    value = measured(*sorted(setting.items()))[name]
    value = value[0] if isinstance(value, list) else value
    return value["value"] if isinstance(value, dict) else value


def test_every_chapter_from_the_second_on_leads_there():
    chapters = {path.stem for path in BOOK.glob("[01][0-9]-*.ipynb")} - {"01-generalization-gap", "14-playground"}
    assert set(ENTRIES) == chapters


@pytest.mark.parametrize("chapter", ENTRIES)
def test_what_a_sentence_says_happens(chapter):
    entry = ENTRIES[chapter]
    assert set(entry) - {"besides"} == {"says", "setting", "to", "moves"}
    known = set(inspect.signature(replay).parameters)
    for claim in (entry, *([entry["besides"]] if "besides" in entry else [])):
        assert set(claim["setting"]) | set(claim["to"]) <= known
        for name, way in claim["moves"].items():
            before, after = (quantity(name, claim[key]) for key in ("setting", "to"))
            assert (after > before) == {"up": True, "down": False}[way], f"{name}: {before} to {after}"


def test_the_link_is_an_address_of_the_laboratory(monkeypatch):
    monkeypatch.syspath_prepend(str(BOOK / "_ext"))
    lab_links = importlib.import_module("lab_links")
    assert lab_links.address({"n": 50, "lr": 0.1}) == "14-playground.html#lab?n=50&lr=0.1"
    sys.modules.pop("lab_links")
