"""Two builds of one commit are the same: a notebook that ran twice, with what a kernel makes up, gives equal pages."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
FIRST = ["da957d7ac30a4731b2c340d245aeccf4", "96a04e6db1b84ca49e9f7d9119056688", "5c83573a3cce4b89a4c01ef6483ddbe1"]
SECOND = ["1d40939ebadc40eb86ba9179d04d7415", "d586a252c7604373898ee74dba6dacc9", "0b53e511e964d044969111ff3d990e51"]
CONFIG = """
import sys
sys.path.insert(0, {ext!r})
extensions = ["myst_nb", "same_html"]
nb_execution_mode = "off"
html_theme = "basic"
html_last_updated_fmt = None
"""


@pytest.fixture(scope="module")
def same_html() -> Any:
    sys.path.insert(0, str(ROOT / "book" / "_ext"))
    yield importlib.import_module("same_html")
    sys.path.remove(str(ROOT / "book" / "_ext"))


def rendered(layout: str, shown: str, hidden: str) -> str:
    """A page with a layout, a widget that is shown twice and one that is not, under given identifiers."""
    state = {
        layout: {"model_name": "LayoutModel", "state": {}},
        shown: {"model_name": "AnyModel", "state": {"layout": f"IPY_MODEL_{layout}", "title": "0" * 32}},
        hidden: {"model_name": "AnyModel", "state": {"layout": f"IPY_MODEL_{layout}"}},
    }
    view = f'<script type="{VIEW}">{json.dumps({"version_major": 2, "model_id": shown})}</script>'
    return (
        f"<p>{'a1' * 16}, a digest</p>{view}<p>Text.</p>{view}\n"
        f'<script type="{STATE}">{json.dumps({"state": state, "version_major": 2})}</script>'
    )


def test_identifiers_become_numbers_in_the_order_of_the_page_and_nothing_else_changes(same_html: Any) -> None:
    numbers = [f"{i:032x}" for i in (1, 2, 3)]
    assert same_html.number_widgets(rendered(*FIRST)) == rendered(*numbers)
    assert same_html.number_widgets(rendered(*SECOND)) == rendered(*numbers)
    assert same_html.number_widgets(rendered(*numbers)) == rendered(*numbers)
    assert same_html.number_widgets(rendered(*numbers[::-1])) == rendered(*numbers)


def test_a_page_without_widgets_stays_as_it_is(same_html: Any) -> None:
    assert same_html.number_widgets(f"<p>{FIRST[0]}</p>") == f"<p>{FIRST[0]}</p>"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<function f at 0x7efe88543060>", "<function f>"),
        ("f(loss=&lt;function g at 0x7EFE88543060&gt;)", "f(loss=&lt;function g&gt;)"),
        ("<bound method A.f of <A object at 0x7f302ed432e0>>", "<bound method A.f of <A object>>"),
        ("read at 0x7efe88543060, not 0x7efe88543060>", "read at 0x7efe88543060, not 0x7efe88543060>"),
    ],
)
def test_addresses_go_and_other_numbers_stay(same_html: Any, text: str, left: str) -> None:
    assert same_html.ADDRESS.sub("", text) == left


def notebook(names: list[str], address: str, messages: list[str]) -> dict[str, Any]:
    """A notebook that was run: it drew a widget, wrote a function as a value and as HTML, and printed in messages."""
    layout, shown, hidden = names
    models = {
        layout: {"model_name": "LayoutModel", "model_module": "@jupyter-widgets/base", "state": {}},
        shown: {"model_name": "AnyModel", "model_module": "anywidget", "state": {"layout": f"IPY_MODEL_{layout}"}},
        hidden: {"model_name": "AnyModel", "model_module": "anywidget", "state": {}},
    }
    text = f"<function f at {address}>"
    results: list[dict[str, Any]] = [
        {VIEW: {"model_id": shown, "version_major": 2, "version_minor": 0}, "text/plain": [text]},
        {"text/plain": [text]},
        {"text/html": [f"<code>{text.replace('<', '&lt;').replace('>', '&gt;')}</code>"], "text/plain": [text]},
    ]
    outputs = [{"output_type": "display_data", "data": data, "metadata": {}} for data in results]
    printed = [{"output_type": "stream", "name": "stdout", "text": [message]} for message in messages]
    code = {"cell_type": "code", "execution_count": 1, "id": "b", "metadata": {}, "source": ["f"]}
    title = {
        "cell_type": "markdown",
        "id": "a",
        "metadata": {},
        "source": ["# Title\n\nAn address: <f at 0x7efe88543060>"],
    }
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"widgets": {STATE: {"state": models, "version_major": 2, "version_minor": 0}}},
        "cells": [title, {**code, "outputs": [*printed, *outputs, *printed]}],
    }


def build(folder: Path, *made_up: Any) -> dict[str, bytes]:
    """The pages and the search index of a site that has the notebook for its only page."""
    source, target = folder / "source", folder / "html"
    source.mkdir(parents=True)
    (source / "conf.py").write_text(CONFIG.format(ext=str(ROOT / "book" / "_ext")))
    (source / "index.ipynb").write_text(json.dumps(notebook(*made_up)))
    with docutils_namespace():
        Sphinx(str(source), str(source), str(target), str(folder / "trees"), "html", status=None, warning=None).build()
    return {file: (target / file).read_bytes() for file in ("index.html", "genindex.html", "searchindex.js")}


def test_a_notebook_that_ran_twice_gives_the_same_pages_and_the_same_index(same_html: Any, tmp_path: Path) -> None:
    once = build(tmp_path / "once", FIRST, "0x7efe88543060", ["one\n\ntwo at 0x7e0123456789>\nthree\n"])
    again = build(
        tmp_path / "again", SECOND, "0x7f302ed432e0", ["one\n", "\ntw", "o at 0x7f01234", "56789>", "\nthree\n"]
    )
    assert once == again
    page = once["index.html"].decode()
    assert page.count("one\n\ntwo&gt;\nthree\n") == 2  # before and after the widget
    assert page.count('class="output text_plain highlight-') == 1
    assert "An address: &lt;f at 0x7efe88543060&gt;" in page  # what an author writes is not touched
    state = json.loads(same_html.WIDGET_STATE.findall(page)[0])["state"]
    assert list(state) == [f"{i:032x}" for i in (1, 2, 3)]
    assert state[f"{2:032x}"]["state"] == {"layout": f"IPY_MODEL_{1:032x}"}
    assert f'"model_id": "{2:032x}"' in page


def test_the_built_book_has_no_random_identifier_and_no_address(same_html: Any) -> None:
    if not (HTML / "index.html").is_file():
        pytest.skip("There is no built book to look at: run `make book` first.")
    pages = {path: path.read_text(encoding="utf-8") for path in HTML.rglob("*.html")}
    assert [path.name for path, page in pages.items() if same_html.number_widgets(page) != page] == []
    assert [path.name for path, page in pages.items() if same_html.ADDRESS.search(page)] == []
