"""Every page of the book in Chromium: light, dark and as wide as a phone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe

from tests.browser.conftest import HTML, LOOKS
from tools.check_book import toc_pages

TOC = Path(__file__).resolve().parents[2] / "_toc.yml"
PAGES = [*toc_pages(yaml.safe_load(TOC.read_text(encoding="utf-8"))), "search", "genindex"]
# Elements that stand out of the window although the page itself could not be scrolled to see them.
OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"
BARE_IMAGES = "[...document.images].filter((i) => !i.hasAttribute('alt')).map((i) => i.currentSrc)"
SEARCH_BOXES = """[...document.querySelectorAll('.search-button, .search-button-field, form.bd-search')]
    .filter((e) => e.checkVisibility({visibilityProperty: true}) && e.getClientRects().length).length"""


def violations(page: Any) -> list[str]:
    """What axe finds serious or critical, one line for each rule with the first element that breaks it."""
    # only what breaks a rule is written out: to describe all that keeps it takes as long as the looking
    found = Axe().run(page, options={"preload": False, "resultTypes": ["violations"]}).response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}): {rule['help']}: {rule['nodes'][0]['html'][:160]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", PAGES)
def test_page_is_clean(visit: Callable[..., Any], name: str, look: str) -> None:
    with visit(name, look) as seen:
        assert seen.page.evaluate("document.documentElement.dataset.theme") == LOOKS[look]["color_scheme"]
        assert seen.page.evaluate(OVERFLOW) <= 0, f"{name} can be scrolled sideways"
        assert seen.page.evaluate(BARE_IMAGES) == []
        assert seen.problems == []
        assert violations(seen.page) == []


@pytest.mark.parametrize("look", LOOKS)
def test_one_search_box(visit: Callable[..., Any], look: str) -> None:
    with visit(PAGES[0], look) as seen:
        assert seen.page.evaluate(SEARCH_BOXES) == 1


def test_search_finds_a_chapter(visit: Callable[..., Any]) -> None:
    with visit("search") as seen:
        seen.page.goto(seen.page.url + "?q=notation")
        seen.page.wait_for_selector("ul.search li a")
        assert seen.problems == []


def test_first_page_leads_into_the_book(visit: Callable[..., Any]) -> None:
    with visit("index", settled=False) as seen:
        seen.page.wait_for_url(f"**/{PAGES[0]}.html")
        assert seen.problems == []


def test_opens_from_the_file_system(visit: Callable[..., Any]) -> None:
    with visit("book/14-playground", base=HTML.as_uri()) as seen:
        assert seen.page.locator(".fi svg[role=img]").count() >= 1
        assert seen.problems == []


def test_the_page_refuses_a_script_that_slips_into_it(visit: Callable[..., Any]) -> None:
    """As text of an artefact would, if it were ever taken for markup."""
    slip = """() => {
        const box = document.createElement("div");
        box.innerHTML = '<img src="data:," onerror="document.title = 1"><a href="javascript:document.title = 2">a</a>';
        document.body.append(box);
        const script = document.createElement("script");
        script.textContent = "document.title = 3";
        document.body.append(script);
        box.querySelector("a").click();
        return new Promise((done) => setTimeout(() => done(document.title), 300));
    }"""
    with visit("book/setup") as seen:
        assert seen.page.evaluate(slip) == seen.page.title()
        assert not seen.page.title().isdigit()
        assert any("Content Security Policy" in problem for problem in seen.problems)


def test_the_buttons_of_the_head_work(visit: Callable[..., Any]) -> None:
    with visit("book/setup") as seen:
        seen.page.evaluate("window.print = () => { document.body.dataset.printed = 'yes' }")
        for name in ("window.print", "toggleFullScreen"):
            seen.page.evaluate(f"document.querySelector('[data-calls=\"{name}\"]').click()")
        assert seen.page.evaluate("document.body.dataset.printed") == "yes"
        assert seen.page.evaluate("typeof toggleFullScreen") == "function"
        assert seen.problems == []
