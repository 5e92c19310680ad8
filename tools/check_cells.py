"""What a reader of a chapter sees of its code: at most 150 lines, none above 84 characters, and no plotting.

A cell is seen unless a tag folds or removes it (``hide-input``, ``remove-input``, ``remove-cell``); a folded one says
in its metadata (``mystnb.code_prompt_show``) what is inside, and one that draws says in words what is seen
(``mystnb.image.alt``). Solutions of exercises are folded by their directive.

    python tools/check_cells.py [NOTEBOOK ...]
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BOOK = Path(__file__).parents[1] / "book"
MOST_LINES, LONGEST = 150, 84
FOLDED = {"hide-input", "remove-input", "remove-cell", "exercise-solution", "exercise-check"}
PLOTTING = re.compile(
    r"\b(plots\.(?!use\b|table\b|caption\b)\w+|widgets\.\w+|ax\w*\.(set|plot|bar|barh|legend)|plt\.\w+)\b"
)
FIGURE = re.compile(r"\bplots\.figure\(")
CHAPTER = re.compile(r"\d\d-")


def code(path: Path) -> Iterator[tuple[int, set[str], dict[str, Any], list[str]]]:
    """Number, tags, metadata and lines of each code cell."""
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            metadata = cell["metadata"]
            yield number, set(metadata.get("tags", [])), metadata, "".join(cell["source"]).splitlines()


def faults(path: Path) -> list[str]:
    """One sentence for everything that a reader of the notebook should not see, or could not see whole."""
    found, seen = [], 0
    for number, tags, metadata, lines in code(path):
        place = f"{path.name}, cell {number}"
        if not tags & {"remove-cell", "remove-input"}:
            found += [f"{place}: a line of {len(line)} characters" for line in lines if len(line) > LONGEST]
        if "hide-input" in tags and not metadata.get("mystnb", {}).get("code_prompt_show"):
            found.append(f"{place}: folded without a summary: say in mystnb.code_prompt_show what is inside")
        drawn = any(FIGURE.search(line) for line in lines)
        if drawn and "remove-cell" not in tags and not metadata.get("mystnb", {}).get("image", {}).get("alt"):
            found.append(f"{place}: a figure without words: say in mystnb.image.alt what it shows")
        if tags & FOLDED or not CHAPTER.match(path.name):
            continue
        seen += len(lines)
        found += [f"{place}: visible plotting: {line.strip()}" for line in lines if PLOTTING.search(line)]
    if seen > MOST_LINES:
        found.append(f"{path.name}: {seen} visible lines of code, {MOST_LINES} at most: fold what does not teach")
    return found


def main(names: list[str]) -> int:
    """Print every fault; 1 if there is one."""
    paths = [Path(name) for name in names] or sorted(BOOK.glob("*.ipynb"))
    found = [fault for path in paths for fault in faults(path)]
    print("\n".join(found) or "no visible plotting, no long line, no chapter with too much code")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
