"""Find measured numbers that were typed into prose: in the book they come from an artefact or from the cell above.

What counts as one: a decimal fraction, a percentage, or a number with "x" or "times", in running text. Not looked at:
formulas, code, links, citations, tables, and fenced blocks that hold exercises or their solutions, where a number is
part of a question. A number that is exact (a constant, a setting, what a source reports) is written as a formula,
``$0.5$``.

    python tools/check_numbers.py [NOTEBOOK or PAGE ...]
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

BOOK = Path(__file__).parents[1] / "book"
NOT_PROSE = [
    re.compile(r"^```.*?^```\s*$", re.M | re.S),  # code, exercises, solutions
    re.compile(r"^(    |\|).*$", re.M),  # indented code, tables
    re.compile(r"\$\$.*?\$\$", re.S),
    re.compile(r"\$[^$]*\$", re.S),
    re.compile(r"`[^`]*`"),
    re.compile(r"\{[a-z:]+\}`?[^`\s]*`?"),
    re.compile(r"\[[^\]]*\]\([^)]*\)"),
    re.compile(r"<[^>]*>"),
    re.compile(r"^:.*$", re.M),  # options of directives
]
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?: ?%| times\b)|(?<![\w.])\d+\.\d+(?!\w|\.\d)")


def typed_numbers(text: str) -> list[str]:
    """The numbers in Markdown text that look measured."""
    for pattern in NOT_PROSE:
        text = pattern.sub(" ", text)
    return [match.group().strip() for match in NUMBER.finditer(text)]


def prose(path: Path) -> Iterator[tuple[str, str]]:
    """Where and what: each text cell of a notebook, or a whole page."""
    if path.suffix != ".ipynb":
        yield path.name, path.read_text(encoding="utf-8")
        return
    in_exercise = False
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] != "markdown":
            continue
        kept = []
        for line in "".join(cell["source"]).splitlines():
            # gated exercises run over several cells
            in_exercise |= line.startswith(("```{exercise-start", "```{solution-start"))
            if not in_exercise:
                kept.append(line)
            in_exercise &= not line.startswith(("```{exercise-end", "```{solution-end"))
        yield f"{path.name}, cell {number}", "\n".join(kept)


def main(names: list[str]) -> int:
    """Print every finding; 1 if there is one."""
    paths = [Path(name) for name in names] or sorted([*BOOK.glob("*.ipynb"), *BOOK.glob("*.md")])
    findings = [
        f"{place}: {', '.join(found)}"
        for path in paths
        for place, text in prose(path)
        if (found := typed_numbers(text))
    ]
    print("\n".join(findings) or "no typed number")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
