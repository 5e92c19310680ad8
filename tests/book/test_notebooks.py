"""The notebooks in their stored form."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.check_book import toc_pages
from tools.normalize_notebooks import KEEP_OUTPUT, normalize

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
LONGEST_CELL = 30  # lines


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    return [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == kind]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_in_the_books_form(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert normalize(text) == text, "run `make format`"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_code_cells_are_short(path: Path) -> None:
    long = {cell["id"]: len(cell["source"]) for cell in cells(path, "code") if len(cell["source"]) > LONGEST_CELL}
    assert long == {}


def test_every_page_of_the_toc_has_a_source_and_every_notebook_a_place() -> None:
    pages = list(toc_pages(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))))
    assert len(pages) == len(set(pages))
    without = [p for p in pages if not any((ROOT / f"{p}{suffix}").is_file() for suffix in (".md", ".ipynb"))]
    assert without == []
    assert [p.stem for p in NOTEBOOKS if f"book/{p.stem}" not in pages] == []


def messy(tags: list[str]) -> str:
    """A notebook as an editor may leave it."""
    output = {
        "data": {"text/plain": "1.5", "text/html": "<b>1.5</b>"},
        "execution_count": 7,
        "metadata": {},
        "output_type": "execute_result",
    }
    code = {
        "cell_type": "code",
        "execution_count": 7,
        "id": "keep-me",
        "metadata": {"tags": tags, "scrolled": True},
        "outputs": [output],
        "source": "x = 1.5\nx\n",
    }
    text = {"cell_type": "markdown", "metadata": {}, "source": ["# Title"]}
    return json.dumps({"nbformat": 4, "nbformat_minor": 2, "metadata": {"widgets": {}}, "cells": [code, text, text]})


def test_normalizing_drops_outputs_counts_and_editor_marks_and_is_idempotent() -> None:
    once = normalize(messy([]))
    code, *texts = json.loads(once)["cells"]
    assert code["id"] == "keep-me"
    assert (code["outputs"], code["execution_count"], code["metadata"]) == ([], None, {"tags": []})
    assert code["source"] == ["x = 1.5\n", "x"]
    assert len({cell["id"] for cell in texts}) == 2
    assert normalize(once) == once
    assert once.endswith("}\n")


def test_normalizing_keeps_the_text_of_checked_outputs() -> None:
    (output,) = json.loads(normalize(messy([KEEP_OUTPUT])))["cells"][0]["outputs"]
    assert output["data"] == {"text/plain": ["1.5"]}
    assert output["execution_count"] is None


def test_old_notebooks_are_refused_with_a_reason() -> None:
    with pytest.raises(ValueError, match="nbformat 4"):
        normalize('{"nbformat": 3, "worksheets": []}')


def test_the_map_has_the_minutes_that_the_chapters_say() -> None:
    says = {}
    for path in NOTEBOOKS:
        text = "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"])
        if found := re.search(r"\*Time:\* (\d+) minutes", text):
            says[path.stem] = found[1]
    intro = "".join(
        "".join(cell["source"]) for cell in json.loads((ROOT / "book" / "intro.ipynb").read_text("utf-8"))["cells"]
    )
    stands = dict(re.findall(r"(?m)^\| \{doc\}`([\w-]+)` \|.*\| (\d+) \|$", intro))
    assert stands == {name: says[name] for name in stands}
    assert len(stands) >= 14
