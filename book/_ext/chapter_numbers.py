"""Sphinx extension: a chapter's number stands before its title, in the page, the contents and every link alike.

The number is the one in the name of its file, by which readers and other chapters call it.
"""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

NUMBERED = re.compile(r"(?:.*/)?(\d\d)-[^/]+")


def number_of(page: str) -> int | None:
    """The number of a chapter from the name of its page; None for a page that is none."""
    found = NUMBERED.fullmatch(page)
    return int(found[1]) if found else None


class ChapterNumber(SphinxTransform):
    """Write the number before the first title, before titles are collected."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        number = number_of(self.env.docname)
        title = next(iter(self.document.findall(nodes.title)), None)
        if number is not None and title is not None:
            title.insert(0, nodes.Text(f"{number} · "))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_transform(ChapterNumber)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
