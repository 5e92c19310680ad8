"""Sphinx extension: at the end of a chapter, what a reader can try in the laboratory, and a link to the setting.

The settings stand in ``laboratory.yml``. The laboratory reads its state from the address, so the link opens it there.
"""

from html import escape
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlencode

import yaml
from sphinx.application import Sphinx

LABORATORY = "14-playground"


def address(setting: dict[str, Any]) -> str:
    """The laboratory's page, at a setting; what is left out is as the laboratory begins."""
    return f"{LABORATORY}.html#lab?{urlencode(setting)}"


def add_link(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """The sentence and the link, below what the page says."""
    path = PurePosixPath(page)
    source = Path(app.srcdir) / path.parent / "laboratory.yml"
    if doctree is None or not source.is_file():
        return
    entries = yaml.safe_load(source.read_text(encoding="utf-8"))
    if entry := entries.get(path.name):
        context["body"] += (
            f'<p class="lab-link"><strong>In the laboratory.</strong> {escape(entry["says"])} '
            f'<a href="{escape(address(entry["setting"]))}">Begin there</a>.</p>'
        )


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("html-page-context", add_link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
