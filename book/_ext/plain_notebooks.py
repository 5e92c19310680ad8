"""Sphinx extension: the notebooks that a reader downloads, or opens in Colab, read well there.

The source of a chapter is written for this book's tools: elsewhere its theorems and citations would show as markup. So
where Sphinx copies the source of a page for the download button, ``_sources/PAGE.ipynb``, the finished site has the
same notebook in plain form, as it was executed:

- text is plain Markdown (``plain_markdown``), and the second cell says where the page is published;
- code cells are those of the source, but for three things. One that is folded on the page begins with a title, by
  which Colab and Jupyter fold it. After an exercise's check there is a cell for an attempt, with the exercise's stub.
  The code of a solution stands within the fold of its text;
- an output that is a widget is left to its table: without a kernel the widget would be an error. Links of a table lead
  to the published pages.
"""

import json
import re
from pathlib import Path
from typing import Any

import nbformat
from jupyter_cache import get_cache  # type: ignore[import-untyped]
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

from plain_markdown import Book, plain
from same_html import ADDRESS

Cell = dict[str, Any]
WIDGET = "application/vnd.jupyter.widget-view+json"
GATES = re.compile(r"^```\{solution-(start|end)\}", re.MULTILINE)
BESIDE = re.compile(r"""(<a [^>]*?href=["'])(?![a-z]+:|[#/])""")
BESIDE_IT = 'SITE = ""  # where the pages are: beside this one'  # in code that writes links
STUB = re.compile(r"\n(?:    .*\n|\n)*(?:    .*\n)")  # indented code with the blank lines within it


def plain_notebook(notebook: dict[str, Any], page: str, book: Book) -> dict[str, Any]:
    """A notebook of the book, executed or not, in plain form.

    Raises:
        ExtensionError: as ``plain_markdown.plain`` does.
    """
    cells = _with_attempts(_with_solutions_in_their_text(notebook["cells"]))
    for cell in cells:
        if cell["cell_type"] == "markdown":
            cell["source"] = plain(cell["source"], page, book)
        elif cell["cell_type"] == "code":
            _fold(cell)
            cell["source"] = cell["source"].replace(BESIDE_IT, f'SITE = "{book.folder(page)}"')
            kept = [output for output in map(_without_widget, cell["outputs"]) if output is not None]
            cell["outputs"] = [_with_whole_addresses(output, page, book) for output in kept]
    cells.insert(1, _origin(page, book))
    metadata = {key: notebook["metadata"][key] for key in ("kernelspec", "language_info")}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _tags(cell: Cell) -> set[str]:
    return set(cell["metadata"].get("tags", []))


def _with_solutions_in_their_text(cells: list[Cell]) -> list[Cell]:
    """The cells, with the code between a solution's start and end in the text that starts it."""
    done: list[Cell] = []
    inside = False
    for cell in cells:
        text = "".join(cell["source"])
        if not inside:
            done.append({**cell, "source": text})
        elif cell["cell_type"] == "markdown":
            done[-1]["source"] += f"\n\n{text}"
        elif "exercise-answer" not in _tags(cell):
            done[-1]["source"] += f"\n\n```python\n{text}\n```"
        if cell["cell_type"] == "markdown" and (gates := GATES.findall(text)):
            inside = gates[-1] == "start"
    if inside:
        raise ExtensionError("A solution is never closed: end it with {solution-end}.")
    return done


def _with_attempts(cells: list[Cell]) -> list[Cell]:
    """The cells, with the stub of each exercise that has a check taken from its text into a cell behind the check."""
    done: list[Cell] = []
    for cell in cells:
        done.append(cell)
        if "exercise-check" in _tags(cell):
            before, start, exercise = done[-2]["source"].rpartition("```{exercise-start}")
            stubs = [stub for stub in STUB.findall(exercise) if "    def " in stub]
            call = re.search(rf"`({_check_name(cell['source'])}\(.*?\))`", exercise)
            if not stubs or call is None:
                raise ExtensionError(
                    f"The exercise before the check {cell['id']} has no stub, or no call of the check."
                )
            for stub in stubs:
                exercise = exercise.replace(stub, "\n", 1)
            done[-2]["source"] = before + start + exercise
            code = "\n".join(line[4:] for stub in stubs for line in stub.splitlines()).strip("\n")
            code = re.sub(r"\n{2,}(?=def )", "\n\n\n", f"{code}\n\n\n{call[1]}")
            done.append(_code(f"{cell['id']}-attempt", code))
    return done


def _check_name(source: str) -> str:
    found = re.search(r"^def (\w+)\(", source, re.MULTILINE)
    return found[1] if found else "(?!)"


def _code(name: str, source: str) -> Cell:
    return {
        "cell_type": "code", "execution_count": None, "id": name, "metadata": {}, "outputs": [], "source": source,
    }  # fmt: skip


def _fold(cell: Cell) -> None:
    """Fold the code that is folded on the page, under its title there; Colab's title is a comment of this form."""
    if _tags(cell) & {"hide-input", "remove-input"}:
        title = cell["metadata"].get("mystnb", {}).get("code_prompt_show", "Show what follows")
        cell["source"] = f"# @title {title}\n{cell['source']}"
        cell["metadata"] = {**cell["metadata"], "cellView": "form", "jupyter": {"source_hidden": True}}


def _without_widget(output: dict[str, Any]) -> dict[str, Any] | None:
    """The output without the widget in it; None if nothing else is in it, or if it is a warning."""
    if output["output_type"] == "stream":
        return output if output["name"] == "stdout" else None
    if WIDGET not in output.get("data", {}):
        return output
    data = {kind: value for kind, value in output["data"].items() if kind != WIDGET}
    return {**output, "data": data} if "text/html" in data else None


def _with_whole_addresses(output: dict[str, Any], page: str, book: Book) -> dict[str, Any]:
    """The output whose HTML links to pages of the book by whole addresses."""
    if "text/html" not in output.get("data", {}):
        return output
    html = BESIDE.sub(rf"\1{book.folder(page)}", "".join(output["data"]["text/html"]))
    return {**output, "data": {**output["data"], "text/html": html}}


def _origin(page: str, book: Book) -> Cell:
    text = (
        f"*This notebook belongs to [a page of Flatness and Information]({book.address(page)}). There the sliders move "
        "without a kernel; here every cell can be run and changed.*"
    )
    return {"cell_type": "markdown", "id": "origin", "metadata": {}, "source": text}


def known(env: BuildEnvironment) -> Book:
    """What Sphinx has read: pages, labels, statements, exercises, references."""
    numbers: dict[str, dict[str, dict[str, tuple[int, ...]]]] = env.toc_fignumbers
    labels: dict[str, tuple[str, str, str]] = {}
    standard = env.get_domain("std")
    for label, (page, anchor) in standard.anonlabels.items():  # type: ignore[attr-defined]
        labels[label] = (page, anchor, standard.labels.get(label, ("", "", label))[2])  # type: ignore[attr-defined]
    for label, entry in getattr(env, "proof_list", {}).items():
        kind = entry["realtype"].title()
        number = numbers.get(entry["docname"], {}).get(entry["countertype"], {}).get(label, ())
        labels[label] = (entry["docname"], label, f"{kind} {'.'.join(map(str, number))}".rstrip())
    for label, entry in getattr(env, "sphinx_exercise_registry", {}).items():
        if counted := numbers.get(entry["docname"], {}).get("exercise", {}).get(label):
            labels[label] = (entry["docname"], label, f"Exercise {'.'.join(map(str, counted))}")
    works = {}
    for work in env.get_domain("cite").citations:  # type: ignore[attr-defined]
        where = (work.bibliography_key.docname, work.citation_id)
        works[work.key] = (_authors(work.entry), work.entry.fields["year"], *where)
    titles = {page: title.astext() for page, title in env.titles.items()}
    return Book(env.config.html_baseurl.rstrip("/"), titles, labels, works)


def _authors(entry: Any) -> str:
    """Family names as a text has them: one, two, or the first "et al."."""
    people = entry.persons.get("author") or entry.persons.get("editor")
    names = [" ".join(map(str, (*who.rich_prelast_names, *who.rich_last_names))) for who in people]
    return f"{names[0]} et al." if len(names) > 2 else " and ".join(names)


def executed(source: Path, cache: Path) -> dict[str, Any]:
    """The notebook with the outputs that the cache has of its code, from which the pages are written, too.

    Raises:
        ExtensionError: if it has none.
    """
    notebook = nbformat.read(source, as_version=4)
    try:
        found: dict[str, Any] = get_cache(cache).merge_match_into_notebook(notebook)[1]
    except KeyError:
        problem = f"{source.name} was not executed as it stands, so its plain form has no results."
        raise ExtensionError(problem) from None
    return found


def write_notebooks(app: Sphinx, exception: Exception | None) -> None:
    """Put the plain form in the place of every notebook's source."""
    if exception is not None or app.builder.format != "html":
        return
    book, cache = known(app.env), Path(app.env.mystnb_config.execution_cache_path)  # type: ignore[attr-defined]
    for page in sorted(app.env.found_docs):
        target = Path(app.outdir) / "_sources" / f"{page}.ipynb"
        source = Path(app.env.doc2path(page))
        if source.suffix != ".ipynb":
            continue
        notebook = plain_notebook(executed(source, cache), page, book)
        text = json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(ADDRESS.sub("", text) + "\n", encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("build-finished", write_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
