"""The notebooks that readers download: plain Markdown, the code of the source, exercises that can be attempted."""

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
import yaml
from sphinx.errors import ExtensionError

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
BUILT = ROOT / "_build" / "html" / "_sources" / "book"
SITE = "https://example.org/book"
CODE = re.compile(r"^```python\n.*?^```$|(`+).*?(?<!`)\1(?!`)", re.DOTALL | re.MULTILINE)
MARKUP = {
    "a directive": re.compile(r"^[ >]*[:`]{3,}\{|^[ >]*:{3,} *$", re.MULTILINE),
    "an option": re.compile(r"^[ >]*:[\w-]+: ", re.MULTILINE),
    "a role": re.compile(r"\{[\w:.-]+\}`"),
    "a target": re.compile(r"^\([\w:.-]+\)=", re.MULTILINE),
    "a link to a label": re.compile(r"\]\(#"),
}


def test_formulas_use_no_macros_that_a_notebook_elsewhere_would_not_know() -> None:
    """JupyterLab shows an undefined macro as a black box, and reads no settings of the book."""
    settings = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"]
    assert "tex" not in settings["mathjax3_config"]
    for path in [*NOTEBOOKS, ROOT / "book" / "notation.md"]:
        assert not re.search(r"\\\\?(?:E|R|tr)(?![A-Za-z])", path.read_text(encoding="utf-8")), path.name


class Anything(dict):
    """Knows every key, for notebooks that are not seen through Sphinx."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> Any:
        return self.value

    def get(self, key: str, default: Any = None) -> Any:
        return self.value


@pytest.fixture(scope="module")
def tools() -> Any:
    folder = str(ROOT / "book" / "_ext")
    sys.path.insert(0, folder)
    yield SimpleNamespace(**{n: importlib.import_module(f"plain_{n}") for n in ("markdown", "notebooks")})
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def small(tools: Any) -> Any:
    return tools.markdown.Book(
        SITE,
        {"book/toolbox": "A toolbox", "book/01-gap": "The gap"},
        {"thm-a": ("book/01-gap", "thm-a", "Theorem 1"), "ex1": ("book/01-gap", "ex1", "Exercise 2")},
        {
            "xu2017": ("Xu and Raginsky", "2017", "book/references", "id3"),
            "wu": ("Wu", "2025", "book/references", "id4"),
        },
    )


@pytest.fixture(scope="module")
def anything(tools: Any) -> Any:
    label = ("book/01-gap", "x", "Theorem 1")
    return tools.markdown.Book(SITE, Anything("A page"), Anything(label), Anything(("Wu", "2025", "p", "x")))


@pytest.mark.parametrize(
    ("myst", "expected"),
    [
        ("See {doc}`toolbox`.", f"See [A toolbox]({SITE}/book/toolbox.html)."),
        ("See {doc}`the box <toolbox>`.", f"See [the box]({SITE}/book/toolbox.html)."),
        ("By {prf:ref}`thm-a`", f"By [Theorem 1]({SITE}/book/01-gap.html#thm-a)"),
        ("[golden](#thm-a)", f"[golden]({SITE}/book/01-gap.html#thm-a)"),
        ("{cite:t}`wu` said", f"[Wu (2025)]({SITE}/book/references.html#id4) said"),
        (
            "so {cite}`xu2017,wu`.",
            f"so ([Xu and Raginsky, 2017]({SITE}/book/references.html#id3); "
            f"[Wu, 2025]({SITE}/book/references.html#id4)).",
        ),
        (r"$\mathbb{E}X$ and ``{doc}`toolbox` ``", r"$\mathbb{E}X$ and ``{doc}`toolbox` ``"),
        ("(a-target)=\n## Title", "## Title"),
        (
            ":::{prf:theorem} The bound\n:label: thm-a\n\n{cite}`wu` If\n\n$$\na\\le\nb\n$$\nholds.\n:::",
            "> **Theorem 1 (The bound).**\n>\n"
            f"> ([Wu, 2025]({SITE}/book/references.html#id4)) If\n>\n> $$a\\le b$$\n> holds.",
        ),
        (":::{prf:proof}\nClear.\n:::", "*Proof.* Clear. ∎"),
        (
            "::::{dropdown} Why\n:::{prf:proof}\nAs $$a=b.$$\n:::\n::::",
            "<details>\n<summary>Why</summary>\n\n*Proof.* As $$a=b.$$\n\n∎\n\n</details>",
        ),
        (":::{admonition} Do\n:class: tip\n- one;\n- two.\n:::", "> **Do**\n>\n> - one;\n> - two."),
        ("```{exercise} ★ Try\n:label: ex1\n\nHow?\n```", "> **Exercise 2. ★ Try**\n>\n> How?"),
        (
            "```{solution} ex1\n:class: dropdown\n\nSo.\n```",
            "<details>\n<summary>Solution to Exercise 2</summary>\n\nSo.\n\n</details>",
        ),
        (
            "```{exercise-start} ★ Try\n:label: ex1\n```\nHow?\n```{exercise-end}\n```",
            "> **Exercise 2. ★ Try**\n>\n> How?",
        ),
        ("```python\n:::{note}\n```", "```python\n:::{note}\n```"),
    ],
)
def test_markup_becomes_what_every_reader_shows(tools, small, myst, expected):
    assert tools.markdown.plain(myst, "book/01-gap", small) == expected


@pytest.mark.parametrize(
    ("myst", "message"),
    [
        (":::{video} a\n:::", r"do not know the directive \{video\}"),
        ("{abbr}`a`", r"do not know the role \{abbr\}"),
        (":::{admonition} Open\n", "never closed"),
        ("{doc}`nowhere`", "no page 'book/nowhere'"),
        ("{prf:ref}`nothing`", "no label 'nothing'"),
        ("{cite:t}`nobody`", "no reference 'nobody'"),
    ],
)
def test_what_is_not_known_stops_the_build_in_a_sentence(tools, small, myst, message):
    with pytest.raises(ExtensionError, match=message):
        tools.markdown.plain(myst, "book/01-gap", small)


def left_over(notebook: dict[str, Any]) -> list[str]:
    """Every bit of markup that a reader without extensions would see."""
    texts = [CODE.sub("", cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    return [f"{what}: {found[0]}" for text in texts for what, form in MARKUP.items() for found in form.finditer(text)]


def test_the_search_for_markup_finds_it():
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        source = {"cells": [{**cell, "source": "".join(cell["source"])} for cell in cells]}
        assert left_over(source) or path.stem in ("api", "status", "cost", "claims", "14-playground"), path.stem


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_markup_of_the_books_tools_is_left(tools, anything, path):
    notebook = tools.notebooks.plain_notebook(
        json.loads(path.read_text(encoding="utf-8")), f"book/{path.stem}", anything
    )
    nbformat.validate(nbformat.from_dict(notebook))
    assert left_over(notebook) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_code_is_that_of_the_source_but_for_titles_attempts_and_solutions(tools, anything, path):
    source = json.loads(path.read_text(encoding="utf-8"))
    notebook = tools.notebooks.plain_notebook(source, f"book/{path.stem}", anything)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    kept = [re.sub(r"\A# @title .*\n", "", cell["source"]) for cell in code if not cell["id"].endswith("-attempt")]
    tags = [set(cell["metadata"].get("tags", [])) for cell in source["cells"]]
    texts = ["".join(cell["source"]) for cell in source["cells"]]
    solving = {"exercise-solution", "exercise-answer"}
    every = list(zip(source["cells"], tags, texts, strict=True))
    ours = [text for cell, tag, text in every if cell["cell_type"] == "code" and not tag & solving]
    assert kept == [text.replace(tools.notebooks.BESIDE_IT, f'SITE = "{SITE}/book/"') for text in ours]
    prose = "\n".join(cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    for text in (text for _, tag, text in every if "exercise-solution" in tag):
        assert f"\n```python\n{text}\n```\n" in prose
    checks = sum("exercise-check" in tag for tag in tags)
    assert len(code) - len(kept) == checks


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_attempt_is_told_that_it_is_not_written(tools, anything, path):
    """An attempt's cell runs as it comes, with the others: a check answers, it does not raise."""
    from helpers import exercises

    notebook = tools.notebooks.plain_notebook(
        json.loads(path.read_text(encoding="utf-8")), f"book/{path.stem}", anything
    )
    for cell in notebook["cells"]:
        if cell["id"].endswith("-attempt"):
            tree = ast.parse(cell["source"])
            *stubs, call = tree.body
            assert isinstance(call, ast.Expr)
            called: dict[str, Any] = {}
            exec(compile(ast.Module(list(stubs), []), "attempt", "exec"), called)
            for stub in stubs:
                assert isinstance(stub, ast.FunctionDef)
                check = exercises.check(lambda attempt, stub=stub: attempt(*stub.args.args))
                assert check(called[stub.name]).startswith("Not written yet")


def test_a_widget_is_left_to_its_table_and_warnings_are_left_out(tools):
    view = {tools.notebooks.WIDGET: {}, "text/plain": "Lines"}
    kept = tools.notebooks._without_widget
    with_table = kept({"output_type": "display_data", "data": {**view, "text/html": "<table>"}, "metadata": {}})
    assert with_table["data"] == {"text/plain": "Lines", "text/html": "<table>"}
    assert kept({"output_type": "display_data", "data": view, "metadata": {}}) is None
    assert kept({"output_type": "stream", "name": "stderr", "text": "warning"}) is None
    assert kept({"output_type": "stream", "name": "stdout", "text": "2"}) is not None


def test_links_in_an_output_lead_to_the_published_pages(tools, small):
    html = '<a href=\'api.html#a\'>a</a> <a class="b" href="#here">b</a> <a href="https://example.org">c</a>'
    output = {"output_type": "display_data", "data": {"text/html": [html]}, "metadata": {}}
    mended = tools.notebooks._with_whole_addresses(output, "book/claims", small)["data"]["text/html"]
    assert mended == html.replace("api.html", f"{SITE}/book/api.html")


def test_links_that_code_writes_lead_there_when_it_is_run_elsewhere(tools, anything):
    source = json.loads((ROOT / "book" / "claims.ipynb").read_text(encoding="utf-8"))
    notebook = tools.notebooks.plain_notebook(source, "book/claims", anything)
    code = "\n".join(cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code")
    assert f'SITE = "{SITE}/book/"\n' in code
    assert not re.findall(r"(?:src|href)=['\"](?![{]|http|#)", code)


built = pytest.mark.skipif(not BUILT.is_dir(), reason="There is no built book to look at: run `make book` first.")
PLAIN = sorted(BUILT.glob("*.ipynb"))


@built
def test_every_notebook_is_there_in_plain_form():
    assert [path.name for path in PLAIN] == [path.name for path in NOTEBOOKS]
    assert {path.stem: left_over(json.loads(path.read_text(encoding="utf-8"))) for path in PLAIN} == {
        path.stem: [] for path in PLAIN
    }


@built
@pytest.mark.parametrize("path", PLAIN, ids=lambda path: path.stem)
def test_links_lead_to_places_of_the_published_book(path):
    site = yaml.safe_load((ROOT / "_config.yml").read_text())["html"]["baseurl"]
    html = ROOT / "_build" / "html"
    text = "\n".join(c["source"] for c in json.loads(path.read_text(encoding="utf-8"))["cells"])
    for page, anchor in re.findall(rf"\]\({re.escape(site)}/([\w/.-]+)(?:#([\w:.-]+))?\)", text):
        assert (html / page).is_file(), page
        assert not anchor or f'id="{anchor}"' in (html / page).read_text(encoding="utf-8"), f"{page}#{anchor}"


def test_the_results_come_from_the_cache_and_a_notebook_without_them_stops_the_build(tools, tmp_path):
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn

    source, cache = tmp_path / "page.ipynb", tmp_path / "cache"
    cell = nbformat.v4.new_code_cell("1 + 1")
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata=metadata)
    nbformat.write(notebook, source)
    with pytest.raises(ExtensionError, match=r"page\.ipynb was not executed as it stands"):
        tools.notebooks.executed(source, cache)
    ran = nbformat.from_dict(notebook)
    ran.cells[0].outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "2"}, execution_count=1)]
    get_cache(cache).cache_notebook_bundle(CacheBundleIn(ran, str(source)), check_validity=False)
    ((output,),) = [c["outputs"] for c in tools.notebooks.executed(source, cache)["cells"]]
    assert output["data"]["text/plain"] == "2"


@built
@pytest.mark.parametrize("path", PLAIN, ids=lambda path: path.stem)
def test_a_plain_notebook_has_the_pictures_of_its_page(path):
    page = (BUILT.parents[1] / "book" / f"{path.stem}.html").read_text(encoding="utf-8")
    shown = re.findall(r'<img[^>]+src="\.\./_images/[0-9a-f]{64}\.svg"', page)
    outputs = [o for c in json.loads(path.read_text(encoding="utf-8"))["cells"] for o in c.get("outputs", [])]
    assert len(shown) == sum("image/svg+xml" in output.get("data", {}) for output in outputs)


@built
def test_citations_read_as_on_the_page():
    """The same authors and years, which the page writes with its own brackets."""
    path = BUILT / "01-generalization-gap.ipynb"
    page = (BUILT.parents[1] / "book" / "01-generalization-gap.html").read_text(encoding="utf-8")
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))
    text = "\n".join(c["source"] for c in json.loads(path.read_text(encoding="utf-8"))["cells"])
    cited = re.findall(r"\[([^][]+?),? \(?(\d{4}\w?)\)?\]\([^)]*/references\.html#", text)
    assert len(cited) > 5
    for authors, year in cited:
        assert re.search(rf"{re.escape(authors)},? \[?{year}", words), (authors, year)


@built
@pytest.mark.parametrize("name", ["toolbox", "12-convex"])
def test_a_plain_notebook_runs(name, tmp_path):
    copy = tmp_path / f"{name}.ipynb"
    copy.write_bytes((BUILT / copy.name).read_bytes())
    # which has outputs compared by their text
    (tmp_path / "conftest.py").write_bytes((ROOT / "book" / "conftest.py").read_bytes())
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider", str(copy)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
