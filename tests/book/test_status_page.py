"""The status page shows what artefacts say as text, whatever that is."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from markdown_it import MarkdownIt

from helpers import experiments
from helpers.experiments import library

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = ["<script>alert(1)</script>", "a | b", "`c` {raw}`d`", "![e](https://x.example/f)", "_g_ **h**", "i\n\n# j"]


def test_what_an_artefact_says_is_shown_letter_by_letter(monkeypatch: Any) -> None:
    cells = json.loads((ROOT / "book" / "status.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(sources) == 5
    said = iter(HOSTILE * 2 * len(experiments.EXPERIMENTS))

    def best(name: str) -> SimpleNamespace:
        told = {"seconds": 1.0, "commit": next(said), "code": "", "device": next(said)}
        return SimpleNamespace(finished=[], rows=[], provenance=told, profile="laptop")

    monkeypatch.setattr(library, "best", best)
    shown: list[str] = []

    def written(text: str) -> SimpleNamespace:
        shown.append(text)
        return SimpleNamespace(data=text)

    space: dict[str, Any] = {}
    for source in sources[1:]:
        exec(source, space)
        space["Markdown"] = written
    (table,) = [text for text in shown if text.startswith("| experiment")]
    tokens = MarkdownIt("commonmark").enable("table").parse(table)
    assert {token.type.removesuffix("_open").removesuffix("_close") for token in tokens} == {
        "table", "thead", "tbody", "tr", "th", "td", "inline",
    }  # fmt: skip
    inline = [token.children or [] for token in tokens if token.type == "inline"]
    assert {child.type for children in inline for child in children} <= {"text", "text_special"}
    texts = ["".join(child.content for child in children) for children in inline]
    assert len(texts) == 7 * (1 + len(experiments.EXPERIMENTS))
    assert set(HOSTILE) <= set(texts)
