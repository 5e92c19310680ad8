"""Every exercise with code: its stub fails, and its solution, which the notebook runs, is what the check calls."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

CHAPTERS = sorted((Path(__file__).resolve().parents[2] / "book").glob("[0-9][0-9]-*.ipynb"))
STUB = re.compile(r"((?:^    .*\n|^\n)+)", re.MULTILINE)


def cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def text(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def tagged(path: Path, tag: str) -> list[int]:
    return [i for i, cell in enumerate(cells(path)) if tag in cell["metadata"].get("tags", [])]


def functions(source: str) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


def stub_before(path: Path, index: int) -> dict[str, ast.FunctionDef]:
    """The functions of the indented code in the nearest exercise before a solution."""
    before = next(i for i in range(index, -1, -1) if "{exercise-start}" in text(cells(path)[i]))
    exercise = text(cells(path)[before]).rpartition("{exercise-start}")[2]
    blocks = ["\n".join(line[4:] for line in block.splitlines()) for block in STUB.findall(exercise)]
    return {name: node for block in blocks if "def " in block for name, node in functions(block).items()}


SOLUTIONS = [(path, index) for path in CHAPTERS for index in tagged(path, "exercise-solution")]


@pytest.mark.parametrize(("path", "index"), SOLUTIONS, ids=lambda value: getattr(value, "stem", value))
def test_the_stub_fails_and_the_solution_fits_it(path: Path, index: int) -> None:
    stub, solution = stub_before(path, index), functions(text(cells(path)[index]))
    assert stub, "there is no stub in the exercise"
    for name, node in stub.items():
        with pytest.raises(NotImplementedError):
            exec(compile(ast.Module(node.body, []), "stub", "exec"), {})
        assert ast.unparse(solution[name].args) == ast.unparse(node.args), f"{name}: stub and solution differ"


@pytest.mark.parametrize(("path", "index"), SOLUTIONS, ids=lambda value: getattr(value, "stem", value))
def test_an_attempt_can_be_checked_before_the_solution_is_opened(path: Path, index: int) -> None:
    stub = stub_before(path, index)
    check_at = next(i for i in range(index, -1, -1) if i in tagged(path, "exercise-check"))
    assert "{solution-start}" in text(cells(path)[check_at + 1]), "the check stands right before the solution"
    ((name, check),) = functions(text(cells(path)[check_at])).items()
    assert [ast.unparse(decorator) for decorator in check.decorator_list] == ["exercises.check"]
    assert {argument.arg for argument in check.args.args} == set(stub), "the check takes what the exercise asks for"
    called = {
        node.func.id for node in ast.walk(check) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert set(stub) <= called, "the check does not call what the exercise asks for"
    assert any(isinstance(node, ast.Assert) for node in ast.walk(check))
    call = f"{name}({', '.join(argument.arg for argument in check.args.args)})"
    assert f"`{call}`" in text(cells(path)[check_at - 1]), "the exercise says how to test an attempt"
    answer = cells(path)[index + 1]
    assert "exercise-answer" in answer["metadata"]["tags"], "the cell after a solution runs the check on it"
    assert text(answer) == f'assert {call} == "Right."'


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_has_six_to_eight_exercises_in_three_grades_and_their_solutions(path: Path) -> None:
    whole = "\n".join(text(cell) for cell in cells(path))
    exercises = re.findall(r"\{exercise(?:-start)?\} (★+) ([^\n]*)\n:label: (\S+)", whole)
    assert 6 <= len(exercises) <= 8
    assert {grade for grade, _, _ in exercises} == {"★", "★★", "★★★"}
    assert any(title.startswith("Predict first") for _, title, _ in exercises)
    assert {label for _, _, label in exercises} == set(re.findall(r"\{solution(?:-start)?\} (\S+)", whole))
