"""A short tour of the built book in Firefox and in WebKitGTK. Skips, and says why, where one is not installed."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.browser.conftest import HTML, served
from tests.browser.engines import ENGINES, BrowserError, Page, Watched, missing

SLIDER = "document.querySelector('.fi input[type=range]')"
PICTURE = "document.querySelector('.fi svg[role=img]').innerHTML"
LAB_WORDS = "document.querySelector('.lab-status').innerText"
TRAINED = f"document.querySelector('.lab')?.className === 'lab' && {LAB_WORDS}.includes('Gap') && {LAB_WORDS}"
BATCH = "[...document.querySelectorAll('.lab label')].find((label) => label.innerText === 'batch size').control"


@pytest.fixture(scope="module")
def watched() -> Iterator[str]:
    """The address of the built book, on a server whose pages keep what goes wrong on them."""
    with served(Watched) as address:
        yield address


@pytest.fixture(scope="module", params=ENGINES)
def page(watched: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """One window for the whole tour of an engine."""
    if why := missing(request.param):
        pytest.skip(why)
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(ENGINES[request.param]())
        except (BrowserError, OSError) as error:  # no sandbox in a container, for instance
            pytest.skip(f"{request.param} is installed and does not start here: {error}")
        yield opened


def test_the_first_page_leads_into_the_book_and_trains(page: Page, watched: str) -> None:
    page.go(f"{watched}/index.html")
    page.until("location.pathname === '/book/intro.html' && !!document.querySelector('button.lab-main')")
    page.evaluate("document.querySelector('button.lab-main').focus()")
    page.press("Enter")
    words = page.until(f"{LAB_WORDS}.includes('closed form') && {LAB_WORDS}")
    assert words.startswith("The gap is 0.")
    assert page.problems() == []


def test_formulas_are_typeset_and_a_slider_moves_its_picture(page: Page, watched: str) -> None:
    page.go(f"{watched}/book/03-closed-form.html")
    page.until(f"window.MathJax?.startup?.promise?.then(() => !!{SLIDER})")
    formulas, typeset, failed = page.evaluate(
        "['.math', '.math mjx-container', 'mjx-merror'].map((kind) => document.querySelectorAll(kind).length)"
    )
    assert typeset >= formulas > 100
    assert failed == 0
    assert page.evaluate("document.querySelector('.math mjx-container').getBoundingClientRect().width") > 5
    drawn, value, words = page.evaluate(f"[{PICTURE}, {SLIDER}.value, {SLIDER}.getAttribute('aria-valuetext')]")
    page.evaluate(f"{SLIDER}.focus()")
    page.press("Home" if value != "0" else "End")
    page.until(f"{PICTURE} !== {drawn!r}")
    assert page.evaluate(f"{SLIDER}.getAttribute('aria-valuetext')") != words
    assert page.problems() == []


def test_the_laboratory_trains_and_trains_again_after_a_change(page: Page, watched: str) -> None:
    page.go(f"{watched}/book/14-playground.html")
    words = page.until(TRAINED)
    assert words.startswith("Gap 0.")
    assert page.evaluate("document.querySelectorAll('.lab .lab-chart .lab-dot').length") == 2
    page.evaluate(f"{BATCH}.focus()")
    page.press("ArrowRight")
    page.until(f"location.hash.includes('batch_size=') && {TRAINED} !== {words!r}")
    page.until("document.querySelectorAll('.lab .lab-chart .lab-dot').length === 4")
    assert page.problems() == []


def test_the_laboratory_trains_from_the_file_system(page: Page) -> None:
    page.go((HTML / "book/14-playground.html").as_uri())
    assert page.until(TRAINED).startswith("Gap 0.")


def test_the_ledger_is_filtered_by_typed_words(page: Page, watched: str) -> None:
    page.go(f"{watched}/book/claims.html")
    whole = page.until(
        "document.querySelector('#claims-filter:not([hidden])') && document.querySelectorAll('.claim').length"
    )
    page.evaluate("document.querySelector('[name=words]').focus()")
    page.press(*"sharp batch")
    counted = "document.querySelector('#claims-filter output').innerText"
    page.until(f"!{counted}.startsWith('{whole} ') && {counted}.endsWith(' of {whole} rows')")
    texts = page.evaluate(
        "[...document.querySelectorAll('.claim:not([hidden])')].map((row) => row.id + row.textContent)"
    )
    assert 0 < len(texts) < whole
    assert all("sharp" in text.lower() and "batch" in text.lower() for text in texts)
    assert page.problems() == []


def test_a_term_explains_itself_by_mouse_and_by_keyboard(page: Page, watched: str) -> None:
    link, note = "a.hover-note[id^=mention-]", "document.querySelector('#hover-note')"
    page.go(f"{watched}/book/10-omniscient-trajectory.html")
    page.until("window.MathJax?.startup?.promise?.then(() => true)")
    meaning = page.evaluate(f"document.querySelector('{link}').title")
    assert meaning
    page.point(link)
    assert page.until(f"{note}?.innerText") == meaning
    page.press("Escape")
    page.until(f"!{note}")
    page.evaluate(f"document.querySelector('{link}').focus()")
    assert page.until(f"{note}?.innerText") == meaning
    assert page.problems() == []
