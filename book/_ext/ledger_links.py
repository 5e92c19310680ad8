"""Sphinx extension: links to the rows of the ledger, at the end of a page and beside what a row points to.

The ledger's own page reads the filter from the address, so the link shows these rows and no others.
"""

import re
from collections import Counter, defaultdict
from functools import cache
from html import escape
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from sphinx.application import Sphinx

LEDGER, PACKAGE, SOURCES = "claims", "api", "claims-sources.yml"
TITLE = re.compile(r"</(?:h[1-6]|p)>")  # the end of a heading, or of the title of a theorem


@cache
def ledger(book: Path) -> list[dict[str, Any]]:
    """The rows of the ledger, read once a build, each with the words that a link to it has."""
    rows, sources = (yaml.safe_load((book / name).read_text(encoding="utf-8")) for name in ("claims.yml", SOURCES))
    names = {seed: source["name"] for seed, source in sources.items()}
    return [row | {"words": in_words(row, names)} for row in rows]


def in_words(row: dict[str, Any], names: dict[str, str]) -> str:
    """Source and number of a statement; a row beyond the five sources has both in its number."""
    source = [names[row["seed"]]] if row["seed"] in names else []
    return ", ".join([*source, row["number"].removesuffix(" (summary)")])


def with_links(body: str, page: str, rows: list[dict[str, Any]]) -> str:
    """A page with a link behind each theorem or heading that a row has for its anchor.

    On the page of the package, one behind each function that rows name.
    """
    links: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row["chapter"] == page and row.get("anchor"):
            links[row["anchor"]].append(f'<a href="{LEDGER}.html#claim-{row["id"]}">{escape(row["words"])}</a>')
    if page == PACKAGE:
        for function, count in Counter(row["function"] for row in rows).items():
            name = "one row" if count == 1 else f"{count} rows"
            links[f"helpers.{function}"].append(f'<a href="{LEDGER}.html?words={function}">{name}</a>')
    for anchor, found in links.items():
        start = body.find(f'id="{anchor}"')
        if start >= 0 and (end := TITLE.search(body, start)):
            line = f'<p class="ledger-here"><small>In the ledger: {"; ".join(found)}.</small></p>'
            body = body[: end.end()] + line + body[end.end() :]
    return body


def add_link(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """The links, beside what rows point to and below what the page says."""
    path = PurePosixPath(page)
    book = Path(app.srcdir) / path.parent
    if doctree is None or not (book / "claims.yml").is_file():
        return
    rows = ledger(book)
    context["body"] = with_links(context["body"], path.name, rows)
    if count := sum(row["chapter"] == path.name for row in rows):
        words = "one row" if count == 1 else f"{count} rows"
        context["body"] += (
            f'<p class="ledger-link">What the sources claim on this page, and what became of it: '
            f'<a href="{LEDGER}.html?page={path.name}">{words} of the ledger</a>.</p>'
        )


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("html-page-context", add_link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
