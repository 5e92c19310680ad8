"""Check the built book: every page of _toc.yml is there as HTML, and no page loads anything from another host.

Jupyter Book can end with "build succeeded" and have built nothing (version 2 does so with this kind of book), so the
build target asks the files themselves. Exits with one sentence for each fault.
"""

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
LOADING_RELATIONS = {"stylesheet", "preload", "modulepreload", "prefetch", "icon", "manifest"}
SMALLEST_PAGE = 2_000  # bytes; a page of this theme without any text is several times larger


def toc_pages(toc: dict[str, Any]) -> Iterator[str]:
    """The page names of a _toc.yml in reading order, without suffix."""
    for key in ("root", "file"):
        if key in toc:
            yield str(toc[key])
    for key in ("parts", "chapters", "sections"):
        for child in toc.get(key, []):
            yield from toc_pages(child)


class Loads(HTMLParser):
    """Collects the addresses that a page loads by itself (not the links that a reader may follow)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        address = found.get(LOADING[tag]) if tag in LOADING else None
        if tag == "link" and LOADING_RELATIONS & set((found.get("rel") or "").lower().split()):
            address = found.get("href")
        if address:
            self.addresses.append(address)

    @property
    def outside(self) -> list[str]:
        """The addresses on another host."""
        return [found for found in self.addresses if found.startswith(("http:", "https:", "//"))]


def faults(html: Path, toc: Path) -> list[str]:
    """One sentence for every fault of the built book in ``html``; an empty list if there is none."""
    found = []
    pages = list(toc_pages(yaml.safe_load(toc.read_text(encoding="utf-8"))))
    for name in ["index", *pages]:
        page = html / f"{name}.html"
        if not page.is_file():
            found.append(f"{page} is missing: the build skipped it; read its messages above.")
        elif name != "index" and page.stat().st_size < SMALLEST_PAGE:
            found.append(f"{page} holds {page.stat().st_size} bytes: it was not really built.")
    for page in sorted(html.rglob("*.html")):
        for address in Loads(page.read_text(encoding="utf-8")).outside:
            found.append(f"{page} loads {address} from another host: serve it from the book.")
    return found


def main() -> int:
    """Print the faults, or what was built; the number of faults decides the exit status."""
    found = faults(ROOT / "_build" / "html", ROOT / "_toc.yml")
    print("\n".join(found) if found else "The book is complete: _build/html/index.html")
    return min(len(found), 1)


if __name__ == "__main__":
    sys.exit(main())
