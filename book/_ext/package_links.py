"""Sphinx extension: where a page's code calls the package, the name leads to its entry on the package page."""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

PACKAGE = "api.html"
ENTRY = re.compile(r'id="helpers\.([\w.]+)"')
CALL = re.compile(r'<span class="n">(\w+)</span><span class="o">\.</span><span class="n">(\w+)</span>')


def with_links(page: str, entries: set[str]) -> str:
    """The page with a link around each ``module.name`` in its code that has an entry."""

    def linked(match: re.Match[str]) -> str:
        name = f"{match[1]}.{match[2]}"
        return (
            f'<a class="package-link" href="{PACKAGE}#helpers.{name}">{match[0]}</a>' if name in entries else match[0]
        )

    return CALL.sub(linked, page)


def link_all(app: Sphinx, exception: Exception | None) -> None:
    """Link the code of all pages that lie beside the package page, once that is written."""
    packages = [] if exception or app.builder.format != "html" else list(Path(app.outdir).rglob(PACKAGE))
    for package in packages:
        entries = set(ENTRY.findall(package.read_text(encoding="utf-8")))
        for path in package.parent.glob("*.html"):
            page = path.read_text(encoding="utf-8")
            linked = with_links(page, entries)
            if linked != page:
                path.write_text(linked, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("build-finished", link_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
