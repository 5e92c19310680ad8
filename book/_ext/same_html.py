"""Sphinx extension: the same commit gives the same pages, whenever it is built.

What differs from run to run of a kernel, and tells a reader nothing, is taken out of the pages:

- the identifiers of widgets, 32 random hexadecimal digits each, become numbers in the order of the page;
- the addresses in memory that Python writes for functions and objects (``<function f at 0x7f...>``) are left out;
- what a cell prints is one box, into however many messages the kernel, which sends five times a second, divided it.

Not touched is the day of the build, which the status page states.
"""

import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

WIDGET_STATE = re.compile(r'<script type="application/vnd\.jupyter\.widget-state\+json">(.*?)</script>', re.DOTALL)
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,16}(?=>|&gt;)", re.IGNORECASE)


def number_widgets(page: str) -> str:
    """The page with 0...01 for the identifier of its first widget model wherever that stands, 0...02 for the next."""
    states = WIDGET_STATE.findall(page)
    models = [model for text in states for model in json.loads(text)["state"]]
    if not models:
        return page
    numbers = {model: f"{number:032x}" for number, model in enumerate(models, start=1)}
    anywhere = re.compile("|".join(map(re.escape, models)))
    return anywhere.sub(lambda match: numbers[match[0]], page)


def number_all(app: Sphinx, exception: Exception | None) -> None:
    """Number the widgets of every written page."""
    if exception is not None or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        numbered = number_widgets(page)
        if numbered != page:
            path.write_text(numbered, encoding="utf-8")


def is_printed(node: nodes.Node) -> bool:
    """Whether a node of a cell's output is text that the cell printed."""
    return isinstance(node, nodes.literal_block) and "stream" in node["classes"]


def join_printed(output: nodes.Element) -> None:
    """Make one box of the boxes of printed text that follow each other."""
    joined: list[nodes.Node] = []
    for child in output.children:
        if joined and is_printed(child) and is_printed(joined[-1]):
            text = joined[-1].astext() + child.astext()
            attributes = joined[-1].attributes
            joined[-1] = nodes.literal_block(text, text, **attributes)
        else:
            joined.append(child)
    output[:] = joined


def leave_addresses_out(output: nodes.Element) -> None:
    """Take addresses in memory out of what a cell has written."""
    for text in [text for text in output.findall(nodes.Text) if ADDRESS.search(text)]:
        written = text.parent
        written.replace(text, nodes.Text(ADDRESS.sub("", text)))
        written.rawsource = ADDRESS.sub("", written.rawsource)  # a literal is coloured only if both agree


class SameOutputs(SphinxTransform):
    """Mend the outputs of cells, before the search index reads them."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        for output in list(self.document.findall(nodes.container)):
            if output.get("nb_element") == "cell_code_output":
                join_printed(output)
                leave_addresses_out(output)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_transform(SameOutputs)
    app.connect("build-finished", number_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
