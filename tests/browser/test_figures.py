"""Figures as they are drawn: tick labels keep apart, no legend lies over a curve, and no word is cut at the edge."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import HTML

FIGURES = sorted((HTML / "_images").glob("*.svg"))
CLASHES = """() => {
    const box = (element) => element.getBoundingClientRect();
    const meet = (a, b, slack) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > slack
        && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > slack;
    const found = [];
    for (const axis of document.querySelectorAll('g[id^="matplotlib.axis_"]')) {
        const texts = [...axis.querySelectorAll('g[id*="tick_"] > g[id^="text_"]')];
        const labels = texts.map(box).filter((b) => b.width > 0);
        for (let i = 1; i < labels.length; i++) {
            if (labels.slice(0, i).some((other) => meet(labels[i], other, 0.5))) {
                found.push(`${axis.id}: tick label ${i + 1} over another`);
            }
        }
    }
    for (const axes of document.querySelectorAll('g[id^="axes_"]')) {
        const legend = axes.querySelector(':scope > g[id^="legend_"]');
        if (!legend) continue;
        const words = [...legend.querySelectorAll('g[id^="text_"]')].map(box);
        for (const curve of axes.querySelectorAll(':scope > g[id^="line2d_"] > path')) {
            const length = curve.getTotalLength();
            const matrix = curve.getScreenCTM();
            for (let i = 0; i <= 400; i++) {
                const { x, y } = curve.getPointAtLength((length * i) / 400).matrixTransform(matrix);
                if (words.some((w) => x > w.left + 1 && x < w.right - 1 && y > w.top + 1 && y < w.bottom - 1)) {
                    found.push(`${axes.id}: a curve runs through the legend`);
                    break;
                }
            }
        }
    }
    const label = (words) => [...words.childNodes].find((node) => node.nodeType === Node.COMMENT_NODE)?.data.trim();
    const edge = document.documentElement.getBoundingClientRect();
    for (const words of document.querySelectorAll('g[id^="text_"]')) {
        const { left, right, width } = box(words);
        if (width > 0 && (left < edge.left - 1 || right > edge.right + 1)) {
            found.push(`"${label(words) ?? words.id}" is cut at the edge`);
        }
    }
    return [...new Set(found)];
}"""


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 900, "height": 700})
    yield context.new_page()
    context.close()


@pytest.mark.skipif(not FIGURES, reason="There is no built book to look at: run `make book` first.")
def test_labels_and_legends_keep_clear(page: Page, site: str) -> None:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (HTML / "book").glob("*.html")}
    clashes = {}
    for figure in FIGURES:
        page.goto(f"{site}/_images/{figure.name}")
        if found := page.evaluate(CLASHES):
            clashes[figure.name] = [name for name, html in pages.items() if figure.name in html], found
    assert clashes == {}, "figures of these pages"


def drawn(draw: Any, tmp_path: Any) -> str:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    from helpers import plots

    figure, ax = plots.figure()
    with plots.style():
        draw(ax)
        figure.savefig(tmp_path / "figure.svg")
    pyplot.close(figure)
    return (tmp_path / "figure.svg").as_uri()


def crowded(ax: Any) -> None:
    ax.set_xticks([0.5, 0.501], ["a long label", "another long label"])


def covered(ax: Any) -> None:
    ax.plot([0, 1], [0.5, 0.5], label="a curve with a long name")
    ax.legend(loc="center")


def cut(ax: Any) -> None:
    ax.set_title("A title that says so much about its figure that the end of it is lost")


def clear(ax: Any) -> None:
    ax.plot([0, 1], [0, 0], label="a curve")
    ax.set(ylim=(0, 1))
    ax.legend(loc="upper left")


@pytest.mark.parametrize(
    ("draw", "part"),
    [(crowded, "tick label"), (covered, "through the legend"), (cut, "cut at the edge"), (clear, "")],
    ids=lambda v: str(v)[:20],
)
def test_a_clash_is_seen(page: Page, tmp_path: Any, draw: Any, part: str) -> None:
    page.goto(drawn(draw, tmp_path))
    found = page.evaluate(CLASHES)
    assert any(part in line for line in found) if part else found == []
