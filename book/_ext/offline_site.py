"""Sphinx extension: the built book asks no other host for anything, and its widgets degrade to a table.

- MathJax is copied from an installed package into the site (its licence lies beside it).
- The live-kernel loader of ``sphinx-thebe`` is left out: the book offers no Thebe button, and its script names a
  remote host and declares one constant twice on each page.
- The theme starts in the reader's light or dark mode before the first paint (by itself it logs an error first).
- Icons come from one style sheet and its fonts. The theme also loads the same icons as a script of 1.5 MB, and asks for
  the fonts ahead in a way that browsers refuse on pages opened from the file system; both are taken out.
- A wide table scrolls inside its box, so the box can be reached by keyboard.
- Lists of references get roles that assistive technology knows (those of docutils contradict each other).
- Every page carries a content-security policy: what is not of this site is refused by the browser itself. The theme's
  inline scripts are named by their hashes, so markup that slips into a page cannot run one, and its buttons call
  ``buttons.js`` by name; inline styles are the theme's. ``blob:`` is how a widget's module and the laboratory's worker
  are loaded; ``file:`` lets a page open without a server. Browsers fetch the next page ahead, as the default allows.
- A page that opens in a tab of its own learns nothing of the one that it was opened from.
- The digits that the laboratory trains on lie in one file of the site, a classic script, which a page that is opened
  from the file system may load as well.
- A cell output that is both a widget and HTML (``helpers.widgets``) is written as both. The HTML is what a reader
  without JavaScript sees; ``static-widgets.js`` and ``book.css`` hide it where the widget is alive.
"""

import base64
import hashlib
import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from docutils import nodes
from helpers.widgets.laboratory import packed_digits
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform

MATHJAX_PACKAGE = "sphinx-mathjax-offline"
# What tex-chtml.js may ask for at run time: TeX extensions, fonts, the menu and its accessibility add-ons.
MATHJAX_PARTS = ("tex-chtml.js", "input/tex/extensions", "output/chtml/fonts", "a11y", "sre", "ui")
START_IN_READERS_THEME = (
    "document.documentElement.dataset.mode ||= 'auto'; document.documentElement.dataset.theme ||= "
    "matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';"
)
ICONS_TWICE = re.compile(
    r"\s*(<script [^>]*/fontawesome/[^>]*></script>|<link rel=\"preload\" [^>]*/fontawesome/[^>]*>)"
)
CONTENT_SECURITY_POLICY = (
    "default-src 'self' file:; script-src 'self' {hashes} blob: file:; style-src 'self' 'unsafe-inline' file:; "
    "img-src 'self' data: file:; font-src 'self' data: file:; connect-src 'self' file:; manifest-src 'self'; "
    "worker-src blob:; frame-src 'none'; media-src 'none'; object-src 'none'; "
    "base-uri 'self'; form-action 'self' file:"
)
# Scripts within the page that a browser would run: those with a source, and data of any kind, are none.
INLINE_SCRIPT = re.compile(r"<script(?![^>]*\b(?:src|type)=)[^>]*>(.*?)</script>", re.DOTALL)
HANDLER = re.compile(r' onclick="(\w[\w.]*)\(\)"')
OTHER_HANDLER = re.compile(r"<[a-z][^<>]* (on[a-z]+)=\"")
NEW_TAB = re.compile(r"<a (?=[^>]*target=\"_blank\")(?![^>]*\brel=)")
WIDGET = "application/vnd.jupyter.widget-view+json"


def mathjax_folder() -> Path:
    """The MathJax distribution inside the installed package; an ExtensionError says how to get it."""
    spec = find_spec(MATHJAX_PACKAGE)
    if spec is None or spec.origin is None:
        raise ExtensionError(f"{MATHJAX_PACKAGE} is not installed: run `make setup`, which installs the book's tools.")
    return Path(spec.origin).parent / "static" / "mathjax"


def copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    """Copy the parts of MathJax that the pages can load into ``_static/mathjax``."""
    if exception is not None or app.builder.format != "html":
        return
    source, target = mathjax_folder(), Path(app.outdir) / "_static" / "mathjax"
    for part in MATHJAX_PARTS:
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part, dirs_exist_ok=True)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / part, target / part)


def write_digits(app: Sphinx, exception: Exception | None) -> None:
    """Write the laboratory's digits to ``digits.js`` at the root of the site."""
    if exception is not None or app.builder.format != "html":
        return
    text = f"globalThis.laboratoryDigits = {json.dumps(packed_digits())};\n"
    (Path(app.outdir) / "digits.js").write_text(text, encoding="ascii")


def leave_thebe_out(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Drop the scripts and the style sheet of sphinx-thebe from one page."""

    def is_thebe(asset: Any) -> bool:
        attributes = getattr(asset, "attributes", {})
        return "thebe" in f"{getattr(asset, 'filename', '')}{attributes.get('body', '')}".lower()

    for key in ("script_files", "css_files"):
        context[key] = [asset for asset in context.get(key, []) if not is_thebe(asset)]


def tidy_pages(app: Sphinx, exception: Exception | None) -> None:
    """Mend in the written pages what neither the theme nor docutils has a setting for."""
    if exception is not None or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        tidy = ICONS_TWICE.sub("", text).replace('role="doc-biblioentry"', 'role="listitem"')
        tidy = tidy.replace(
            'class="pst-scrollable-table-container"', 'class="pst-scrollable-table-container" tabindex="0"'
        )
        tidy = NEW_TAB.sub('<a rel="noopener" ', HANDLER.sub(r' data-calls="\1"', tidy))
        if other := OTHER_HANDLER.search(tidy):
            raise ExtensionError(
                f"{page.name} has a script in the attribute {other[1]}: let buttons.js call it instead."
            )
        tidy = tidy.replace("<head>", f"<head>\n    {policy_for(tidy)}", 1)
        if tidy != text:
            page.write_text(tidy, encoding="utf-8")


def policy_for(page: str) -> str:
    """The content-security policy of a page, with the hash of each script that stands within it."""
    digests = dict.fromkeys(hashlib.sha256(script.encode()).digest() for script in INLINE_SCRIPT.findall(page))
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_SECURITY_POLICY.format(hashes=hashes)}">'


class WidgetWithFallback(SphinxPostTransform):
    """Put the HTML form of a widget behind the widget, before myst-nb picks one form of the output."""

    default_priority = 3  # myst-nb's SelectMimeType runs at 4
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        for bundle in list(self.document.findall(nodes.container)):
            if bundle.get("nb_element") != "mime_bundle":
                continue
            forms = {form["mime_type"]: form for form in bundle.findall(nodes.container) if "mime_type" in form}
            if WIDGET in forms and "text/html" in forms:
                forms[WIDGET] += [
                    nodes.raw("", '<div class="widget-fallback">', format="html"),
                    *(child.deepcopy() for child in forms["text/html"].children),
                    nodes.raw("", "</div>", format="html"),
                ]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    mathjax_folder()
    app.add_js_file(None, body=START_IN_READERS_THEME, priority=100)
    app.add_js_file("buttons.js", loading_method="defer")
    app.add_post_transform(WidgetWithFallback)
    app.connect("html-page-context", leave_thebe_out, priority=900)
    app.connect("build-finished", copy_mathjax)
    app.connect("build-finished", write_digits)
    app.connect("build-finished", tidy_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
