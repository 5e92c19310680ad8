"""Sphinx extension: the card that other sites show for a link to the book, drawn at build time, and its meta tags.

The address of the image must be absolute, so there are tags only where ``html_baseurl`` says where the book will live.
"""

from html import escape
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

CARD = "_static/social-card.png"
DESCRIPTION = "Information-theoretic generalization bounds for SGD, and flatness: an interactive book with tested code"


def draw_card(path: Path, title: str) -> None:
    """A picture of 1200 x 630 points: the title, and a bound that comes down to the gap and is then a hold-out."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    figure = plt.figure(figsize=(12, 6.3), dpi=100, facecolor="white")
    axes = figure.add_axes((0.06, 0.1, 0.88, 0.5))
    lam = np.logspace(-1, 3, 200)
    information, penalty = 4 * lam ** (-2 / 3), 1 / (1 + 0.4 / lam)
    axes.plot(lam, information + penalty, color="#0072b2", linewidth=5)
    axes.plot(lam, penalty, color="#d55e00", linewidth=3, linestyle="--")
    axes.axhline(1, color="#666666", linewidth=2, linestyle=":")
    axes.set(xscale="log", ylim=(0, 5), xticks=[], yticks=[])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    figure.text(0.06, 0.8, title, fontsize=46, weight="bold", color="#222222")
    figure.text(0.06, 0.7, "When is a generalization bound an explanation?", fontsize=25, color="#444444")
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def write_card(app: Sphinx, exception: Exception | None) -> None:
    """Draw the card into the finished site."""
    if exception is None and app.builder.format == "html":
        draw_card(Path(app.outdir) / CARD, app.config.html_title or app.config.project)


def add_tags(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Open Graph tags of one page."""
    description = escape(DESCRIPTION, quote=True)
    tags = f'<meta name="description" content="{description}">'
    if base := (app.config.html_baseurl or "").rstrip("/"):
        title = escape(str(context.get("title", app.config.project)), quote=True)
        tags += (
            f'<meta property="og:title" content="{title}"><meta property="og:type" content="book">'
            f'<meta property="og:description" content="{description}">'
            f'<meta property="og:url" content="{base}/{page}.html">'
            f'<meta property="og:image" content="{base}/{CARD}">'
            '<meta name="twitter:card" content="summary_large_image">'
        )
    context["metatags"] = context.get("metatags", "") + tags


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("html-page-context", add_tags)
    app.connect("build-finished", write_card)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
