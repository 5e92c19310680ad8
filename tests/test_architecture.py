"""Data flow one way: what a module of ``helpers`` imports stands above it, and the chapters stand in their order."""

import ast
import importlib
import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

import helpers
from helpers import experiments

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
    {"supersample"},
    {"langevin"},
    {"convex"},
    {"excess_risk", "exchange"},
]
LAYERS = [
    {"_checks", "_generators", "_precision", "_tensors"},
    {"data", "losses"},
    {"models"},
    {"training"},
    {"curvature"},
    *CHAPTERS,
    {"measurement"},
    {"experiments"},
    {"exercises"},
    {"plots"},
    {"comparison"},
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
    inside = {"_checks", "_generators", "_precision", "_tensors", "__main__", "__init__"}
    assert set().union(*LAYERS) - inside == set(helpers.__all__) - {"bounds"}


def test_the_house_has_few_doors_and_no_long_rooms():
    assert len(list(ROOT.glob("*.py"))) <= MOST_FLAT
    longest = {path.name: len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in longest.items() if lines > MOST_LINES} == {}


def test_no_two_modules_have_one_name():
    names = [path.stem for path in SOURCES if path.name != "__init__.py"]
    names += [path.parent.name for path in SOURCES if path.name == "__init__.py"]
    assert {name for name in names if names.count(name) > 1} == set()


def test_an_experiment_is_found_by_the_name_of_its_artefact():
    """Its module has that name, or the table in ``helpers.experiments`` says which one it is."""
    told, module = {}, ""
    for left, right in re.findall(
        r"^(``.*?``),?(?:  +``(\w+)``)?$", experiments.__doc__.split("\nexperiment ")[1], re.M
    ):
        module = right or module  # a row that goes on says it once
        told |= dict.fromkeys(re.findall(r"``([\w-]+)``", left), module)
    homes = {name: one.row.__module__.split(".")[-1] for name, one in experiments.EXPERIMENTS.items()}
    files = {path.stem for path in (ROOT / "experiments").glob("*.py")}
    assert told == {name: module for name, module in homes.items() if name.replace("-", "_") not in files}


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


# --- One name for one thing -------------------------------------------------------------------------------------------

EVERY_EXPERIMENT_HAS = {"points", "row"}
TWO_THINGS_OF_ONE_NAME = {
    "bound": "the bound of a chapter, as the interface has it: xu_raginsky.bound, neu.bound, supersample.bound",
    "leave_one_out": "as the interface has it: a bound of langevin, a centre of omniscient",
    "load": "each reads what its package keeps: a data set, a run, an artefact",
    "caption": "of an artefact (library) and of a figure (plots), which takes the former as a part",
}


def defined(text):
    """Public functions, classes and aliases of types that a source text defines at its top."""
    names = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    return [name for name in names if not name.startswith("_") and not name.isupper()]


def test_a_public_name_is_one_thing():
    """Constants in capitals speak of their own module, and may repeat."""
    counts = Counter(name for path in SOURCES for name in set(defined(path.read_text())))
    twice = {name for name, count in counts.items() if count > 1}
    assert twice - EVERY_EXPERIMENT_HAS == set(TWO_THINGS_OF_ONE_NAME)


def test_definitions_are_seen():
    text = "X = 1\nTable = tuple[str]\n_hidden = 2\ndef f(): ...\nclass Case: ...\nside: int = 3\n"
    assert defined(text) == ["Table", "f", "Case", "side"]


# --- Nothing that only tests call -------------------------------------------------------------------------------------

FOR_READERS = {
    "gauss_newton_operator": "the product with the Gauss-Newton matrix, for solvers of a reader's own",
    "check_deterministic": "whether a network of a reader's own can be measured at all",
    "PerSequence": "a loss for sequences; refusals of other shapes recommend it",
    "split_half": "a centre that the theorem allows, to compare leave_one_out with",
    "recorded_gradients": "gradients from a reader's own recorded path, for neu.sensitivity",
    "block_soft_rank": "the member of the family between the whole matrix and its diagonal",
    "empirical_fisher": "C of Takeuchi's criterion, dense, for a small network of a reader's own",
}


def used(text):
    """Names that a source text reads, by themselves or as attributes."""
    nodes = list(ast.walk(ast.parse(text)))
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)} | {
        node.attr for node in nodes if isinstance(node, ast.Attribute)
    }


def test_what_is_public_is_used_by_more_than_tests():
    """What neither the package nor a tool reads, nor a chapter or the ledger of claims names: readers ask for it."""
    root = ROOT.parents[1]
    code = [path.read_text() for folder in ("src", "tools", "benchmarks") for path in (root / folder).rglob("*.py")]
    read = set().union(*map(used, code))
    notebooks = [json.loads(path.read_text()) for path in (root / "book").glob("*.ipynb")]
    pages = ["".join(cell["source"]) for notebook in notebooks for cell in notebook["cells"]]
    words = set(re.findall(r"\w+", " ".join([*pages, (root / "book" / "claims.yml").read_text()])))
    public = {
        node.name
        for path in SOURCES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    }
    assert public - read - words == set(FOR_READERS)
