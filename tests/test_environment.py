"""pyproject.toml, constraints.txt, environment.yml and the version numbers say the same thing."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import helpers

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
DIRECT = [Requirement(text) for text in chain(PROJECT["dependencies"], *EXTRAS.values())]
CONSTRAINT_LINES = [
    line
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
PINS = {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in CONSTRAINT_LINES)}


def closure(wanted: list[Requirement], seen: dict[str, frozenset[str]]) -> Iterator[str]:
    """The names of all packages that ``wanted`` bring with them into this environment."""
    for requirement in wanted:
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if name in seen and extras <= seen[name]:
            continue
        seen[name] = seen.get(name, frozenset()) | extras
        yield name
        try:
            further = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            continue  # needed on another platform only
        environments = [{"extra": extra} for extra in extras or {""}]
        asked = [r for r in further if r.marker is None or any(map(r.marker.evaluate, environments))]
        yield from closure(asked, seen)


def extras_in(text: str) -> set[str]:
    """The extras that a command such as ``pip install -e '.[book,test]'`` asks for."""
    found = re.search(r"\.\[([a-z,]+)\]", text)
    return set(found[1].split(",")) if found else set()


@pytest.mark.parametrize("requirement", DIRECT, ids=str)
def test_every_pin_lies_in_the_range_of_pyproject(requirement: Requirement) -> None:
    assert PINS[canonicalize_name(requirement.name)] in requirement.specifier


def test_constraints_are_the_full_closure() -> None:
    assert sorted(set(closure(DIRECT, {})) - PINS.keys()) == []


def test_constraints_are_exact_versions_and_nothing_else() -> None:
    bad = [line for line in CONSTRAINT_LINES if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line)]
    assert bad == []
    assert list(PINS) == sorted(PINS)


def test_the_locked_files_are_those_of_the_pins() -> None:
    """Of every pin that is needed on some platform the lock has the hashes, and no other version of it."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    entries = [line for line in text.splitlines() if line and not line.startswith("#")]
    form = re.compile(r"([a-z0-9-]+)==(\S+)(?: ; [^\\]*?)?((?: +--hash=sha256:[0-9a-f]{64})+)")
    parsed = [form.fullmatch(entry) for entry in entries]
    assert [entry for entry, found in zip(entries, parsed, strict=True) if found is None] == []
    locked = {found[1]: Version(found[2]) for found in parsed if found is not None}
    assert {name: version for name, version in locked.items() if PINS.get(name, version) != version} == {}
    assert sorted(set(closure(DIRECT, {})) - locked.keys()) == []


def test_every_action_is_one_commit_with_its_version_beside_it() -> None:
    """A tag can be moved to other code after it was read; a commit cannot."""
    used = [
        (path.name, line.split("uses:")[1].strip())
        for path in (ROOT / ".github/workflows").glob("*.yml")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "uses:" in line
    ]
    assert used
    pinned = re.compile(r"\./\S+|[\w-]+/[\w/-]+@[0-9a-f]{40} # v\d+(\.\d+)*")
    assert [(name, action) for name, action in used if not pinned.fullmatch(action)] == []
    versions = {action.split("@")[0]: action for _, action in used}
    assert all(versions[action.split("@")[0]] == action for _, action in used)  # one version of each


WORKFLOWS = {
    path.stem: yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)
    for path in (ROOT / ".github/workflows").glob("*.yml")
}


def commands_of(job: dict[str, Any]) -> str:
    return "\n".join(step.get("run", "") for step in job.get("steps", []))


@pytest.mark.parametrize("name", sorted(WORKFLOWS.keys() - {"audit", "nightly"}))
def test_a_known_vulnerability_stops_every_workflow_that_builds(name: str) -> None:
    """The nightly one tells of it beside the rest; the others wait for it."""
    jobs = WORKFLOWS[name]["jobs"]
    assert jobs["audit"]["uses"] == "./.github/workflows/audit.yml"
    builds = [job for job in jobs.values() if re.search(r"\bmake\b|\.ci/run|\bpip\b", commands_of(job))]
    assert builds
    assert [job for job in builds if job.get("needs") != "audit"] == []


def test_the_audit_asks_for_the_files_of_the_lock_and_is_called() -> None:
    assert list(WORKFLOWS["audit"]["on"]) == ["workflow_call"]
    (job,) = WORKFLOWS["audit"]["jobs"].values()
    assert "pip-audit --strict --requirement requirements.lock --require-hashes" in commands_of(job)
    assert WORKFLOWS["nightly"]["jobs"]["audit"]["uses"] == "./.github/workflows/audit.yml"


MAY_WRITE = {  # rights beside reading; such a job runs nothing that the repository or its dependencies bring
    ("publish-pages", "deploy"): {"id-token", "pages"},
    ("publish-pages", "notebooks"): {"contents"},
    ("release", "publish"): {"attestations", "contents", "id-token"},
}


@pytest.mark.parametrize(
    ("name", "job"), [(name, job) for name in sorted(WORKFLOWS) for job in WORKFLOWS[name]["jobs"]]
)
def test_a_job_has_no_more_rights_than_its_work_needs(name: str, job: str) -> None:
    workflow = WORKFLOWS[name]
    content = workflow["jobs"][job]
    rights = content.get("permissions", workflow["permissions"])
    assert {right for right, kind in rights.items() if kind != "read"} == MAY_WRITE.get((name, job), set())
    assert {right for right, kind in rights.items() if kind == "read"} <= {"contents"}
    if (name, job) in MAY_WRITE:
        assert not re.search(r"\bmake\b|\.ci/|\bpython|\bpip\b", commands_of(content))
    else:  # and leaves no credentials behind for the code that it runs
        checkouts = [step for step in content.get("steps", []) if "actions/checkout" in step.get("uses", "")]
        assert all(step.get("with", {}).get("persist-credentials") == "false" for step in checkouts)


def planned(*arguments: str, folder: Path = ROOT, **environment: str) -> list[str]:
    """The commands that make would run."""
    command = ["make", "--dry-run", "--always-make", "--no-print-directory", *arguments]
    named = ("PYTHON", "LOCKED", "TORCH_FROM", "CPU")
    left = {name: value for name, value in os.environ.items() if name not in named}
    done = subprocess.run(command, cwd=folder, env=left | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_with_the_lock_nothing_is_fetched_that_has_no_hash() -> None:
    """Neither a package that the lock forgot nor what builds the wheel: both come from the lock, or not at all."""
    asking = [line for line in planned("release", "LOCKED=1") if re.search("pip (install|wheel)", line)]
    locked, editable, wheel = asking
    assert "--require-hashes -r requirements.lock" in locked
    assert {"--no-deps", "--no-build-isolation"} <= set(editable.split())
    assert {"--no-deps", "--no-build-isolation"} <= set(wheel.split())
    assert not any("--no-build-isolation" in line for line in planned("release"))
    building = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    for requirement in map(Requirement, building):
        assert PINS[canonicalize_name(requirement.name)] in requirement.specifier
        assert re.search(
            rf"^{requirement.name}==\S+ \\$", (ROOT / "requirements.lock").read_text("utf-8"), re.MULTILINE
        )


def test_altered_artefacts_stop_the_book_before_a_notebook_runs() -> None:
    lines = planned("book")
    (verified,) = [i for i, line in enumerate(lines) if line.endswith("python -m helpers verify")]
    (first,) = [i for i, line in enumerate(lines) if "jcache" in line and " execute " in line]
    assert verified < first


def test_the_kernels_of_the_book_say_nothing_unless_something_is_wrong(tmp_path: Path) -> None:
    """Each would warn that it is not encrypted, though it speaks to this machine alone."""
    lines = planned("book")
    (settings,) = [line for line in lines if "ipython_kernel_config" in line]
    (executed,) = [line for line in lines if "jcache" in line and " execute " in line]
    folder = executed.split()[0].removeprefix("IPYTHONDIR=")
    assert subprocess.run(["sh", "-c", settings], cwd=tmp_path).returncode == 0
    kernel = "from ipykernel.kernelapp import IPKernelApp; IPKernelApp().initialize([])"
    places = {"IPYTHONDIR": str(tmp_path / "_build" / "ipython"), "JUPYTER_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", kernel], env=os.environ | places, capture_output=True, text=True)
    assert (done.returncode, "WARNING" in done.stderr) == (0, False)
    assert Path(folder) == ROOT / "_build" / "ipython"
    assert executed.split()[1] == "TQDM_DISABLE=1"  # the bar of a computation that is over would be a dead widget


@pytest.mark.parametrize("place", ["command line", "environment"])
def test_an_environment_of_another_python_is_no_answer_to_a_named_one(tmp_path: Path, place: str) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    installed = tmp_path / ".venv" / "bin" / "python"
    installed.parent.mkdir(parents=True)
    installed.touch(mode=0o755)

    def asked(target: str) -> list[str]:
        named = f"PYTHON={sys.executable}"
        arguments, environment = ((named,), {}) if place == "command line" else ((), {"PYTHON": sys.executable})
        return planned(target, *arguments, folder=tmp_path, **environment)

    installed.write_text("#!/bin/sh\necho 2 7\n")
    with pytest.raises(AssertionError, match=r"was made by another Python than .*: run make distclean"):
        asked("setup")
    assert asked("distclean")
    installed.write_text(f"#!/bin/sh\necho {sys.version_info[0]} {sys.version_info[1]}\n")
    assert asked("setup")


def test_only_pins_of_the_installed_version_are_hosted_elsewhere() -> None:
    """A build for the processor is a build of the same version, and the other place is asked for nothing else."""
    (asking,) = [line for line in planned("setup", "TORCH_FROM=elsewhere") if "elsewhere" in line]
    assert asking.startswith("PIP_FIND_LINKS='elsewhere/torch/ elsewhere/torchvision/' ")
    assert asking.endswith(" --no-deps --no-index -c constraints.txt torch torchvision")


def test_one_word_brings_the_builds_for_the_processor() -> None:
    """They are there before pip looks for PyTorch, in the versions of the pins; uv alone knows from where."""
    lines = planned("setup", "CPU=1")
    (getting,) = [i for i, line in enumerate(lines) if "--torch-backend" in line]
    (rest,) = [i for i, line in enumerate(lines) if " -e " in line]
    assert lines[getting] == (
        ".venv/bin/uv pip install --quiet --python .venv/bin/python --torch-backend cpu --no-deps -c constraints.txt "
        "torch torchvision"
    )
    (asked,) = [i for i, line in enumerate(lines) if "pip install --quiet 'uv" in line]
    assert asked < getting < rest
    for other in ([], ["CPU=0"], ["TORCH_FROM=elsewhere"]):
        assert not any(re.search(r"\buv\b", line) for line in planned("setup", *other))


def test_without_uv_it_is_said_what_to_do(tmp_path: Path) -> None:
    lines = planned("setup", "CPU=1")
    (first,) = [i for i, line in enumerate(lines) if "pip install --quiet 'uv" in line]
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    done = subprocess.run(["sh", "-c", lines[first]], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.startswith("CPU=1 needs uv and pip could not install it: ")
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize("both", [("CPU=1", "LOCKED=1"), ("TORCH_FROM=x", "LOCKED=1"), ("CPU=1", "TORCH_FROM=x")])
def test_two_sources_of_one_thing_exclude_each_other(both: tuple[str, str]) -> None:
    with pytest.raises(AssertionError, match="exclude each other: "):
        planned("setup", *both)


def imports_of(path: Path) -> set[str]:
    """The first names of all modules that a notebook's code imports."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    found = set()
    for source in sources:
        for node in ast.walk(ast.parse(re.sub(r"^(\s*)[%!].*", r"\1pass", source, flags=re.MULTILINE))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("notebook", sorted((ROOT / "book").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_imports_only_what_comes_with_the_package(notebook: Path) -> None:
    """A reader has the package, as Colab's first cell installs it, and none of the extras."""
    brought = set(closure([Requirement(text) for text in PROJECT["dependencies"]], {}))
    givers = packages_distributions()
    imports = imports_of(notebook)
    assert imports
    missing = [
        name
        for name in imports - sys.stdlib_module_names - {"helpers"}
        if not brought & set(map(canonicalize_name, givers.get(name, [])))
    ]
    assert missing == []


def test_conda_users_get_the_same() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python = next(item for item in environment["dependencies"] if str(item).startswith("python="))
    pip = next(item["pip"] for item in environment["dependencies"] if isinstance(item, dict))
    assert environment["name"] == PROJECT["name"]
    assert python.removeprefix("python=") in SpecifierSet(PROJECT["requires-python"])
    assert pip[0] == "--constraint constraints.txt"
    assert extras_in(pip[1]) == EXTRAS.keys()


def test_binder_gets_every_dependency_of_the_package_and_pytorch_for_the_processor() -> None:
    environment = yaml.safe_load((ROOT / ".binder/environment.yml").read_text(encoding="utf-8"))
    python, pip, *others = environment["dependencies"]
    assert python.removeprefix("python=") in SpecifierSet(PROJECT["requires-python"])
    assert (pip, environment["channels"]) == ("pip", ["conda-forge"])
    after = (ROOT / ".binder/postBuild").read_text(encoding="utf-8")
    (command,) = [line for line in after.splitlines() if "pip install" in line]
    assert {"--no-deps", "--editable", "."} <= set(command.split())
    found = [Requirement(text) for text in (*others, *re.findall(r"'(.*?)'", command))]
    given = {one.name.replace("pytorch-cpu", "torch"): one.specifier for one in found}
    wanted = {one.name: one.specifier for one in map(Requirement, PROJECT["dependencies"])}
    lab = {one.name: one.specifier for one in map(Requirement, EXTRAS["lab"])}
    assert given == wanted | {"jupyterlab-myst": lab["jupyterlab-myst"]}
    assert os.access(ROOT / ".binder/postBuild", os.X_OK)


def test_make_installs_what_conda_users_get() -> None:
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    install = next(line for line in lines if "pip install" in line and " -e " in line)
    assert "-c constraints.txt" in install
    assert extras_in(install) == EXTRAS.keys()


def test_one_version_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## (\S+) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert PROJECT["version"] == helpers.__version__ == str(citation["version"]) == newest[1]
    assert str(citation["date-released"]) == newest[2]
    repository = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    assert repository["path_to_book"] == f"v{PROJECT['version']}"


def test_a_tag_puts_its_notebooks_where_the_rocket_looks_for_them() -> None:
    """Branch and folder are those of the addresses in the pages: ``BRANCH/TAG/book/NAME.ipynb``."""
    jobs = WORKFLOWS["publish-pages"]["jobs"]
    (kept,) = [step["with"] for step in jobs["build"]["steps"] if step.get("with", {}).get("name") == "notebooks"]
    assert kept["path"] == "_build/html/_sources/book/*.ipynb"
    commands = commands_of(jobs["notebooks"])
    branch = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["branch"]
    assert f"git switch {branch} " in commands
    assert f"git push origin {branch}\n" in commands
    assert 'cp "$RUNNER_TEMP"/notebooks/*.ipynb "$VERSION/book/"' in commands
    assert jobs["notebooks"]["steps"][-1]["env"]["VERSION"] == "${{ github.ref_name }}"


def test_import_of_the_package_is_light() -> None:
    heavy = ("torch", "matplotlib", "ipywidgets", "numpy")
    code = f"import sys, helpers; print(*(m for m in {heavy} if m in sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == ""


FIRST = "".join(
    json.loads((ROOT / "book" / "01-generalization-gap.ipynb").read_text(encoding="utf-8"))["cells"][1]["source"]
)


@pytest.mark.parametrize("foreign", ["nothing", "a module", "a package"])
def test_the_first_cell_tells_the_books_package_from_another(foreign: str, tmp_path: Path) -> None:
    if foreign == "a module":
        (tmp_path / "helpers.py").touch()
    if foreign == "a package":
        (tmp_path / "helpers").mkdir()
        (tmp_path / "helpers" / "__init__.py").touch()
    code = re.sub(r"^ *%pip.*$", "    pass", FIRST, flags=re.MULTILINE)
    search = (
        f"import sys; sys.path[:] = [{str(tmp_path)!r}, *(p for p in sys.path if 'python' in p and 'site' not in p)]"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"{search}\n{code}"], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip().endswith(
        "ImportError: helpers is not installed, or another of that name is found: see Set-up"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_notebook_installs_that_version_on_colab() -> None:
    installed = re.compile(r"flatness-and-information/book@v([\w.]+)")
    for notebook in sorted((ROOT / "book").glob("*.ipynb")):
        assert set(installed.findall(notebook.read_text(encoding="utf-8"))) == {PROJECT["version"]}, notebook.name
