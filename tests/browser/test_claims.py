"""The ledger on its page, with no kernel: filters, addresses, the keyboard, and the way from a chapter to its rows."""

from collections.abc import Callable
from typing import Any

LEDGER, CHAPTER = "book/claims", "book/12-convex"
SHOWN = "details.claim:not([hidden])"


def test_filters_leave_the_rows_that_fit_and_the_address_keeps_them(visit: Callable[..., Any]) -> None:
    with visit(LEDGER) as seen:
        page = seen.page
        whole = page.locator(SHOWN).count()
        page.select_option("[name=source]", "003")
        page.select_option("[name=verdict]", "partly")
        kept = page.locator(SHOWN).evaluate_all("rows => rows.map(r => [r.dataset.source, r.dataset.verdict])")
        assert kept
        assert {tuple(row) for row in kept} == {("003", "partly")}
        assert page.locator("#claims-filter output").inner_text() == f"{len(kept)} of {whole} rows"
        page.reload()
        assert page.locator(SHOWN).count() == len(kept), "the address should hold the filter"
        page.locator("#claims-filter [type=reset]").click()
        page.wait_for_function(f"document.querySelectorAll({SHOWN!r}).length === {whole}")
        assert "?" not in page.url
        assert seen.problems == []


def test_bars_count_the_rows_that_are_left(visit: Callable[..., Any]) -> None:
    with visit(LEDGER) as seen:
        page = seen.page
        page.select_option("[name=verdict]", "source wrong")
        tallies = page.locator(".claims-tally:visible")
        blocks = tallies.locator(".claims-bar span:visible")
        assert set(blocks.evaluate_all("all => all.map(e => e.dataset.verdict)")) == {"source wrong"}
        counts = [int(text) for text in blocks.all_inner_texts()]
        assert counts[0] == sum(counts[1:]) == page.locator(SHOWN).count(), "the first is over all sources"
        assert tallies.locator("li:visible").all_inner_texts() == [f"{count} source wrong" for count in counts]
        assert not page.locator("section#shoham-mor-yosef-and-avron").is_visible()


def test_no_two_verdicts_look_alike(visit: Callable[..., Any]) -> None:
    look = "e => [e.backgroundColor, e.borderStyle, e.borderWidth].join()"
    for theme in ("light", "dark"):
        with visit(LEDGER, theme) as seen:
            keys = seen.page.locator(".claims-tally i").first.locator("xpath=ancestor::ul").locator("i")
            looks = keys.evaluate_all(f"all => all.map(e => ({look})(getComputedStyle(e)))")
            assert len(looks) == len(set(looks))


def test_a_row_leads_to_the_row_that_it_names(visit: Callable[..., Any], site: str) -> None:
    with visit(LEDGER) as seen:
        seen.page.goto(f"{site}/{LEDGER}.html#claim-001-main-text-clipping")
        seen.page.locator("#claim-001-main-text-clipping p a").click()
        assert seen.page.locator("#claim-001-main-text-clipping-effect").get_attribute("open") is not None


def test_words_are_all_looked_for(visit: Callable[..., Any]) -> None:
    with visit(LEDGER) as seen:
        seen.page.locator("[name=words]").fill("SHARP batch")
        texts = seen.page.locator(SHOWN).evaluate_all("rows => rows.map(r => (r.id + r.textContent).toLowerCase())")
        assert texts
        assert all("sharp" in text and "batch" in text for text in texts)


def test_an_address_opens_its_row_even_behind_a_filter(visit: Callable[..., Any], site: str) -> None:
    with visit(LEDGER) as seen:
        seen.page.goto(f"{site}/{LEDGER}.html?source=004#claim-001-lemma-1")
        row = seen.page.locator("#claim-001-lemma-1")
        assert row.get_attribute("open") is not None
        assert row.is_visible()
        assert row.locator("summary").evaluate("e => e === document.activeElement")
        assert row.locator(".claim-name").get_attribute("href") == "#claim-001-lemma-1"


def test_the_keyboard_opens_and_closes_a_row(visit: Callable[..., Any]) -> None:
    with visit(LEDGER) as seen:
        row = seen.page.locator("details.claim").first
        row.locator("summary").focus()
        seen.page.keyboard.press("Enter")
        assert row.get_attribute("open") is not None
        seen.page.keyboard.press("Space")
        assert row.get_attribute("open") is None


def test_a_line_is_one_line_until_it_is_opened(visit: Callable[..., Any]) -> None:
    for look, most in (("light", 40), ("phone", 64)):
        with visit(LEDGER, look) as seen:
            heights = seen.page.locator("details.claim > summary").evaluate_all("all => all.map(e => e.offsetHeight)")
            assert max(heights) <= most


def test_without_a_script_rows_open_and_no_dead_control_is_shown(visit: Callable[..., Any]) -> None:
    with visit(LEDGER, java_script_enabled=False) as seen:
        assert not seen.page.locator("#claims-filter").is_visible()
        row = seen.page.locator("details.claim").first
        row.locator("summary").click()
        assert row.locator("p").is_visible()


def test_a_chapter_leads_to_its_rows_and_they_lead_back(visit: Callable[..., Any]) -> None:
    with visit(CHAPTER) as seen:
        link = seen.page.locator(".ledger-link a")
        count = int(link.inner_text().split()[0])
        link.click()
        seen.page.wait_for_selector("#claims-filter:not([hidden])")
        rows = seen.page.locator(SHOWN)
        assert rows.count() == count
        rows.first.locator("summary").click()
        rows.first.locator("dd a[href^='12-convex.html']").click()
        seen.page.wait_for_url("**/12-convex.html")
