"""Put notebooks into the book's one form, or with ``--check`` say which are not in it.

The form: nbformat 4.5, sorted keys, one space of indentation, a newline at the end, cell ids kept, one kernel entry,
and no outputs or execution counts except in code cells tagged ``nbval-check-output``, whose short text output is the
record that the tests compare with (their count is 1). Figures and widgets are made by the build and never stored.

    python tools/normalize_notebooks.py [--check] NOTEBOOK ...
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

KEEP_OUTPUT = "nbval-check-output"
NOTEBOOK_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
PASSING_METADATA = {"ExecuteTime", "collapsed", "execution", "id", "outputId", "scrolled"}


def as_lines(text: str | list[str]) -> list[str]:
    """A multi-line string as notebooks store it: a list of lines that keep their line ends."""
    return ("".join(text)).splitlines(keepends=True)


def normal_output(output: dict[str, Any]) -> dict[str, Any]:
    """A kept output with nothing in it that changes from run to run."""
    kept = dict(output)
    if "execution_count" in kept:
        kept["execution_count"] = None
    if "text" in kept:
        kept["text"] = as_lines(kept["text"])
    if "data" in kept:
        kept["data"] = {"text/plain": as_lines(kept["data"]["text/plain"])}
        kept["metadata"] = {}
    return kept


def normal_cell(cell: dict[str, Any]) -> dict[str, Any]:
    """One cell in the book's form."""
    metadata = {key: value for key, value in cell.get("metadata", {}).items() if key not in PASSING_METADATA}
    source = as_lines("".join(cell["source"]).rstrip())
    normal = {**cell, "metadata": metadata, "source": source}
    if cell["cell_type"] == "code":
        keep = KEEP_OUTPUT in metadata.get("tags", [])
        outputs = [normal_output(output) for output in cell.get("outputs", [])] if keep else []
        # nbval takes a cell without a count for one that was never run, and refuses to compare with its output
        normal |= {"execution_count": 1 if outputs else None, "outputs": outputs}
    return normal


def with_ids(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cells, each with an id of its own: the one it has, or one made from its text."""
    seen: set[str] = set()
    for cell in cells:
        name = cell.get("id", "")
        salt = 0
        while not name or name in seen:
            name = hashlib.sha256(f"{salt}{''.join(cell['source'])}".encode()).hexdigest()[:8]
            salt += 1
        seen.add(name)
        cell["id"] = name
    return cells


def normalize(text: str) -> str:
    """The notebook ``text`` (JSON, nbformat 4) in the book's form; ValueError if it is not such a notebook."""
    notebook = json.loads(text)
    if notebook.get("nbformat") != 4:
        raise ValueError("not a notebook of nbformat 4: open it once in Jupyter and save it.")
    normal = {
        "cells": with_ids([normal_cell(cell) for cell in notebook["cells"]]),
        "metadata": NOTEBOOK_METADATA,
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(normal, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def main(arguments: list[str]) -> int:
    """Rewrite the notebooks named, or check them; the exit status is 1 if ``--check`` found one to rewrite."""
    check = "--check" in arguments
    other = []
    for path in (Path(name) for name in arguments if name != "--check"):
        text = path.read_text(encoding="utf-8")
        normal = normalize(text)
        if normal != text:
            other.append(path)
            if not check:
                path.write_text(normal, encoding="utf-8")
    for path in other:
        print(f"{path} is not in the book's form: run `make format`." if check else f"{path}: rewritten")
    return int(check and bool(other))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
