"""Data flow one way: a module of ``helpers`` imports only from layers to its left, and the layers are these."""

import ast
from pathlib import Path

import pytest

import helpers

ROOT = Path(helpers.__file__).parent
LAYERS = [
    {"_checks"},
    {"data", "losses"},
    {"models", "augment"},
    {"training"},
    {"curvature"},
    {
        "alignment", "convex", "dispersion", "exchange", "flatness", "information", "isotropic", "learners",
        "linear_gaussian", "networks", "neu", "omniscient", "pac_bayes", "perturbed", "regularizers", "relu_minima",
        "soft_rank", "stability", "surrogate", "wang_mao", "xu_raginsky",
    },
    {"experiments"},
    {"plots"},
    {"_chart", "plane", "widgets"},
    {"__main__", "__init__"},
]  # fmt: skip


def layer(module):
    found = [i for i, names in enumerate(LAYERS) if module in names]
    assert found, f"{module} has no layer: give it one in tests/test_architecture.py"
    return found[0]


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
    """Imports of a module that lie in a layer to its right."""
    return {name for name in imported(text) if name != module and layer(name) > layer(module)}


SOURCES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_follow_the_arrow(path):
    found = against_the_arrow(module_of(path), path.read_text())
    assert not found, f"{module_of(path)} imports {', '.join(sorted(found))}, which lie to its right"


def test_an_import_against_the_arrow_is_seen():
    assert against_the_arrow("losses", "from helpers.training import Run") == {"training"}
    assert against_the_arrow("curvature", "from helpers import omniscient, data") == {"omniscient"}
    assert against_the_arrow("neu", "import helpers.widgets") == {"widgets"}
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


def test_no_module_is_longer_than_a_room_to_live_in():
    longest = {path.name: len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in longest.items() if lines > 350} == {}
