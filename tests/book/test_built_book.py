"""The built book as files: complete, self-contained, linked, light. Skips where no book has been built."""

import json
import re
import sys
from functools import cache
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from helpers import __version__
from tools.check_book import faults, toc_pages

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))  # extensions import one another by name
import symbol_lists  # noqa: E402

HTML = ROOT / "_build" / "html"
TOC = ROOT / "_toc.yml"
PAGES = list(toc_pages(yaml.safe_load(TOC.read_text(encoding="utf-8"))))
WIDGET_STATE = re.compile(r'<script type="application/vnd.jupyter.widget-state\+json">(.*?)</script>', re.DOTALL)
MOST_BYTES = 3_500_000  # of a page with everything that it loads


class Page(HTMLParser):
    """What the tests need to know about one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if found.get("id"):
            self.ids.add(str(found["id"]))
        if tag == "a" and found.get("href"):
            self.links.append(str(found["href"]))
        if tag == "img":
            self.images.append(found)
        address = found.get("href" if tag == "link" and found.get("rel") == "stylesheet" else "src")
        if address:
            self.loads.append(address)


@cache
def page(path: Path) -> Page:
    return Page(path)


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    if not (HTML / "index.html").is_file():
        pytest.skip("There is no built book to look at: run `make book` first.")


def test_every_page_is_there_and_loads_nothing_from_elsewhere() -> None:
    assert faults(HTML, TOC) == []


@pytest.mark.parametrize("name", PAGES)
def test_links_and_anchors_lead_somewhere(name: str) -> None:
    here = page(HTML / f"{name}.html")
    broken = []
    for link in here.links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (here.path.parent / unquote(parts.path)).resolve() if parts.path else here.path
        anchor = unquote(parts.fragment) if target.suffix == ".html" else ""
        if anchor.startswith("lab?"):  # a setting, which the laboratory reads from its address
            anchor = ""
        if not target.exists() or (anchor and anchor not in page(target).ids):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("name", PAGES)
def test_rocket_and_download_give_the_plain_notebook_of_this_version(name: str) -> None:
    """The rocket's file lies on the branch that the workflow of a tag fills; the download is a file of this site."""
    here = page(HTML / f"{name}.html")
    if not (ROOT / f"{name}.ipynb").is_file():
        assert not [link for link in here.links if "colab" in link or link.endswith(".ipynb")]
        return
    repository = "flatness-and-information/book"
    plain = f"https://colab.research.google.com/github/{repository}/blob/notebooks/v{__version__}/{name}.ipynb"
    assert [link for link in here.links if urlsplit(link).netloc == "colab.research.google.com"] == [plain]
    (download,) = {link for link in here.links if link.endswith(".ipynb") and not urlsplit(link).netloc}
    source = (here.path.parent / unquote(download)).resolve()
    assert source == (HTML / "_sources" / f"{name}.ipynb").resolve()
    assert any(cell["id"] == "origin" for cell in json.loads(source.read_text(encoding="utf-8"))["cells"])


@pytest.mark.parametrize("name", PAGES)
def test_every_image_says_what_it_shows(name: str) -> None:
    for image in page(HTML / f"{name}.html").images:
        alt = (image.get("alt") or "").strip()
        # Without alt text in the cell's metadata (mystnb.image.alt) the name of the file stands in for it.
        assert alt, f"{image['src']} has no alt text"
        assert not re.search(r"\.(svg|png|jpe?g|gif)$", alt), f"{image['src']} has its file name for alt text"


@pytest.mark.parametrize("name", PAGES)
def test_only_widgets_that_live_without_a_kernel(name: str) -> None:
    for text in WIDGET_STATE.findall(page(HTML / f"{name}.html").text):
        others = {
            model["model_name"]
            for model in json.loads(text)["state"].values()
            if model["model_module"] != "anywidget" and model["model_name"] != "LayoutModel"
        }
        assert others == set(), "use a widget of helpers.widgets: these are dead without a kernel"


@pytest.mark.parametrize("name", PAGES)
def test_page_is_light(name: str) -> None:
    here = page(HTML / f"{name}.html")
    files = {(here.path.parent / urlsplit(address).path).resolve() for address in here.loads}
    weight = len(here.text.encode()) + sum(f.stat().st_size for f in files if f.is_file())
    assert weight < MOST_BYTES


STATEMENT = re.compile(
    r'<div class="proof (?!admonition)\w+ admonition"(.*?)(?=<div class="proof |</article>)', re.DOTALL
)
MATH = re.compile(r'<(?:span|div) class="math[^>]*>(.*?)</(?:span|div)>', re.DOTALL)


def formulas(markup: str) -> list[str]:
    """TeX of the formulas in a part of a page."""
    return [unescape(found).strip().removeprefix(r"\(").removesuffix(r"\)") for found in MATH.findall(markup)]


@pytest.mark.parametrize("name", [name for name in PAGES if re.search(r"/\d\d-", name)])
def test_every_statement_with_a_formula_explains_symbols_that_it_holds(name: str) -> None:
    for statement in STATEMENT.findall(page(HTML / f"{name}.html").text):
        says, _, listed = statement.partition('<details class="symbols">')
        if not formulas(says.partition("</section>")[0]):
            continue
        explained = re.findall(r"<dt>(.*?)</dt>\s*<dd>(.*?)</dd>", listed.partition("</details>")[0], re.DOTALL)
        assert explained, f"no symbols below {says[:200]}"
        there = {sign.tex for formula in formulas(says) for sign in symbol_lists.signs(formula)}
        for term, meaning in explained:
            assert re.search(r'href="notation.html#sym-[\w-]+"', term)
            assert meaning
            shown = formulas(term)
            assert shown
            assert set(shown) <= there


def test_the_package_page_shows_no_raw_emphasis() -> None:
    text = page(HTML / "book" / "api.html").text
    prose = re.sub(r"<(pre|code).*?</\1>", "", text[text.index('class="api"') :], flags=re.DOTALL)
    raw = re.findall(r"(?<![\w*])\*\w[^*\n<>]*\*(?![\w*])|``?\w[^`<>]*`", prose)
    assert raw == []


def test_mathjax_comes_with_the_site_and_with_its_licence() -> None:
    assert (HTML / "_static" / "mathjax" / "tex-chtml.js").is_file()
    assert list((HTML / "_static" / "mathjax" / "output" / "chtml" / "fonts").rglob("*.woff"))
    assert "Apache License" in (HTML / "_static" / "mathjax-LICENSE.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_page_has_a_content_security_policy_before_anything_loads(name: str) -> None:
    text = page(HTML / f"{name}.html").text
    policy = text.index('http-equiv="Content-Security-Policy"')
    assert policy < min(text.index(tag) for tag in ("<script", "<link") if tag in text)
    allowed = text[policy : text.index(">", policy)]
    assert "unsafe-eval" not in allowed
    assert "http:" not in allowed
    scripts = re.search(r"script-src ([^;]*);", allowed)
    assert scripts is not None
    assert "unsafe-inline" not in scripts[1]
    assert "'sha256-" in scripts[1]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_in_a_new_tab_has_no_opener_and_no_markup_runs_a_script(name: str) -> None:
    text = page(HTML / f"{name}.html").text
    tabs = re.findall(r'<a [^>]*target="_blank"[^>]*>', text)
    assert [link for link in tabs if "noopener" not in link and "noreferrer" not in link] == []
    assert re.findall(r'<[a-z][^<>]* on[a-z]+="', text) == []


def test_a_chapter_s_number_stands_in_its_title_and_in_the_links_to_it() -> None:
    chapters = [name for name in PAGES if re.match(r"book/\d\d-", name)]
    intro = page(HTML / "book" / "intro.html").text
    for name in chapters:
        number = int(name.removeprefix("book/")[:2])
        assert re.search(rf"<h1>{number} · ", page(HTML / f"{name}.html").text), name
        links = re.findall(rf'href="{name.removeprefix("book/")}\.html">(?:<span[^>]*>)?([^<]+)<', intro)
        assert links, name
        assert all(link.strip().startswith(f"{number} · ") for link in links), (name, links)
