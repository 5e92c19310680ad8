"""Sphinx extension: under each statement of a chapter, folded away, what the symbols in its formulas mean.

The meanings are those of the page of notes (``hover_notes_page``); nothing is written twice. The forms of a symbol are
the formulas in the first cell of its row: ``$W_t$, $W=W_T$`` explains ``W`` and ``W_{t-1}``. An index of small letters
stands for any of letters and digits; every other index, an accent, a star and a prime belong to the form. Powers do
not. Of an equation the left side is the symbol, of ``Z\\sim\\mu`` both sides are, of a norm its index. An information
``I(W;S)`` or ``I(X;Y\\mid Z)`` is told from a matrix ``I`` by what its brackets hold.

A row whose meaning ends with "; chapter 9" or "; chapters 2, 10 to 14" is for these chapters alone. A letter to which a
statement gives a meaning of its own is named in ``symbol_lists_own``, under the label of the statement.

The list is a ``<details>`` of HTML: mouse, keyboard and finger open it without JavaScript.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform

from chapter_numbers import number_of

ROW = re.compile(r"^\| *\[(.*?)\]\{#(sym-[\w-]+)\} *\|([^|]*)\|", re.MULTILINE)
FORMULA = re.compile(r"\$([^$]+)\$")
ONLY = re.compile(r"; chapters? ([\d, andto]+?)(?: only)?\s*$")
TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[A-Za-z]|[{}_^']|\S")
SKIPPED = re.compile(r"\\(?:begin|end)\{\w+\*?\}|\\(?:text|label|tag|mbox)\s*\{[^{}]*\}")
SPACES = re.compile(r"\\[,;:! ]|\\q?quad(?![A-Za-z])|\\(?:[bB]igg?[lr]?|left|right|displaystyle)(?![A-Za-z])")
NAMED = {r"\mathrm", r"\operatorname", r"\mathcal", r"\mathbf", r"\mathbb"}
ACCENTS = {r"\tilde", r"\hat", r"\bar", r"\overline", r"\widetilde"}
SPELT = {r"\ast": r"\star", "*": r"\star", r"\operatorname{Tr}": r"\operatorname{tr}"}
SPELT |= {r"\|": r"\Vert", r"\lVert": r"\Vert", r"\rVert": r"\Vert", r"\prime": "'"}
GENERIC, INDEX = re.compile(r"[a-z,]+"), re.compile(r"[a-z0-9T,+:-]+")
MARKS = {r"\star", "'"}
BARS = {r"\|", r"\rVert", r"\Vert"}
ARGUMENTS = {"": "", ";": r"(\cdot\,;\cdot)", "|": r"(\cdot\,;\cdot\mid\cdot)"}
RANGES = {r"\sum", r"\max", r"\sup", r"\inf", r"\mathbb{E}"}


@dataclass(frozen=True)
class Sign:
    """One symbol as it stands in a formula.

    Attributes:
        base: letter, macro, or a name with its braces; an accent before it.
        index: what stands below it; "" without one.
        mark: star or prime; "" without one.
        brackets: ";" or "|" if brackets follow that hold it, as those of an information do; else "".
        tex: the symbol as a reader knows it: with index, mark and empty brackets, a norm with its bars.
    """

    base: str
    index: str = ""
    mark: str = ""
    brackets: str = ""
    tex: str = ""


@dataclass(frozen=True)
class Meaning:
    """A row of the page of notes: anchor, forms, what they mean, and the chapters for which it is (none: all)."""

    anchor: str
    forms: tuple[Sign, ...]
    says: str
    chapters: frozenset[int]

    def explains(self, sign: Sign) -> bool:
        """Whether one of the forms is this symbol, perhaps with another index."""
        return any(
            (form.base, form.mark, form.brackets) == (sign.base, sign.mark, sign.brackets)
            and (form.index == sign.index or bool(GENERIC.fullmatch(form.index) and INDEX.fullmatch(sign.index)))
            for form in self.forms
        )


def _group(tokens: list[str], at: int) -> tuple[list[str], int]:
    """The token at a place, or the tokens of the group that begins there; and the place behind."""
    if at >= len(tokens) or tokens[at] != "{":
        return tokens[at : at + 1], at + 1
    depth, end = 1, at + 1
    while end < len(tokens) and depth:
        depth += {"{": 1, "}": -1}.get(tokens[end], 0)
        end += 1
    return tokens[at + 1 : end - 1], end


def _joined(tokens: list[str]) -> str:
    """TeX from tokens; a space where a macro would run into a letter."""
    return re.sub(r"(\\[A-Za-z]+)\0(?=[A-Za-z])", r"\1 ", "\0".join(tokens)).replace("\0", "")


def _brackets(tokens: list[str], at: int) -> str:
    """What brackets that begin at a place hold: "|" a condition, ";" a semicolon, else nothing."""
    if at >= len(tokens) or tokens[at] != "(":
        return ""
    depth, held = 0, ""
    for token in tokens[at:]:
        depth += {"(": 1, ")": -1}.get(token, 0)
        if token == ";":
            held = held or ";"
        if token == r"\mid" and held:
            held = "|"
        if depth == 0:
            return held
    return held


def signs(tex: str) -> Iterator[Sign]:
    """The symbols of a formula, in the order in which they stand there."""
    yield from _signs(TOKEN.findall(SPACES.sub(" ", SKIPPED.sub(" ", tex))))


def _signs(tokens: list[str]) -> Iterator[Sign]:
    at = 0
    while at < len(tokens):
        start, base = at, tokens[at]
        at += 1
        if base in NAMED | ACCENTS:
            name, at = _group(tokens, at)
            base = f"{base}{{{''.join(name)}}}"
        elif not re.fullmatch(r"\\[A-Za-z|]+|[A-Za-z]", base):
            continue
        written = tokens[start:at]
        index, mark, above = "", "", []
        while at < len(tokens) and tokens[at] in "_^'":
            sign, begin = tokens[at], at
            group, at = (["'"], at + 1) if sign == "'" else _group(tokens, at + 1)
            if sign == "_":
                index = "".join(group)
                written += tokens[begin:at]
                # What stands below a sum or an expectation is part of the formula; of an index it is not.
                above += group if SPELT.get(base, base) in RANGES else []
            elif (said := SPELT.get("".join(group), "".join(group))) in MARKS:
                mark = said
                written += tokens[begin:at]
            else:
                above += group
        if base != "e" or "^" not in tokens[start + 1 : start + 2]:  # the number
            brackets = _brackets(tokens, at)
            bar = r"\|\cdot" if base in BARS else ""
            yield Sign(SPELT.get(base, base), index, mark, brackets, bar + _joined(written) + ARGUMENTS[brackets])
        yield from _signs(above)


def read_meanings(markdown: str) -> list[Meaning]:
    """The rows of the page of notes that have a formula in their first cell."""
    found = []
    for cell, anchor, says in ROW.findall(markdown):
        forms = [_form(part) for formula in FORMULA.findall(cell) for part in formula.split("=")[0].split(r"\sim")]
        only = ONLY.search(says)
        chapters = frozenset(_chapters(only[1]) if only else ())
        words = " ".join(ONLY.sub("", says).split())
        found.append(Meaning(anchor, tuple(form for form in forms if form), words, chapters))
    return found


def _form(formula: str) -> Sign | None:
    """The symbol of a formula: the first, but of a norm the bar that bears the index."""
    found = list(signs(formula))
    return found[-1 if found[0].base == r"\Vert" else 0] if found else None


def _chapters(words: str) -> Iterator[int]:
    """The numbers in "2, 5 and 10 to 14"."""
    for first, last in re.findall(r"(\d+)(?: to (\d+))?", words):
        yield from range(int(first), int(last or first) + 1)


def symbols_of(
    formulas: list[str], meanings: list[Meaning], chapter: int, own: list[str]
) -> list[tuple[Meaning, list[str]]]:
    """What explains the symbols of some formulas in a chapter, each with the symbols as they stand there.

    Args:
        formulas: TeX, without dollars.
        meanings: what ``read_meanings`` returns.
        chapter: its number. A row for this chapter goes before one for all.
        own: what is not to be explained: symbols as they stand there, or anchors of meanings.
    """
    found: dict[str, tuple[Meaning, list[str]]] = {}
    for sign in (sign for formula in formulas for sign in signs(formula)):
        here = [m for m in meanings if m.explains(sign) and (chapter in m.chapters or not m.chapters)]
        here = [meaning for meaning in here if not {meaning.anchor, sign.tex} & set(own)]
        for meaning in sorted(here, key=lambda m: not m.chapters)[:1]:
            written = found.setdefault(meaning.anchor, (meaning, []))[1]
            if sign.tex not in written:
                written.append(sign.tex)
    return list(found.values())


def load_meanings(app: Sphinx, env: BuildEnvironment, *changes: set[str]) -> list[str]:
    """Read the meanings before any page is read."""
    source = Path(env.doc2path(app.config.hover_notes_page))
    env.symbol_meanings = read_meanings(source.read_text(encoding="utf-8"))  # type: ignore[attr-defined]
    return []


class ListSymbols(SphinxPostTransform):
    """Put the list behind what each statement says."""

    default_priority = 30
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        chapter = number_of(self.env.docname)
        if chapter is None:
            return
        own: dict[str, list[str]] = self.config.symbol_lists_own
        for statement in self.document.findall(is_statement):
            formulas = [formula.astext() for formula in statement.findall(is_formula)]
            left_out = [tex for label in statement["ids"] for tex in own.get(label, [])]
            if found := symbols_of(formulas, self.env.symbol_meanings, chapter, left_out):  # type: ignore[attr-defined]
                statement.append(self.fold(found))

    def fold(self, found: list[tuple[Meaning, list[str]]]) -> nodes.container:
        """The list, closed; the search leaves it out, for the words belong to the page of notes."""
        items = nodes.definition_list()
        address = self.app.builder.get_relative_uri(self.env.docname, self.config.hover_notes_page)
        for meaning, written in found:
            # A formula each, for a line may end between them.
            formulas = [part for tex in written for part in (nodes.Text(", "), nodes.math(tex, tex))][1:]
            link = nodes.reference("", "", *formulas, internal=True, refuri=f"{address}#{meaning.anchor}")
            words = nodes.definition("", nodes.paragraph("", meaning.says))
            items.append(nodes.definition_list_item("", nodes.term("", "", link), words))
        opening = nodes.raw("", '<details class="symbols"><summary>Symbols</summary>', format="html")
        return nodes.container("", opening, items, nodes.raw("", "</details>", format="html"), classes=["no-search"])


def is_statement(node: nodes.Node) -> bool:
    """Whether a node is a theorem, lemma, definition ... of sphinx-proof; its proofs are none."""
    return isinstance(node, nodes.Element) and "realtype" in node


def is_formula(node: nodes.Node) -> bool:
    """Whether a node is a formula in a line or of its own."""
    return isinstance(node, nodes.math | nodes.math_block)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_config_value("symbol_lists_own", {}, "env")
    app.connect("env-get-outdated", load_meanings)
    app.add_post_transform(ListSymbols)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
