"""The page of symbols and terms, and the extension that explains them in the chapters, on a site of two pages."""

import importlib
import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from docutils import nodes
from docutils.utils import new_document
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import docutils_namespace

from helpers.omniscient.rows import Row
from helpers.training import Run

ROOT = Path(__file__).resolve().parents[2]
NOTATION = ROOT / "book" / "notation.md"
CONFIG = """
import sys
sys.path.insert(0, {ext!r})
extensions = ["myst_parser", "sphinx_design", "hover_notes"]
myst_enable_extensions = ["attrs_inline", "colon_fence", "dollarmath"]
html_theme = "basic"
hover_notes_page = "words"
"""
WORDS = """# Words

| symbol | meaning |
|---|---|
| [$x$]{#sym-x} | the thing itself |

:::{glossary}
gradient dispersion
dispersion
  How far gradients
  scatter.

flatness
  How little the risk rises.
:::
"""
CHAPTER = """# A chapter on dispersion

See [the symbol](#sym-x), `dispersion` and [a link on flatness](https://example.org).

```{dropdown} Flatness
Flatness, folded away.
```

| dispersion |
|---|
| flatness |

The *Gradient
dispersions* are not non-dispersion; dispersion again. And flatness, flatness.
"""


@pytest.fixture(scope="module")
def extension():
    """The module, from its folder beside the book."""
    sys.path.insert(0, str(ROOT / "book" / "_ext"))
    yield importlib.import_module("hover_notes")
    sys.path.remove(str(ROOT / "book" / "_ext"))


@pytest.fixture(scope="module")
def notes(extension):
    return extension.read_notes(NOTATION.read_text(encoding="utf-8"))


def build(folder: Path) -> dict[str, str]:
    """The pages of a site whose sources lie in a folder; a warning is an error."""
    with docutils_namespace():
        app = Sphinx(folder, folder, folder / "out", folder / "trees", "html", status=None, warningiserror=True)
        app.build()
    assert app.statuscode == 0
    return {page.stem: page.read_text(encoding="utf-8") for page in (folder / "out").glob("*.html")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sources of a site: words, a chapter, and a page that is no chapter."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "conf.py").write_text(CONFIG.format(ext=str(ROOT / "book" / "_ext")), encoding="utf-8")
    index = "# Index\n\nOf flatness.\n\n```{toctree}\n02-chapter\nwords\n```\n"
    for name, text in {"words": WORDS, "02-chapter": CHAPTER, "index": index}.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def site(folder, extension):
    return build(folder)


def links(page: str) -> list[tuple[str, str, str]]:
    """Target, title and text of the explained links of a page."""
    found = re.findall(r'<a class="[^"]*hover-note[^"]*"([^>]*)>(.*?)</a>', page, re.DOTALL)
    return [
        (
            re.search(r'href="([^"]*)"', attributes)[1],
            re.search(r'title="([^"]*)"', attributes)[1],
            re.sub(r"<.*?>|\s+", " ", text).strip(),
        )
        for attributes, text in found
    ]


def test_first_mentions_in_running_text_become_links(site):
    assert links(site["02-chapter"]) == [
        ("words.html#sym-x", "the thing itself", "the symbol"),
        ("words.html#term-gradient-dispersion", "How far gradients scatter.", "Gradient dispersions"),
        ("words.html#term-flatness", "How little the risk rises.", "flatness"),
    ]
    for target, _, _ in links(site["02-chapter"]):
        assert f'id="{target.partition("#")[2]}"' in site["words"]


def test_only_chapters_get_links(site):
    assert links(site["index"]) == links(site["words"]) == []


def test_index_leads_from_a_term_to_its_chapters(site):
    assert "chapter  2, A chapter on dispersion" in site["genindex"]
    for anchor in ("mention-gradient-dispersion", "mention-flatness"):
        assert f'href="02-chapter.html#{anchor}"' in site["genindex"]
        assert site["02-chapter"].count(f'id="{anchor}"') == 1
    assert 'href="words.html#term-flatness"' in site["genindex"]


def test_a_changed_explanation_reaches_pages_that_did_not_change(site, folder):
    (folder / "words.md").write_text(WORDS.replace("scatter", "spread"), encoding="utf-8")
    assert links(build(folder)["02-chapter"])[1][1] == "How far gradients spread."


def test_pattern_takes_the_longest_name_as_whole_words(extension):
    pattern = extension.Notes(dict.fromkeys(["dispersion", "gradient dispersion", "soft rank"], ""), {}, {}).pattern
    text = "The gradient dispersion; Soft\nranks; dispersions; dispersionless; non-dispersion; dispersion-free."
    assert [match[1] for match in pattern.finditer(text)] == ["gradient dispersion", "Soft\nrank", "dispersion"]
    assert pattern.search("-dispersion")[1] == "dispersion"  # what follows a formula and a hyphen


@pytest.mark.parametrize(
    ("parents", "expected"),
    [
        ([nodes.paragraph], True),
        ([nodes.paragraph, nodes.emphasis], True),
        ([nodes.list_item, nodes.paragraph], True),
        ([nodes.title], False),
        ([nodes.paragraph, nodes.reference], False),
        ([nodes.paragraph, nodes.literal], False),
        ([nodes.figure, nodes.caption], False),
        ([nodes.table, nodes.entry, nodes.paragraph], False),
        ([lambda: nodes.container(nb_element="cell_code"), nodes.paragraph], False),
        ([lambda: nodes.admonition(classes=["dropdown"]), nodes.paragraph], False),
    ],
)
def test_prose(extension, parents, expected):
    parent = new_document("page")
    for make in parents:
        child = make()
        parent += child
        parent = child
    text = nodes.Text("flatness")
    parent += text
    assert extension.is_prose(text) is expected


@pytest.mark.parametrize("formula", ["$x$", "*x*", "`x`"])
def test_explanations_are_words(extension, formula):
    with pytest.raises(ExtensionError, match="plain words"):
        extension.read_notes(WORDS.replace("scatter", formula))
    with pytest.raises(ExtensionError, match="plain words"):
        extension.read_notes(WORDS.replace("the thing", formula))


def test_a_page_without_a_glossary_is_refused(extension):
    with pytest.raises(ExtensionError, match="glossary"):
        extension.read_notes("# Words\n")


def test_every_symbol_and_term_is_explained_once(notes):
    text = NOTATION.read_text(encoding="utf-8")
    anchors = re.findall(r"\{#([\w-]+)\}", text)
    assert sorted(anchors) == sorted(notes.symbols)  # none is overlooked by the pattern, none stands twice
    assert all(notes.symbols.values())
    assert all(notes.terms.values())
    assert set(re.findall(r"\]\(#(sym-[\w-]+)\)", text)) <= set(anchors)


def test_every_term_is_used_in_a_chapter(notes):
    chapters = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "book").glob("[0-9][0-9]-*.ipynb"))
    used = {notes.names[" ".join(m[1].lower().split())] for m in notes.pattern.finditer(chapters.replace("\\n", " "))}
    assert set(notes.terms) - used == set()


def test_names_in_the_code_exist():
    text = NOTATION.read_text(encoding="utf-8")
    objects = {"row": {field.name for field in fields(Row)}, "run": {*dir(Run), *(f.name for f in fields(Run))}}
    for module, name in re.findall(r"`(\w+)\.(\w+)`", text):
        if module == "loss":
            module, name = "losses", "ClippedCrossEntropy"
        known = objects.get(module) or dir(importlib.import_module(f"helpers.{module}"))
        assert name in known, f"{module}.{name}"
