"""MyST's Markdown as plain Markdown: what Jupyter, Colab, VS Code and GitHub show without any extension.

Statements, admonitions and exercises become quotes with a bold title; proofs in a drop-down and solutions become
``<details>``; citations, labels and pages become links into the published book. A directive or a role that is not known
here is an error: nothing of MyST's is left over. Formulas stay as they are: the book has no macros of its own.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from sphinx.errors import ExtensionError

FENCE = re.compile(r"([:`]{3,})\{([\w:-]+)\} *(.*)")
CODE_FENCE = re.compile(r"(`{3,}|~{3,})[\w-]*")
OPTION = re.compile(r":([\w-]+): *(.*)")
TARGET = re.compile(r"\([\w:.-]+\)=")
ROLE_TARGET = re.compile(r"(.*?)\s*<([^<>]+)>")
DISPLAYED = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)


@dataclass(frozen=True)
class Book:
    """What the references of a page mean.

    Attributes:
        site: address of the published book, without a slash at the end.
        titles: page, such as "book/toolbox" -> its title.
        labels: label -> page, anchor there, and words such as "Theorem 1".
        works: key of a work -> authors, year, page and anchor of its entry.
    """

    site: str
    titles: dict[str, str]
    labels: dict[str, tuple[str, str, str]]
    works: dict[str, tuple[str, str, str, str]]

    def address(self, page: str, anchor: str = "") -> str:
        """Where a page, or a place of it, is published."""
        return f"{self.site}/{page}.html" + (f"#{anchor}" if anchor else "")

    def folder(self, page: str) -> str:
        """Where the pages beside it are published."""
        return f"{self.site}/{page}".rpartition("/")[0] + "/"


def plain(markdown: str, page: str, book: Book) -> str:
    """The Markdown of a page, such as "book/toolbox", in plain form.

    Raises:
        ExtensionError: if it has a directive or role that is not known here, or names what the book does not have.
    """
    return _plain(_gates_closed(markdown).splitlines(), page, book).strip("\n")


def _gates_closed(markdown: str) -> str:
    """Exercises and solutions between a start and an end become fences around what lies between."""
    for kind in ("exercise", "solution"):
        markdown = re.sub(
            rf"^```\{{{kind}-start\}}(.*?)\n```\n(.*?)\n```\{{{kind}-end\}}(?:\n```$|\Z)",
            lambda gate, kind=kind: f"::::::{{{kind}}}{gate[1]}\n\n{gate[2]}\n::::::",  # type: ignore[misc]
            markdown,
            flags=re.DOTALL | re.MULTILINE,
        )
    return markdown


def _plain(lines: list[str], page: str, book: Book) -> str:
    done: list[str] = []
    text: list[str] = []

    def flush() -> None:
        if text:
            done.append(_inline("\n".join(text), page, book))
            text.clear()

    at = 0
    while at < len(lines):
        line = lines[at]
        directive, code = FENCE.fullmatch(line.strip()), CODE_FENCE.fullmatch(line.strip())
        if directive or code:
            end = _end(lines, at, (directive or code)[1])  # type: ignore[index]
            flush()
            if directive:
                done.append(_directive(directive[2], directive[3].strip(), lines[at + 1 : end], page, book))
            else:
                done.append("\n".join(lines[at : end + 1]))
            at = end
        elif not TARGET.fullmatch(line):
            text.append(line)
        at += 1
    flush()
    return "\n".join(done)


def _end(lines: list[str], start: int, fence: str) -> int:
    """The line that closes the fence opened in line ``start``."""
    for number in range(start + 1, len(lines)):
        if lines[number].strip() == fence:
            return number
    raise ExtensionError(f"The fence {lines[start]!r} is never closed: write {fence} on a line of its own.")


def _directive(name: str, argument: str, body: list[str], page: str, book: Book) -> str:
    options: dict[str, str] = {}
    while body and (option := OPTION.fullmatch(body[0].strip())):
        options[option[1]] = option[2]
        body = body[1:]
    text = _plain(body, page, book).strip("\n")
    title = _inline(argument, page, book)
    if name == "prf:proof":
        return f"*Proof.* {text}" + ("\n\n∎" if text.endswith("$$") else " ∎")
    if name.startswith("prf:"):
        kind = _named(options["label"], book)[2] if "label" in options else name.removeprefix("prf:").title()
        return quote(f"{kind} ({title})." if title else f"{kind}.", text)
    if name == "exercise":
        return quote(f"{_named(options['label'], book)[2]}. {title}", text)
    if name == "solution":
        return details(f"Solution to {_named(argument, book)[2]}", text)
    if name == "dropdown":
        return details(title, text)
    if name in ("admonition", "grid-item-card"):
        return quote(title, text)
    if name == "grid":
        return text
    raise ExtensionError(f"{page}: plain notebooks do not know the directive {{{name}}}: say in plain_markdown.py how.")


def quote(title: str, text: str) -> str:
    """A quote with a bold title; a displayed formula on one line, for a quote's marks are no TeX."""
    text = DISPLAYED.sub(lambda formula: f"$${' '.join(formula[1].split())}$$", text)
    return "\n".join(f"> {line}".rstrip() for line in [f"**{title}**", "", *text.splitlines()])


def details(summary: str, text: str) -> str:
    """A fold that a reader opens; the blank lines make its inside Markdown again."""
    return f"<details>\n<summary>{summary}</summary>\n\n{text}\n\n</details>"


def _named(label: str, book: Book) -> tuple[str, str, str]:
    if label not in book.labels:
        raise ExtensionError(f"The book has no label {label!r}: mend the reference.")
    return book.labels[label]


def _inline(text: str, page: str, book: Book) -> str:
    """Text without directives: its roles and links to labels; what stands in code is left alone."""
    pattern = re.compile(
        r"\{(?P<role>[\w:-]+)\}`(?P<content>[^`]*)`"
        r"|(?P<code>(?P<ticks>`+).*?(?<!`)(?P=ticks)(?!`))"
        r"|(?<=\]\()#(?P<label>[\w:.-]+)(?=\))",
        re.DOTALL,
    )

    def replacement(found: re.Match[str]) -> str:
        parts = found.groupdict()
        if parts["role"]:
            return _role(parts["role"], " ".join(parts["content"].split()), page, book)
        if parts["label"]:
            return book.address(*_named(parts["label"], book)[:2])
        return found[0]

    return pattern.sub(replacement, text)


def _role(name: str, content: str, page: str, book: Book) -> str:
    if name not in ROLES:
        raise ExtensionError(f"{page}: plain notebooks do not know the role {{{name}}}: say in plain_markdown.py how.")
    return ROLES[name](content, page, book)


def _to_page(content: str, page: str, book: Book) -> str:
    named = ROLE_TARGET.fullmatch(content)
    target = named[2] if named else content
    path = target.removeprefix("/") if target.startswith("/") else f"{page.rpartition('/')[0]}/{target}".lstrip("/")
    if path not in book.titles:
        raise ExtensionError(f"{page}: the book has no page {path!r}: mend the reference.")
    return f"[{named[1] if named else book.titles[path]}]({book.address(path)})"


def _to_label(content: str, page: str, book: Book) -> str:
    named = ROLE_TARGET.fullmatch(content)
    target, anchor, words = _named(named[2] if named else content, book)
    return f"[{named[1] if named else words}]({book.address(target, anchor)})"


def _works(content: str, page: str, book: Book) -> list[tuple[str, str, str]]:
    keys = [key.strip() for key in content.split(",")]
    if missing := [key for key in keys if key not in book.works]:
        raise ExtensionError(f"{page}: the book has no reference {missing[0]!r}: add it to references.bib.")
    return [(authors, year, book.address(*place)) for authors, year, *place in map(book.works.get, keys)]  # type: ignore[misc]


def _textual(content: str, page: str, book: Book) -> str:
    return ", ".join(f"[{authors} ({year})]({url})" for authors, year, url in _works(content, page, book))


def _parenthetical(content: str, page: str, book: Book) -> str:
    return "(" + "; ".join(f"[{authors}, {year}]({url})" for authors, year, url in _works(content, page, book)) + ")"


ROLES: dict[str, Callable[[str, str, Book], str]] = {
    "cite": _parenthetical,
    "cite:p": _parenthetical,
    "cite:t": _textual,
    "doc": _to_page,
    "prf:ref": _to_label,
    "ref": _to_label,
}
