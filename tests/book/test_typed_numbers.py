import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("check_numbers", ROOT / "tools" / "check_numbers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The gap is 0.27 nats.", ["0.27"]),
        ("It rose by 12 % and then 3%.", ["12 %", "3%"]),
        ("This is 4.5 times faster, or 30 times.", ["4.5 times", "30 times"]),
        ("Exactly $0.5$ and `0.7`, see [1.2](page-3.4.html), in chapter 3 with 20 epochs.", []),
        ("| 0.1 | 0.2 |", []),
        ("$$\nx = 0.5\n$$\nand {cite}`a0.5b`", []),
        ("```{exercise} A\nTake 0.3.\n```\nDone.", []),
        ("Version 1.2.3 of 2026.", []),
    ],
)
def test_numbers_in_running_text_are_found_and_others_not(tool, text, found):
    assert tool.typed_numbers(text) == found


def test_gated_exercises_are_left_out_over_cells(tool, tmp_path, capsys):
    cells = ["```{exercise-start} A\n```\nTake 0.3.", "and 0.4\n```{exercise-end}\n```\nBut 0.6."]
    notebook = {"cells": [{"cell_type": "markdown", "source": [cell]} for cell in cells]}
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(notebook))
    assert tool.main([str(path)]) == 1
    assert capsys.readouterr().out.strip() == "a.ipynb, cell 1: 0.6"


def test_the_book_has_no_typed_number(tool, capsys):
    assert tool.main([]) == 0, capsys.readouterr().out
