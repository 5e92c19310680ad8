"""Draw the map of the package in ``CONTRIBUTING.md`` from its imports: what stands on what, and what each module asks.

python tools/draw_map.py [--check]
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "helpers"
TARGET = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- the map: made by tools/draw_map.py -->", "<!-- end of the map -->"

Imports = dict[str, set[str]]


def modules() -> dict[str, list[Path]]:
    """Every module or package directly under ``helpers`` that a reader opens, with its files."""
    found = {path.stem: [path] for path in PACKAGE.glob("*.py") if not path.stem.startswith("_")}
    found |= {init.parent.name: sorted(init.parent.rglob("*.py")) for init in PACKAGE.glob("*/__init__.py")}
    return found


def imports(files: list[Path]) -> set[str]:
    """First names under ``helpers`` that the files import."""
    names = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "helpers":
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helpers."):
                names.add(node.module.split(".")[1])  # type: ignore[union-attr]
    return names


def graph() -> Imports:
    """What each module imports of the others."""
    known = modules()
    return {name: (imports(files) & set(known)) - {name} for name, files in known.items()}


def levels(imported: Imports) -> dict[str, int]:
    """Length of the longest way down from each module: what stands on nothing has level 0.

    Raises:
        ValueError: if two modules import each other, directly or by others.
    """
    level: dict[str, int] = {}
    while len(level) < len(imported):
        ready = [name for name in imported if name not in level and imported[name] <= set(level)]
        if not ready:
            raise ValueError(f"modules import each other in a circle: {', '.join(sorted(set(imported) - set(level)))}")
        level |= {name: max((level[below] + 1 for below in imported[name]), default=0) for name in ready}
    return level


def direct(imported: Imports) -> Imports:
    """The imports that no way through another module implies."""

    def reached(name: str) -> set[str]:
        return imported[name].union(*(reached(below) for below in imported[name])) if imported[name] else set()

    return {
        name: {below for below in names if not any(below in reached(other) for other in names - {below})}
        for name, names in imported.items()
    }


def question(name: str) -> str:
    """First line of the docstring."""
    path = next(path for path in (PACKAGE / f"{name}.py", PACKAGE / name / "__init__.py") if path.exists())
    return (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]


def drawn() -> str:
    """The map in Markdown: a diagram of the direct imports, and a table: what serves all chapters, then by chapter."""
    imported = graph()
    level = levels(imported)
    order = sorted(imported, key=lambda name: (level[name], name))
    arrows = [f"    {below} --> {name}" for name in order for below in sorted(direct(imported)[name])]
    packages = {name for name, files in modules().items() if len(files) > 1}
    chapter = {name: int(found[1]) if (found := re.match(r"Chapters? (\d+)", question(name))) else 0 for name in order}
    by_chapter = sorted(order, key=lambda name: chapter[name])
    table = [f"| `{name}{'/' if name in packages else ''}` | {question(name)} |" for name in by_chapter]
    return "\n".join(["```mermaid", "flowchart TD", *arrows, "```", "", "| module | asks |", "|---|---|", *table])


def main(arguments: list[str]) -> int:
    text = TARGET.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    new = f"{before}{BEGIN}\n\n{drawn()}\n\n{END}{after}"
    if "--check" in arguments:
        if new != text:
            print("the map in CONTRIBUTING.md is not that of the code; run: python tools/draw_map.py")
        return int(new != text)
    TARGET.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
