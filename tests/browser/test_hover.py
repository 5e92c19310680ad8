"""Explained terms in a chapter: by mouse, by keyboard, by finger, and still clean for assistive technology."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.conftest import LOOKS
from tests.browser.test_pages import OVERFLOW, violations

CHAPTER = "book/10-omniscient-trajectory"
LINK = "a.hover-note[id^=mention-]"
NOTE = "#hover-note"


def test_hover_shows_the_meaning_and_leaving_hides_it(visit: Callable[..., Any]) -> None:
    with visit(CHAPTER) as seen:
        link, note = seen.page.locator(LINK).first, seen.page.locator(NOTE)
        meaning = link.get_attribute("title")
        assert meaning
        assert note.count() == 0
        link.hover()
        assert note.inner_text() == meaning
        assert link.get_attribute("title") is None, "the browser would show its own note as well"
        note.hover()  # the pointer may rest on the note
        seen.page.wait_for_timeout(400)
        assert note.is_visible()
        seen.page.mouse.move(0, 0)
        note.wait_for(state="detached")
        assert seen.problems == []


def test_focus_shows_the_meaning_and_escape_hides_it(visit: Callable[..., Any]) -> None:
    with visit(CHAPTER) as seen:
        link, note = seen.page.locator(LINK).first, seen.page.locator(NOTE)
        meaning = link.get_attribute("title")
        link.focus()
        assert note.inner_text() == meaning
        assert note.get_attribute("role") == "tooltip"
        assert link.get_attribute("aria-describedby") == note.get_attribute("id")
        seen.page.keyboard.press("Escape")
        assert note.count() == 0
        assert link.get_attribute("aria-describedby") is None
        assert link.evaluate("(e) => e === document.activeElement")
        seen.page.keyboard.press("Tab")
        link.focus()
        seen.page.keyboard.press("Tab")
        # The next stop may be an explained term as well; the note is then its own.
        assert note.count() == 0 or note.inner_text() != meaning


def test_first_tap_shows_the_meaning_and_the_second_follows(visit: Callable[..., Any]) -> None:
    with visit(CHAPTER, "phone") as seen:
        link, note = seen.page.locator(LINK).first, seen.page.locator(NOTE)
        address, meaning = seen.page.url, link.get_attribute("title")
        link.tap()
        assert note.inner_text() == meaning
        assert seen.page.url == address
        link.tap()
        seen.page.wait_for_url("**/book/notation.html#term-*")


@pytest.mark.parametrize("look", LOOKS)
def test_a_shown_note_is_clean_and_inside_the_window(visit: Callable[..., Any], look: str) -> None:
    with visit(CHAPTER, look) as seen:
        for link in seen.page.locator(LINK).all():
            link.focus()
            box = seen.page.locator(NOTE).bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= LOOKS[look]["viewport"]["width"]
            assert seen.page.evaluate(OVERFLOW) <= 0
        assert violations(seen.page) == []
        assert seen.problems == []


@pytest.mark.parametrize("chapter", ["08-training-for-flatness", "09-flatness-after-all"])
def test_a_note_belongs_to_its_chapter(visit: Callable[..., Any], chapter: str) -> None:
    with visit(CHAPTER) as seen:
        assert seen.page.locator("#mention-penalty").count() == 1
    with visit(f"book/{chapter}") as seen:
        assert seen.page.locator("#mention-penalty").count() == 0, "penalty is another thing here"


def test_paper_has_no_buttons_and_no_side_bars(visit: Callable[..., Any]) -> None:
    with visit(CHAPTER, "dark") as seen:
        seen.page.emulate_media(media="print")
        for gone in (".bd-sidebar-primary", ".bd-header-article", ".bd-content button", ".fi .fi-controls"):
            assert not any(element.is_visible() for element in seen.page.locator(gone).all()), gone
        assert sum(title.is_visible() for title in seen.page.locator("h1").all()) == 1
        assert seen.page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        code = seen.page.locator(".bd-article pre").first
        assert code.evaluate("(e) => getComputedStyle(e).whiteSpace") == "pre-wrap"
