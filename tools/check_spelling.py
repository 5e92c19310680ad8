"""Check the spelling of the book's prose, which is British, against a dictionary and a list of accepted words.

Looked at: the text cells of notebooks and the alternative texts of their figures, the Markdown pages, the words in
``claims.yml``, and the docstrings of the package, which the book shows. The parser of the book says what is prose, so
code, formulas, roles, links' addresses and the options of directives are not. Neither is a word with a digit or with a
capital inside (CIFAR, ReLU), nor in a docstring a name of the module's own code. Code and comments are codespell's.

The dictionary is American; codespell's list of British forms turns it round, so ``color`` is refused and ``colour``
is not. Authors in ``references.bib`` are known. Anything else that is right has a line in ``tools/words.txt``, in lower
case if it may be written in any case, and a word there that no text has is refused.

A term is written in one way wherever a reader sees it, in labels of figures, tables and widgets as in prose; so the
lines of code are looked at for ``FORMS`` too.

    python tools/check_spelling.py [NOTEBOOK, PAGE or MODULE ...]
"""

import ast
import io
import json
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import yaml
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser
from spellchecker import SpellChecker

ROOT = Path(__file__).resolve().parents[1]
WORDS = ROOT / "tools" / "words.txt"
TEXTS = ["*.md", "book/*.md", "book/*.ipynb", "book/claims.yml", "src/helpers/**/*.py"]
PROSE_OF_CLAIMS = ("says", "why")
SHOWN = ["src/helpers/**/*.js"]  # code whose labels readers see, beside that of the texts above
FORMS = {re.compile(r"(?<![\w.,-])0-1(?= [a-z])"): "0–1"}
# Directives without prose, and directives whose argument is a label.
NO_PROSE = {"bibliography", "code", "code-block", "code-cell", "image", "include", "math", "raw", "toctree"}
LABELLED = {"solution", "solution-start"}
DIRECTIVE = re.compile(r"\{([\w:-]+)\}\s*(.*)")
OPTIONS = re.compile(r"\A(?:[ \t]*:[\w-]+:.*\n)+")
# Literals, formulas, values such as "sgd", and the indented block behind a double colon.
CODE_IN_DOCSTRING = re.compile(r"``.*?``|`[^`]*`|\$[^$]*\$|\"[\w.]+\"|(?<=::\n)(?:\n| +[^\n]*\n?)+", re.DOTALL)
ROW_NAME = re.compile(r"\b(?:00\d|beyond)-[\w-]+")
BETWEEN_WORDS = re.compile(r"[\s\-–—,;:!?\"“”„()\[\]…·|*/]+")
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
BRITISH_FORM = re.compile(r"(?<=\w{3})is(e|es|ed|er|ers|ing|able|ation|ations)$")


@dataclass(frozen=True)
class Prose:
    """One piece of running text.

    Attributes:
        where: the file, and the cell if it is a notebook.
        line: of the file or of the cell, from 1.
        names: words that are code here.
    """

    where: str
    line: int
    text: str
    names: frozenset[str] = frozenset()


def parser() -> MarkdownIt:
    """The Markdown parser of the book, with the extensions that ``_config.yml`` turns on."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    extensions = set(config["parse"]["myst_enable_extensions"])
    return create_md_parser(MdParserConfig(enable_extensions=extensions), RendererHTML)


def running_text(inline: list[Token]) -> str:
    """The words among the tokens of a paragraph, line by line, without formulas, code, roles and addresses."""
    pieces, address = [], False
    for token in inline:
        if token.type == "link_open":
            address = token.info == "auto"
        elif token.type == "link_close":
            address = False
        elif token.type in ("text", "image"):
            pieces.append("" if address else token.content)
        elif token.type in ("softbreak", "hardbreak"):
            pieces.append("\n")
        elif token.type.startswith(("math", "code", "myst_role")):
            pieces.append(" x ")  # a word that is never looked up
    return "".join(pieces)


def blank(pattern: re.Pattern[str], text: str) -> str:
    """The text with what the pattern finds taken out, and with as many lines as before."""
    return pattern.sub(lambda match: " x " + "\n" * match[0].count("\n"), text)  # x: no neighbours join


def markdown(md: MarkdownIt, where: str, text: str, line: int = 1) -> Iterator[Prose]:
    """The prose in Markdown that begins at a line, directives in directives included."""
    for token in md.parse(text):
        first = line + (token.map or [0])[0]
        if token.type == "inline":
            for number, words in enumerate(running_text(token.children or []).split("\n")):
                yield Prose(where, first + number, words)
        elif token.type in ("fence", "colon_fence"):
            directive = DIRECTIVE.match(token.info)
            if directive and directive[1] not in NO_PROSE:
                if directive[1] not in LABELLED:
                    yield from markdown(md, where, directive[2], first)
                yield from markdown(md, where, blank(OPTIONS, token.content), first + 1)


def notebook(md: MarkdownIt, where: str, text: str) -> Iterator[Prose]:
    """The prose of a notebook: its text cells, and what it says about its figures."""
    for number, cell in enumerate(json.loads(text)["cells"]):
        place = f"{where}, cell {number}"
        if cell["cell_type"] == "markdown":
            yield from markdown(md, place, "".join(cell["source"]))
        alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
        yield from markdown(md, f"{place}, alt text", alt)


def claims(md: MarkdownIt, where: str, text: str) -> Iterator[Prose]:
    """The prose in the rows of ``claims.yml``, without the names of other rows."""
    rows = yaml.compose(text, Loader=yaml.SafeLoader)
    for row in rows.value if rows else []:
        for key, value in row.value:
            if key.value in PROSE_OF_CLAIMS:
                yield from markdown(md, where, blank(ROW_NAME, value.value), value.start_mark.line + 1)


def docstrings(where: str, text: str) -> Iterator[Prose]:
    """The prose in the docstrings of a module; every name in its code is a word there."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    names = frozenset(token.string for token in tokens if token.type == tokenize.NAME)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (words := ast.get_docstring(node)):
            for number, line in enumerate(blank(CODE_IN_DOCSTRING, words).split("\n")):
                yield Prose(where, node.body[0].lineno + number, line, names)


def prose(md: MarkdownIt, path: Path) -> Iterator[Prose]:
    """The prose of one file, by what kind of file it is."""
    text = path.read_text(encoding="utf-8")
    where = str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
    if path.suffix == ".py":
        return docstrings(where, text)
    read = {".ipynb": notebook, ".yml": claims}.get(path.suffix, markdown)
    return read(md, where, text)


def words_of(text: str) -> Iterator[str]:
    """The words of a text; what holds a digit, a dot, an underscore or the like is none."""
    for piece in BETWEEN_WORDS.split(text.replace("’", "'")):
        word = piece.strip(".'").removesuffix("'s")
        # a capital inside a word makes it a name
        if len(word) > 1 and WORD.fullmatch(word) and word[1:].islower():
            yield word


def authors() -> set[str]:
    """The names in the book's bibliography."""
    lines = re.findall(r"author = \{(.*)\},", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"))
    return {word for line in lines for word in re.findall(r"\w+", line) if word.istitle()}


def british_forms() -> dict[str, str]:
    """British form to American form, from codespell."""
    listed = files("codespell_lib") / "data" / "dictionary_en-GB_to_en-US.txt"
    return dict(line.split("->") for line in listed.read_text(encoding="utf-8").splitlines())


@dataclass
class Speller:
    """What is a word; ``used`` collects the accepted words that a text has."""

    accepted: set[str]
    used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.english = SpellChecker(distance=1)
        self.authors = authors()
        self.american = british_forms()
        self.british = {american: british for british, american in self.american.items()}

    def fault(self, word: str) -> str | None:
        """What is wrong with a word, or None."""
        low = word.lower()
        if found := {word, low} & self.accepted:
            self.used |= found
            return None
        if low in self.british:
            return f"American for {self.british[low]!r}"
        if self.is_english(low) or word in self.authors:
            return None
        nearest = self.english.correction(low)
        nearest = self.british.get(nearest or low, nearest)
        return f"no known word (is it {nearest!r}?)" if nearest not in (None, low) else "no known word"

    def is_english(self, low: str) -> bool:
        """Whether a dictionary knows the word, or the American form of a British one."""
        return low in self.english or low in self.american or BRITISH_FORM.sub(r"iz\1", low) in self.english


def accepted_words(path: Path) -> list[str]:
    """The lines of a list of words.

    Raises:
        ValueError: if they are not in order, or a word stands there twice.
    """
    words = path.read_text(encoding="utf-8").split()
    if words != sorted(set(words), key=lambda word: (word.lower(), word)):
        raise ValueError(f"{path.name} is not in alphabetical order, or has a word twice: sort it.")
    return words


def all_texts() -> list[Path]:
    """Every file that holds prose of the book."""
    return sorted(path for pattern in TEXTS for path in ROOT.glob(pattern))


def check(paths: list[Path], speller: Speller) -> list[str]:
    """One sentence for every fault in the prose of the files."""
    md = parser()
    return [
        f"{piece.where}, line {piece.line}: {word!r} is {fault}. Mend it, or add it to tools/words.txt."
        for path in paths
        for piece in prose(md, path)
        for word in words_of(piece.text)
        if not piece.names & {word, word.lower()} and (fault := speller.fault(word))
    ]


def forms(paths: list[Path]) -> list[str]:
    """One sentence for every line that writes a term in another way than the book does."""
    named = {path: str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path) for path in paths}
    return [
        f"{where}, line {number}: {found[0]!r} is written {form!r}."
        for path, where in named.items()
        if path.suffix != ".py"  # plain text there, for terminals and artefacts; ``plots.table`` sets it
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for pattern, form in FORMS.items()
        for found in pattern.finditer(line)
    ]


def main(names: list[str], words: Path = WORDS) -> int:
    """Check the files named, or everything and then the list of words too; 1 if there is a fault."""
    accepted = accepted_words(words)
    speller = Speller(set(accepted))
    paths = [Path(name).resolve() for name in names] or all_texts()
    faults = check(paths, speller) + forms(paths)
    if not names:
        faults += forms(sorted(path for pattern in SHOWN for path in ROOT.glob(pattern)))
        unused = [word for word in accepted if word not in speller.used]
        faults += [f"{words.name}: no text has {word!r}. Take it out." for word in unused]
    print("\n".join(faults) or "no misspelt word")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
