"""The page of names and numbers has every statement of the chapters, and functions that exist."""

import importlib
import json
import re
from pathlib import Path

import pytest
import yaml

BOOK = Path(__file__).resolve().parents[2] / "book"
STATEMENT = re.compile(
    r"\{prf:(?:theorem|proposition|lemma|algorithm|definition|corollary|remark|example)\}([^\n]*)\n:label: ([a-z0-9-]+)"
)
TOC = yaml.safe_load((BOOK.parent / "_toc.yml").read_text())
PAGE = (BOOK / "concordance.md").read_text()
ROWS = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| ")][1:]


def statements():
    """Label and name of each statement, in the order of the book; a title may go on after a semicolon."""
    found = []
    for chapter in (chapter for part in TOC["parts"] for chapter in part["chapters"]):
        path = BOOK.parent / f"{chapter['file']}.ipynb"
        cells = json.loads(path.read_text())["cells"] if path.exists() else []
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        found += [(label, title.partition(";")[0].strip()) for title, label in STATEMENT.findall(text)]
    return found


def test_every_statement_has_its_row_under_its_name_in_the_order_of_the_book():
    rows = [(re.search(r"`([a-z0-9-]+)`", row[1]).group(1), row[0].strip()) for row in ROWS]
    assert rows == statements()


@pytest.mark.parametrize("row", [row for row in ROWS if "`" in row[3]], ids=lambda row: row[0].strip())
def test_the_function_of_a_row_exists(row):
    module, *names = re.search(r"`([\w.]+)`", row[3]).group(1).split(".")
    thing = importlib.import_module(f"helpers.{module}")
    for name in names:
        thing = getattr(thing, name)
