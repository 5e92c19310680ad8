"""What changes a fingerprint of code, and what does not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import helpers
from helpers import experiments
from helpers.experiments.machinery import fingerprint
from helpers.experiments.machinery.fingerprint import Package
from helpers.experiments.machinery.provenance import code_fingerprint

PLAIN = '''
from helpers.losses import Loss
import math as m

class Fitted(Loss):
    """A loss."""
    scale: float = 1e-3

    @property
    def half(self):
        "Half of it."
        return f"{self.scale / 2:.{3}f} {m.pi!r}" + 'it\\'s' if self.scale else b"\\xff"

async def run(a, /, b=(1,), *rest, key=None, **more):
    match a:
        case {"x": [first, *others], **rest}:
            return -1.5j, ..., [first for first in others if first]
    try:
        yield lambda: {**more, "e": None}
    except (ValueError, TypeError) as error:
        raise KeyError from error
    else:
        x: int = 10**30
    del a[1:2, ::3]
'''
# Typed in: every version of Python must arrive at it.
GOLDEN = "4d9e1ee3aae3b6d124e40bfa8077c5aed4c9025f817e44e42ddfd163a87515bb"


def package(tmp_path, **files):
    """A package ``helpers`` of these files; "a/b" is a/b.py."""
    root = tmp_path / "helpers"
    for name, text in files.items():
        path = root / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Package(root)


def of(tmp_path, text, **others):
    """Fingerprint of a module of this text beside others."""
    shutil.rmtree(tmp_path / "helpers", ignore_errors=True)
    return package(tmp_path, **{"losses": "class Loss:\n    x = 1\n", "module": text, **others}).digest(
        "helpers.module"
    )


def test_the_fingerprint_of_a_text_is_the_same_on_every_python(tmp_path):
    assert of(tmp_path, PLAIN) == GOLDEN


@pytest.mark.parametrize("python", ["python3.11", "python3.12", "python3.13", "python3.14"])
def test_other_pythons_of_this_machine_give_the_package_the_same_fingerprints(python):
    """The file needs nothing but Python, so it is run without the package's libraries."""
    program = (
        "import importlib.util, pathlib, sys\n"
        "path, root, *modules = sys.argv[1:]\n"
        "spec = importlib.util.spec_from_file_location('fingerprint', path)\n"
        "sys.modules['fingerprint'] = module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "package = module.Package(pathlib.Path(root))\n"
        "print(*map(package.digest, modules), sep='\\n')\n"
    )
    modules = sorted({experiment.row.__module__ for experiment in experiments.EXPERIMENTS.values()})
    arguments = ["-c", program, fingerprint.__file__, str(Path(helpers.__file__).parent), *modules]
    environment = {**os.environ, "PYENV_VERSION": python.removeprefix("python")}  # lets a shim find it
    if not shutil.which(python) or subprocess.run([python, "-V"], env=environment, capture_output=True).returncode:
        pytest.skip(f"{python} is not on this machine")
    done = subprocess.run([python, *arguments], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == [code_fingerprint(name) for name in modules], done.stderr


IMPORT = "from helpers.losses import Loss"
REWRITTEN = {
    "docstrings": PLAIN.replace("A loss.", "Another sentence\n    on two lines.").replace('"Half of it."', ""),
    "comments and blanks": "# first\n\n\n" + PLAIN.replace("x: int = 10**30", "x: int = 10**30  # big\n\n    # last"),
    "quotes": PLAIN.replace("'it\\'s'", '"it\'s"').replace('{"x"', "{'x'"),
    "breaks and commas": PLAIN.replace(
        "a, /, b=(1,), *rest", "\n    a,\n    /,\n    b=(\n        1,\n    ),\n    *rest"
    ),
    "parentheses": PLAIN.replace("-1.5j, ...", "(-(1.5j)), (...)").replace("TypeError)", "TypeError,)"),
    "numbers": PLAIN.replace("1e-3", "0.001").replace("10**30", "0xA ** 3_0"),
    "joined texts": PLAIN.replace("'it\\'s'", "'it' \"'s\""),
    "a text that does nothing": PLAIN.replace("scale: float = 1e-3", 'scale: float = 1e-3\n    "Its scale."\n    pass'),
    "imports in another place": PLAIN.replace(IMPORT, "").replace("as m\n", f"as m\n{IMPORT}\n"),
    "imports by another way": PLAIN.replace(IMPORT, "from helpers import losses").replace("(Loss)", "(losses.Loss)"),
    "imports in full": PLAIN.replace(IMPORT, "import helpers.losses").replace("(Loss)", "(helpers.losses.Loss)"),
    "imports under another name": PLAIN.replace("import Loss", "import Loss as Cost").replace("(Loss)", "(Cost)"),
    "relative imports": PLAIN.replace("from helpers.losses", "from .losses"),
}


@pytest.mark.parametrize("way", REWRITTEN)
def test_how_code_is_written_down_does_not_count(tmp_path, way):
    assert REWRITTEN[way] != PLAIN
    assert of(tmp_path, REWRITTEN[way]) == of(tmp_path, PLAIN)


CHANGED = [
    ("1e-3", "2e-3"),
    ("1e-3", "1"),
    ("{3}f", "{4}f"),
    ("!r", "!s"),
    ("{m.pi!r}", "m.pi"),
    ("math as m", "cmath as m"),
    ("it\\'s", "its"),
    ('b"\\xff"', "'\\xff'"),
    ("async def", "def"),
    ("a, /, b", "a, b"),
    ("b=(1,)", "b=(1)"),
    ("key=None", "key=False"),
    ("key=None", "key"),
    ("**more, ", ""),
    ("*others", "*other"),
    ("first for first in others", "first for first in other"),
    ("if first]", "]"),
    ("x: int", "x: float"),
    (" from error", ""),
    ("    else:\n", "    finally:\n"),
    ("1:2, ::3", "1:2, ::4"),
    ("(Loss)", ""),
    ("import Loss", "import Other as Loss"),
    ("@property\n", "@m.cache\n"),
    ("-1.5j", "1.5j"),
    ("/ 2", "// 2"),
    ("del a", "a"),
]


@pytest.mark.parametrize(("old", "new"), CHANGED)
def test_what_code_does_counts(tmp_path, old, new):
    assert old in PLAIN
    assert of(tmp_path, PLAIN.replace(old, new, 1)) != of(tmp_path, PLAIN)


USES = "from helpers.deep import made\n\ndef row():\n    return made()\n"
DEEP = {
    "deep": "from helpers.deeper import one\n\ndef made():\n    return one()\n",
    "deeper": "def one():\n    return 1\n",
}


def test_what_is_imported_counts_with_what_it_imports(tmp_path):
    before = of(tmp_path, USES, **DEEP)
    assert of(tmp_path, USES, **(DEEP | {"deeper": "def one():\n    return 2\n"})) != before
    assert of(tmp_path, USES, **(DEEP | {"deeper": '"""One."""\n\ndef one():\n    return (1)  # yes\n'})) == before
    assert of(tmp_path, USES, **DEEP, unrelated="x = 1\n") == before
    unused = "from helpers.deep import made\nfrom helpers.unrelated import x\n\ndef row():\n    return made()\n"
    one, two = (of(tmp_path, unused, **DEEP, unrelated=text) for text in ("x = 1\n", "x = 2\n"))
    assert one != two  # an import may do something, used or not


def test_a_module_may_move_into_a_package_that_hands_its_names_on(tmp_path):
    moved = {
        "deep/__init__": "from helpers.deep.parts import made\n\n__all__ = ['made']\n",
        "deep/parts": DEEP["deep"].replace("helpers.deeper", "helpers.deep.renamed"),
        "deep/renamed": DEEP["deeper"],
    }
    before = of(tmp_path, USES, **DEEP)
    assert of(tmp_path, USES, **moved) == before
    for way in ("from helpers import deep as d", "import helpers.deep as d", "from . import deep as d"):
        text = f"{way}\n\ndef row():\n    return d.made()\n"
        assert of(tmp_path, text, **moved) == of(tmp_path, text, **DEEP) == before


def test_a_function_may_bear_the_name_of_its_module(tmp_path):
    """A package hands on ``rank.rank``: the name is then the function, while imports from the path mean the module."""
    files = {
        "rank/__init__": "from helpers.rank.rank import rank\n",
        "rank/rank": "def rank():\n    return 1\n\ndef other():\n    return 2\n",
    }
    imports = "from helpers.rank import rank\nfrom helpers.rank.rank import other\n"
    text = f"{imports}\ndef row():\n    return rank() + other()\n"
    before = of(tmp_path, text, **files)
    flat = text.replace("helpers.rank.rank", "helpers.flat").replace("helpers.rank", "helpers.flat")
    assert of(tmp_path, flat, flat=files["rank/rank"]) == before
    assert of(tmp_path, text, **(files | {"rank/rank": files["rank/rank"].replace("2", "3")})) != before


def test_the_machinery_counts_by_name_alone(tmp_path):
    text = "from helpers.machinery.runner import Experiment\n\nE = Experiment()\n"
    files = {"machinery/__init__": "", "machinery/runner": "class Experiment:\n    x = 1\n"}
    before = of(tmp_path, text, **files)
    assert of(tmp_path, text, **(files | {"machinery/runner": "class Experiment:\n    x = 2\n"})) == before
    assert of(tmp_path, text.replace("Experiment", "Other"), **files) != before


SHADOWED = "from helpers.deep import made\n\ndef row(made=3):\n    return made\n"


def test_a_name_that_is_also_bound_otherwise_stays_a_name(tmp_path):
    """Else the parameter would read as the imported function."""
    alias = SHADOWED.replace("import made", "import made as other").replace("return made", "return other")
    assert of(tmp_path, SHADOWED, **DEEP) != of(tmp_path, alias, **DEEP)
    changed = DEEP | {"deeper": "def one():\n    return 2\n"}
    assert of(tmp_path, SHADOWED, **DEEP) != of(tmp_path, SHADOWED, **changed)
    moved = {"away": DEEP["deep"], "deeper": DEEP["deeper"]}
    assert of(tmp_path, SHADOWED, **DEEP) == of(tmp_path, SHADOWED.replace("helpers.deep", "helpers.away"), **moved)
    with_other = SHADOWED.replace("from helpers.deep import made", "import helpers.deep as made, os")
    assert of(tmp_path, with_other, **DEEP) != of(tmp_path, with_other.replace("os", "sys"), **DEEP)


def test_one_name_for_two_imports_tells_them_apart(tmp_path):
    one, other = "from helpers.deep import made", "from helpers.deeper import one as made"
    text = "def f():\n    {}\n    return made\n\ndef g():\n    {}\n    return made\n"
    assert of(tmp_path, text.format(one, other), **DEEP) != of(tmp_path, text.format(other, one), **DEEP)


def test_modules_in_a_circle_and_modules_that_are_not_there_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"helpers.module and helpers.back import one another in a circle"):
        of(tmp_path, "from helpers.back import x\n", back="from helpers.module import y\n")
    with pytest.raises(ValueError, match=r"there is no module helpers.gone"):
        of(tmp_path, "from helpers.gone import x\n")


def test_rows_outside_the_package_count_by_their_file(tmp_path, monkeypatch):
    codes = []
    for number in (1, 2):
        (tmp_path / f"mine_{number}.py").write_text(
            f"from helpers.losses import Loss\n\ndef row():\n    return {number}\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        codes.append(code_fingerprint(__import__(f"mine_{number}").__name__))
        sys.modules.pop(f"mine_{number}")
    assert codes[0] != codes[1]
    assert code_fingerprint("typed in") == code_fingerprint("typed in too")


def test_docstrings_of_modules_classes_and_functions_do_not_count(tmp_path):
    bare = "class A:\n    def f(self):\n        return 1\n"
    told = '"""M."""\n\n\nclass A:\n    """C."""\n\n    def f(self):\n        """F."""\n        return 1\n'
    assert of(tmp_path, told) == of(tmp_path, bare)
    assert of(tmp_path, told.replace("return 1", "return 2")) != of(tmp_path, bare)
    assert of(tmp_path, bare.replace("return 1", "return '1'")) != of(tmp_path, bare)
