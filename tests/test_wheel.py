"""What is installed from a wheel has the book's numbers with it, and writes to a folder of the reader's."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = ("book/claims.yml", "book/claims-sources.yml", "book/mutation.json")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package as a wheel leaves it, in a folder of its own; built from a copy, so that nothing is left here."""
    source, wheels, target = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "target"))
    for name in ("src", "book/results"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", *DATA):
        shutil.copyfile(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run([*command, "-w", str(wheels), str(source)], check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def elsewhere(target, folder, *arguments):
    """A Python process that runs the installed package in a reader's home, far from the checkout."""
    environment = {key: value for key, value in os.environ.items() if key not in ("HELPERS_RESULTS", "XDG_DATA_HOME")}
    environment |= {"PYTHONPATH": str(target), "HOME": str(folder)}
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


PROGRAM = """
import json, helpers
from helpers.experiments.machinery import library
print(json.dumps({
    "package": helpers.__file__,
    "rows": library.best("convex").finished,
    "claims": (library.book() / "claims.yml").read_text(encoding="utf-8"),
    "benchmark": library.benchmark("training"),
    "folder": str(library.folder()),
}))
"""


def test_the_installed_library_has_the_books_numbers_and_claims(installed, tmp_path):
    told = json.loads(elsewhere(installed, tmp_path, "-c", PROGRAM))
    assert Path(told["package"]).is_relative_to(installed)
    results = ROOT / "book" / "results"
    assert told["rows"] == json.loads((results / "convex.laptop.json").read_text())["rows"]
    assert told["claims"] == (ROOT / "book" / "claims.yml").read_text(encoding="utf-8")
    assert told["benchmark"] == json.loads((results / "bench-training.json").read_text())
    assert told["folder"] == str(tmp_path / ".local" / "share" / "flatness-and-information" / "results")


def test_the_installed_commands_read_both_folders_and_write_to_the_readers(installed, tmp_path):
    commands = ["run dispersion --profile smoke --set epochs=1", "show dispersion", "verify"]
    program = "".join(f"assert main({command.split()}) == 0; print('---')\n" for command in commands)
    told = elsewhere(installed, tmp_path, "-c", f"from helpers.__main__ import main\n{program}")
    ran, shown, verified, _ = told.split("---\n")
    path = tmp_path / ".local" / "share" / "flatness-and-information" / "results" / "dispersion.smoke.json"
    assert ran.startswith(f"{path}: ")
    assert f"{path}: " in shown
    assert f"{installed / 'helpers' / '_book' / 'results' / 'dispersion.laptop.json'}: " in shown
    count = len(list((ROOT / "book" / "results").glob("*.json")))
    assert f"\n{count + 1} artefacts, 0 failed\n" in verified


@pytest.mark.parametrize("name", ["claims", "cost", "intro", "status"])
def test_pages_made_of_the_books_data_run_from_a_readers_folder(installed, tmp_path, name):
    """As a downloaded notebook does: cell by cell, with nothing of the checkout in sight."""
    cells = json.loads((ROOT / "book" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    lines = "\n".join(source for source in code if "%pip" not in source)
    before = "import matplotlib; matplotlib.use('agg')\nfrom IPython.display import display"
    program = f"{before}\n{lines}\nprint(library.book())\n"
    told = elsewhere(installed, tmp_path, "-c", program)
    assert told.strip().splitlines()[-1] == str(installed / "helpers" / "_book")


def test_the_command_has_a_name(installed):
    (scripts,) = installed.glob("*.dist-info/entry_points.txt")
    assert "flatness-and-information = helpers.__main__:main" in scripts.read_text()


def test_the_page_of_the_package_leads_to_the_book(installed):
    """The README is shown there too, where a relative address leads nowhere."""
    (metadata,) = installed.glob("*.dist-info/METADATA")
    head, _, readme = metadata.read_text(encoding="utf-8").partition("\n\n")
    labels = {line.split(": ", 1)[1].split(",")[0] for line in head.splitlines() if line.startswith("Project-URL: ")}
    assert labels == {"Homepage", "Repository", "Changelog"}
    addresses = re.findall(r"\]\(([^)]+)\)", readme)
    assert len(addresses) >= 5
    assert [address for address in addresses if not address.startswith("https://")] == []
