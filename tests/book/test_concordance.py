"""The page of names and numbers has every statement of the chapters, and functions that exist."""

import importlib
import json
import re
from pathlib import Path

import pytest

BOOK = Path(__file__).resolve().parents[2] / "book"
STATEMENT = re.compile(
    r"\{prf:(?:theorem|proposition|lemma|algorithm|definition|corollary|remark|example)\}[^\n]*\n:label: ([a-z0-9-]+)"
)
PAGE = (BOOK / "concordance.md").read_text()
ROWS = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| ")][1:]


def statements():
    """Labels of the statements of all notebooks."""
    labels = set()
    for path in BOOK.glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        labels |= set(STATEMENT.findall(text))
    return labels


def test_every_statement_has_a_row_and_every_row_a_statement():
    labels = [re.search(r"`([a-z0-9-]+)`", row[1]).group(1) for row in ROWS]
    assert len(labels) == len(set(labels))
    assert set(labels) == statements()


@pytest.mark.parametrize("row", [row for row in ROWS if "`" in row[3]], ids=lambda row: row[0].strip())
def test_the_function_of_a_row_exists(row):
    module, *names = re.search(r"`([\w.]+)`", row[3]).group(1).split(".")
    thing = importlib.import_module(f"helpers.{module}")
    for name in names:
        thing = getattr(thing, name)
