"""What a reader sees of a chapter's code is short and fits; the check sees what does not."""

import json
from pathlib import Path
from typing import Any

import pytest

from tools.check_cells import MOST_LINES, faults, main


def notebook(path: Path, source: str, **metadata: Any) -> Path:
    cell = {"cell_type": "code", "metadata": metadata, "source": source.splitlines(keepends=True)}
    path.write_text(json.dumps({"cells": [cell]}), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("source", "metadata", "part"),
    [
        ("fig, ax = plots.figure()", {"mystnb": {"image": {"alt": "A line."}}}, "visible plotting"),
        ("fig, ax = plots.figure()", {"tags": ["hide-input"], "mystnb": {"code_prompt_show": "Draw"}}, "without words"),
        ("widgets.Curves(x, y)", {}, "visible plotting"),
        ("ax.plot(x)", {}, "visible plotting"),
        ("x = 1\n" * (MOST_LINES + 1), {}, "151 visible lines"),
        ("x = '" + "y" * 85, {}, "a line of 90 characters"),
        ("plt.plot(x)", {"tags": ["hide-input"]}, "folded without a summary"),
    ],
)
def test_what_a_reader_should_not_see_is_found(tmp_path: Path, source: str, metadata: Any, part: str) -> None:
    (fault,) = faults(notebook(tmp_path / "01-a.ipynb", source, **metadata))
    assert part in fault


def test_folded_plotting_and_short_code_pass(tmp_path: Path) -> None:
    folded = {"tags": ["hide-input"], "mystnb": {"code_prompt_show": "Draw"}}
    assert faults(notebook(tmp_path / "01-a.ipynb", "ax.plot(x)", **folded)) == []
    assert faults(notebook(tmp_path / "01-b.ipynb", "plots.use()\nplots.table(rows)")) == []
    assert faults(notebook(tmp_path / "page.ipynb", "ax.plot(x)")) == []


def test_the_book_shows_what_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0, capsys.readouterr().out
