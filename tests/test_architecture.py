"""Data flow one way: what a module of ``helpers`` imports stands above it, and the chapters stand in their order."""

import ast
import importlib
import sys
from pathlib import Path

import pytest

import helpers

ROOT = Path(helpers.__file__).parent
MOST_FLAT, MOST_LINES = 22, 350
CHAPTERS = [  # a chapter uses what earlier chapters have explained
    {"xu_raginsky"},
    {"neu", "pac_bayes"},
    {"wang_mao"},
    {"flatness"},
    {"stability", "alignment"},
    {"regularizers"},
    {"relu_minima", "soft_rank"},
    {"linear_gaussian"},
    {"omniscient"},
    {"convex"},
    {"excess_risk", "exchange"},
    {"supersample"},
    {"langevin"},
]
LAYERS = [
    {"_checks", "_generators", "_precision"},
    {"data", "losses"},
    {"models"},
    {"training"},
    {"curvature"},
    *CHAPTERS,
    {"experiments"},
    {"exercises"},
    {"plots"},
    {"widgets"},
    {"__main__", "__init__"},
]


def layer(module):
    levels = [i for i, names in enumerate(LAYERS) if module in names]
    assert levels, f"{module} has no layer: give it one in tests/test_architecture.py"
    return levels[0]


def module_of(path):
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported(text):
    """Names of modules of the package that a source text imports, as "losses" or "training"."""
    names = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "helpers":
            names += [f"helpers.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return {name.split(".")[1] for name in names if name.startswith("helpers.")}


def against_the_arrow(module, text):
    """Imports of a module that lie in a layer below it."""
    return {name for name in imported(text) if name != module and layer(name) > layer(module)}


SOURCES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_follow_the_arrow(path):
    wrong = against_the_arrow(module_of(path), path.read_text())
    assert not wrong, f"{module_of(path)} imports {', '.join(sorted(wrong))}, which stand below it"


def test_an_import_against_the_arrow_is_seen():
    assert against_the_arrow("losses", "from helpers.training import Run") == {"training"}
    assert against_the_arrow("curvature", "from helpers import omniscient, data") == {"omniscient"}
    assert against_the_arrow("neu", "import helpers.widgets") == {"widgets"}
    assert against_the_arrow("xu_raginsky", "from helpers.wang_mao import lemma_3") == {"wang_mao"}
    assert not against_the_arrow("widgets", "from helpers import data\nimport torch")


def test_modules_do_not_import_one_another_in_a_circle():
    wanted = {}
    for path in SOURCES:
        wanted.setdefault(module_of(path), set()).update(imported(path.read_text()) - {module_of(path)})
    done = set()
    while len(done) < len(wanted):
        free = {name for name in wanted if name not in done and wanted[name] <= done}
        assert free, f"a circle among {sorted(set(wanted) - done)}"
        done |= free


def test_every_module_that_a_reader_may_import_has_a_place_in_the_plan():
    assert set().union(*LAYERS) - {"_checks", "_generators", "_precision", "__main__", "__init__"} == set(
        helpers.__all__
    )


def test_the_house_has_few_doors_and_no_long_rooms():
    assert len(list(ROOT.glob("*.py"))) <= MOST_FLAT
    longest = {path.name: len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in longest.items() if lines > MOST_LINES} == {}


def test_no_two_modules_have_one_name():
    names = [path.stem for path in SOURCES if path.name != "__init__.py"]
    names += [path.parent.name for path in SOURCES if path.name == "__init__.py"]
    assert {name for name in names if names.count(name) > 1} == set()


def test_the_map_is_that_of_the_code_and_agrees_with_the_layers():
    """The diagram in CONTRIBUTING is made from the imports; an arrow never points down the layers."""
    sys.path.insert(0, str(ROOT.parents[1] / "tools"))
    draw_map = importlib.import_module("draw_map")
    assert draw_map.main(["--check"]) == 0
    for name, below in draw_map.graph().items():
        assert all(layer(other) < layer(name) for other in below), name
    with pytest.raises(ValueError, match="circle: a, b"):
        draw_map.levels({"a": {"b"}, "b": {"a"}, "c": set()})
    assert draw_map.direct({"a": set(), "b": {"a"}, "c": {"a", "b"}})["c"] == {"b"}
