"""The widgets on the built pages: alive without a kernel, by keyboard and by mouse, and true to their numbers."""

import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page

from tests.browser.conftest import HTML

VIEW = "application/vnd.jupyter.widget-view+json"
WITH_WIDGETS = sorted(
    page.relative_to(HTML).with_suffix("").as_posix()
    for page in (HTML / "book").glob("*.html")
    if VIEW in page.read_text(encoding="utf-8")
) or ["book/14-playground"]  # not built: its tests skip and say so


def charts(page: Page) -> list[dict[str, Any]]:
    """The ``chart`` of every widget in the order of the page."""
    state = json.loads(page.locator('script[type="application/vnd.jupyter.widget-state+json"]').inner_text())["state"]
    views = [json.loads(text) for text in page.locator(f'script[type="{VIEW}"]').all_inner_texts()]
    return [state[view["model_id"]]["state"]["chart"] for view in views]


def drawing(widget: Locator) -> str:
    return widget.locator("svg[role=img]").inner_html()


def points(widget: Locator, series: int) -> list[tuple[float, float]]:
    """The pixel positions on one drawn curve."""
    path = widget.locator(f"path[data-series='{series}']").get_attribute("d") or ""
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]


@pytest.mark.parametrize("look", ["light", "phone"])
@pytest.mark.parametrize("name", WITH_WIDGETS)
def test_every_slider_moves(visit: Callable[..., Any], name: str, look: str) -> None:
    with visit(name, look) as seen:
        sliders = seen.page.locator(".fi input[type=range]")
        assert sliders.count() > 0
        for i in range(sliders.count()):
            slider = sliders.nth(i)
            widget = seen.page.locator(".fi").filter(has=seen.page.locator(f"#{slider.get_attribute('id')}"))
            before, words = drawing(widget), widget.locator(".fi-status").inner_text()
            slider.focus()
            seen.page.keyboard.press("Home")
            if drawing(widget) == before:
                seen.page.keyboard.press("End")
            by_keyboard = drawing(widget)
            assert by_keyboard != before, f"slider {i} of {name} does not follow the keyboard"
            assert widget.locator(".fi-status").inner_text() != words
            box = slider.bounding_box()
            assert box is not None
            slider.click(position={"x": box["width"] / 2, "y": box["height"] / 2})
            assert drawing(widget) != by_keyboard, f"slider {i} of {name} does not follow the mouse"
            shown = widget.locator(f"output[for='{slider.get_attribute('id')}']").first.inner_text()
            assert slider.get_attribute("aria-valuetext") == shown
        assert seen.problems == []


@pytest.mark.parametrize("name", WITH_WIDGETS)
def test_curves_lie_where_the_numbers_say(visit: Callable[..., Any], name: str) -> None:
    with visit(name) as seen:
        for i, chart in enumerate(charts(seen.page)):
            if chart["kind"] != "lines":
                continue
            widget = seen.page.locator(".fi").nth(i)
            toggle = widget.locator("input[type=checkbox]")
            toggle.uncheck()
            for slider in widget.locator("input[type=range]").all():
                slider.focus()
                seen.page.keyboard.press("Home")  # the first frame
            numbers = [[math.nan if v == "inf" else v for v in ys] for ys in chart["frames"][0]]
            pairs = [
                (value, pixel)
                for series, ys in enumerate(numbers)
                for value, (_, pixel) in zip([v for v in ys if math.isfinite(v)], points(widget, series), strict=True)
            ]
            (low, bottom), (high, top) = min(pairs), max(pairs)
            for value, pixel in pairs:
                expected = bottom + (value - low) / (high - low or 1) * (top - bottom)
                assert pixel == pytest.approx(expected, abs=0.3)


@pytest.mark.parametrize("name", WITH_WIDGETS)
def test_colours_follow_the_theme_at_once(visit: Callable[..., Any], name: str) -> None:
    ink = "getComputedStyle(document.querySelector('.fi')).getPropertyValue('--fi-1').trim()"
    with visit(name) as seen:
        assert seen.page.evaluate(ink) == "#0072b2"
        seen.page.evaluate("document.documentElement.dataset.theme = 'dark'")
        assert seen.page.evaluate(ink) == "#00a0f9"


@pytest.mark.parametrize("name", WITH_WIDGETS)
def test_without_scripts_a_table_stands_there(visit: Callable[..., Any], name: str) -> None:
    with visit(name, java_script_enabled=False) as seen:
        tables = seen.page.locator(".widget-fallback table")
        assert tables.count() == seen.page.locator(f'script[type="{VIEW}"]').count()
        assert all(table.is_visible() for table in tables.all())
    with visit(name) as seen:
        assert not any(table.is_visible() for table in seen.page.locator(".widget-fallback table").all())


def test_a_widget_that_needs_a_kernel_says_so(visit: Callable[..., Any], site: str) -> None:
    state = {"state": {"m": {"model_module": "@jupyter-widgets/controls", "model_name": "VBoxModel", "state": {}}}}
    html = f"""<!doctype html><html lang="en"><title>Foreign</title><body>
        <script type="application/vnd.jupyter.widget-state+json">{json.dumps(state)}</script>
        <div><script type="{VIEW}">{json.dumps({"model_id": "m"})}</script></div>
        <script defer src="_static/static-widgets.js"></script></body></html>"""
    with visit("search") as seen:
        seen.page.wait_for_load_state("networkidle")
        seen.page.route("**/foreign.html", lambda route: route.fulfill(body=html, content_type="text/html"))
        seen.page.goto(f"{site}/foreign.html")
        assert "needs a running kernel" in seen.page.locator("[role=alert]").inner_text()
        assert seen.problems == []
