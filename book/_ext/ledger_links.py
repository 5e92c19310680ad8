"""Sphinx extension: at the end of a page, a link to the rows of the ledger that are treated on it.

The ledger's own page reads the filter from the address, so the link shows these rows and no others.
"""

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from sphinx.application import Sphinx

LEDGER = "claims"


def rows_by_page(book: Path) -> Counter[str]:
    """How many rows of the ledger name each page."""
    rows = yaml.safe_load((book / "claims.yml").read_text(encoding="utf-8"))
    return Counter(row["chapter"] for row in rows if row["chapter"])


def add_link(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """The link, below what the page says."""
    path = PurePosixPath(page)
    book = Path(app.srcdir) / path.parent
    if doctree is None or not (book / "claims.yml").is_file():
        return
    if count := rows_by_page(book)[path.name]:
        rows = "one row" if count == 1 else f"{count} rows"
        context["body"] += (
            f'<p class="ledger-link">What the sources claim on this page, and what became of it: '
            f'<a href="{LEDGER}.html?page={path.name}">{rows} of the ledger</a>.</p>'
        )


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("html-page-context", add_link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
