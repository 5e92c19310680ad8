"""Sphinx extension: terms and symbols explain themselves where they are used, and the index lists where that is.

One page (``hover_notes_page``) says what each term and each symbol means; nothing is written twice.

- Terms are the entries of its glossary. In each chapter the first mention of a term in running text becomes a link to
  its entry, and an entry of the index under the term.
- Symbols are the rows of its tables whose first cell is an anchor, ``[$x$]{#sym-x}``, and whose second is the meaning.
  Any link to a symbol, from any page, is explained.

A word that means something else in other chapters is explained only in those that ``hover_notes_chapters`` lists.

The explanation is the title of the link, so a browser shows it without JavaScript; ``hover-notes.js`` shows it for
keyboard and touch as well. Explanations are in words, without formulas: a title is plain text.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform

CHAPTER = re.compile(r"(?:^|/)0*(\d+)-[^/]*$")
GLOSSARY = re.compile(r"^(:{3,}|`{3,})\{glossary\}.*?\n(.*?)^\1\s*$", re.DOTALL | re.MULTILINE)
SYMBOL = re.compile(r"^\| *\[.*?\]\{#(sym-[\w-]+)\} *\|([^|]*)\|", re.MULTILINE)
MARKUP = re.compile(r"[*`_$\\]")
# Text in these is no running text: a link there would be a link in a link, or out of place.
NOT_PROSE = (
    addnodes.pending_xref,
    nodes.caption,
    nodes.citation,
    nodes.footnote,
    nodes.legend,
    nodes.literal,
    nodes.math,
    nodes.reference,
    nodes.subtitle,
    nodes.table,
    nodes.title,
)
CLASS = "hover-note"


@dataclass(frozen=True)
class Notes:
    """What the page says.

    Attributes:
        names: each name of a term in lower case, with single spaces -> the name that its entry begins with.
        terms: the first name of an entry -> its explanation.
        symbols: anchor of a symbol -> its meaning.
    """

    names: dict[str, str]
    terms: dict[str, str]
    symbols: dict[str, str]

    @property
    def pattern(self) -> re.Pattern[str]:
        """Any name as words of their own, in any case, singular or with an s; the longest name first.

        A hyphen before a name is part of another word, unless a formula stands before the hyphen ("R-sub-Gaussian").
        """
        names = sorted(self.names, key=len, reverse=True)
        alternatives = "|".join(r"\s+".join(map(re.escape, name.split())) for name in names)
        return re.compile(rf"(?<!\w)(?<!\w-)({alternatives})s?(?![\w-])", re.IGNORECASE)


def read_notes(markdown: str) -> Notes:
    """The notes in the source of a page.

    Raises:
        ExtensionError: if there is no glossary, or an explanation has markup or a formula, which a title cannot show.
    """
    glossary = GLOSSARY.search(markdown)
    if glossary is None:
        raise ExtensionError("The page of notes has no {glossary} directive: put the terms of the book into one.")
    notes = Notes({}, {}, {key: _in_words(key, meaning) for key, meaning in SYMBOL.findall(markdown)})
    heading = ""
    for entry in re.split(r"\n\s*\n", glossary[2].strip("\n")):
        lines = entry.splitlines()
        named = [line.strip() for line in lines if not line.startswith(" ")]
        heading = named[0] if named else heading
        notes.names.update({" ".join(name.lower().split()): heading for name in named})
        explanation = " ".join(line.strip() for line in lines if line.startswith(" "))
        notes.terms[heading] = _in_words(heading, f"{notes.terms.get(heading, '')} {explanation}")
    return notes


def _in_words(name: str, explanation: str) -> str:
    """The explanation with single spaces; an ExtensionError where it is more than words."""
    if MARKUP.search(explanation):
        raise ExtensionError(f"The explanation of {name} must be plain words, without markup or formulas.")
    return " ".join(explanation.split())


def load_notes(app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Read the notes before any page is read; where they have changed, all pages are outdated."""
    source = Path(env.doc2path(app.config.hover_notes_page))
    if not source.is_file():
        raise ExtensionError(f"There is no page of notes {source}: set hover_notes_page to the page with the glossary.")
    notes = read_notes(source.read_text(encoding="utf-8"))
    known = getattr(env, "hover_notes", notes)
    env.hover_notes = notes  # type: ignore[attr-defined]  # extensions keep their state on the environment
    return [] if notes == known else sorted(env.found_docs)


def is_prose(text: nodes.Text) -> bool:
    """Whether a text belongs to a paragraph that a reader sees as such: no heading, link, output, table or fold."""
    paragraph = False
    parent = text.parent
    while parent is not None:
        if isinstance(parent, NOT_PROSE) or "nb_element" in parent or "dropdown" in parent.get("classes", []):
            return False
        # A drop-down of sphinx-design: its first mention would be out of sight.
        if parent.get("design_component") == "dropdown":
            return False
        paragraph = paragraph or isinstance(parent, nodes.paragraph)
        parent = parent.parent
    return paragraph


def join_texts(element: nodes.Element) -> None:
    """Make one text of neighbours: the parser begins a new one at each line break, in the middle of a term."""
    joined: list[nodes.Node] = []
    for child in element.children:
        if joined and isinstance(child, nodes.Text) and isinstance(joined[-1], nodes.Text):
            joined[-1] = nodes.Text(joined[-1] + child)
        else:
            joined.append(child)
    element[:] = joined


def mention(term: str, words: str, chapter: str) -> list[nodes.Node]:
    """The words, marked as the first mention of a term, after an entry of the index that leads to them."""
    anchor = f"mention-{nodes.make_id(term)}"
    entry = ("single", f"{term}; {chapter}", anchor, "", None)
    marked = nodes.inline(words, words, ids=[anchor], classes=[CLASS], hover_note=term)
    return [addnodes.index(entries=[entry]), marked]


class MarkMentions(SphinxTransform):
    """Mark the first mention of each term in a chapter, and enter it into the index."""

    default_priority = 700  # before 850, when Sphinx collects the entries of the index

    def apply(self, **kwargs: Any) -> None:
        number = CHAPTER.search(self.env.docname)
        title = next(self.document.findall(nodes.title), None)
        if number is None or title is None:
            return
        notes: Notes = self.env.hover_notes  # type: ignore[attr-defined]
        # Entries are sorted as text: the space before one digit puts 2 before 10, and a browser does not show it.
        chapter = f"chapter {number[1]:>2}, {title.astext()}"
        elsewhere = self.config.hover_notes_chapters
        if unknown := set(elsewhere) - set(notes.terms):
            raise ExtensionError(
                f"hover_notes_chapters names {sorted(unknown)[0]!r}, which is no term of the glossary."
            )
        waiting = {term for term in notes.terms if int(number[1]) in elsewhere.get(term, [int(number[1])])}
        pattern = notes.pattern
        for element in list(self.document.findall(nodes.TextElement)):
            join_texts(element)
        for text in [text for text in self.document.findall(nodes.Text) if is_prose(text)]:
            pieces: list[nodes.Node] = []
            done = 0
            for match in pattern.finditer(text):
                term = notes.names[" ".join(match[1].lower().split())]
                if term in waiting:
                    waiting.remove(term)
                    pieces += [nodes.Text(text[done : match.start()]), *mention(term, match[0], chapter)]
                    done = match.end()
            if pieces:
                text.parent.replace(text, [*pieces, nodes.Text(text[done:])])


class LinkNotes(SphinxPostTransform):
    """Make each marked mention a link to its entry, and give every link to a symbol the symbol's meaning."""

    default_priority = 20  # after 10, when references are resolved
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        notes: Notes = self.env.hover_notes  # type: ignore[attr-defined]
        for marked in [node for node in self.document.findall(nodes.inline) if "hover_note" in node]:
            marked.replace_self(self.link(marked, notes))
        for link in self.document.findall(nodes.reference):
            anchor = link.get("refid") or link.get("refuri", "").partition("#")[2]
            if anchor in notes.symbols:
                link["reftitle"] = notes.symbols[anchor]
                link["classes"].append(CLASS)

    def link(self, marked: nodes.inline, notes: Notes) -> nodes.reference:
        """The link of one mention."""
        term = marked["hover_note"]
        page, anchor = self.env.get_domain("std").objects["term", term]  # type: ignore[attr-defined]
        return nodes.reference(
            "",
            "",
            *(child.deepcopy() for child in marked.children),
            internal=True,
            refuri=f"{self.app.builder.get_relative_uri(self.env.docname, page)}#{anchor}",
            reftitle=notes.terms[term],
            ids=marked["ids"],
            classes=marked["classes"],
        )


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_config_value("hover_notes_page", "book/notation", "env")
    app.add_config_value("hover_notes_chapters", {}, "env")
    app.add_js_file("hover-notes.js", loading_method="defer")
    app.connect("env-get-outdated", load_notes)
    app.add_transform(MarkMentions)
    app.add_post_transform(LinkNotes)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "env_version": 1}
