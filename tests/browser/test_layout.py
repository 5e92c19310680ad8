"""Nothing is cut: on every page, at four widths, in both themes, formulas, lines, tables, pictures are seen whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.test_pages import PAGES

CUT = (Path(__file__).parent / "cut.js").read_text(encoding="utf-8").split("*/", 1)[1]
WIDTHS = (390, 768, 1280, 1600)
# Proofs, solutions and code that a page shows only on request are looked at as well.
# Side bars slide when the window changes; a test does not wait for them.
OPEN = """() => {
    for (const folded of document.querySelectorAll("details")) folded.open = true;
    for (const folded of document.querySelectorAll(".toggle-hidden")) folded.classList.remove("toggle-hidden");
}"""
STILL = "*, *::before, *::after { transition: none !important; animation: none !important; }"
SETTLE = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_cut(visit: Callable[..., Any], name: str) -> None:
    cut: list[str] = []
    with visit(name) as seen:
        seen.page.add_style_tag(content=STILL)
        for numbers in seen.page.locator(".lab-numbers").all():  # the laboratory has them only after its first run
            numbers.locator("tbody tr").first.wait_for(state="attached", timeout=180_000)
        seen.page.evaluate(OPEN)
        for width in WIDTHS:
            seen.page.set_viewport_size({"width": width, "height": 900})
            for theme in ("light", "dark"):
                seen.page.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
                seen.page.evaluate(SETTLE)
                seen.page.evaluate(SETTLE)  # a formula may be fitted in the frame after the window changed
                cut += [f"{width} {theme}: {line}" for line in seen.page.evaluate(CUT)]
    assert cut == []


BROKEN = {
    "displayed formula": "<div class=math><mjx-container display=true style='display:block'>"
    "<mjx-math style='display:inline-block;width:3000px'>x</mjx-math></mjx-container></div>",
    "inline formula": "<p><mjx-container>"
    "<mjx-math style='display:inline-block;width:3000px'>x</mjx-math></mjx-container></p>",
    "inline formula that is not seen": "<p><mjx-container><mjx-math><mjx-mi></mjx-mi></mjx-math></mjx-container></p>",
    "code": f"<pre style='overflow:auto'>{'x' * 900}</pre>",
    "output": f"<div class=cell_output><pre style='overflow:auto;white-space:pre !important'>{'x' * 900}</pre></div>",
    "table": "<table style='width:3000px'><tr><td>x</td></tr></table>",
    "figcaption": f"<figcaption style='overflow:hidden;white-space:nowrap'>{'x' * 900}</figcaption>",
    "picture": "<p><img alt=wide style='display:block;width:3000px;max-width:none !important'"
    " src='data:image/gif;base64,R0lGODlhAQABAAAAACw='></p>",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_cut_is_seen(visit: Callable[..., Any], kind: str) -> None:
    with visit("book/changelog") as seen:
        before = seen.page.evaluate(CUT)
        seen.page.evaluate(
            "(html) => document.querySelector('.bd-article').insertAdjacentHTML('beforeend', html)", BROKEN[kind]
        )
        new = [line for line in seen.page.evaluate(CUT) if line not in before]
    assert any(line.startswith(kind) for line in new), new
