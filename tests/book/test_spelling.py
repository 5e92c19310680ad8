"""The spelling check finds what is wrong, looks at prose only, and keeps its list of words short."""

import json
from pathlib import Path

import pytest

from tools import check_spelling
from tools.check_spelling import ROOT, Speller, accepted_words, check, main, words_of

# In every line: "color" is no prose here.
NO_PROSE = """\
A formula $color$, `color`, {doc}`the colour <color>`, https://color.org, [a link](color.html), {cite}`color`, color.py.

$$
\\mathrm{color}
$$

```python
color
```

```{math}
:label: color
color
```

:::{admonition} Read on
:class: color
A ReLU-network of CIFAR_color, color2 and f(x)=color.
:::

    color = 1

```{include} color.md
```
"""
NESTED = """\
One line.

::::{admonition} A misspelt titel
:class: tip
:::{dropdown} Proof
Some words,
and a sentense.
:::
::::

| a | tabel |
|---|---|

:::{glossary}
trajectory
  Where the wieghts go.
:::
"""


@pytest.fixture(scope="module")
def speller() -> Speller:
    return Speller(set())


def page(folder: Path, text: str) -> Path:
    path = folder / "page.md"
    path.write_text(text, encoding="utf-8")
    return path


def notebook(folder: Path, *cells: str, alt: str = "") -> Path:
    texts = [{"cell_type": "markdown", "metadata": {}, "source": cell.splitlines(keepends=True)} for cell in cells]
    code = {"cell_type": "code", "metadata": {"mystnb": {"image": {"alt": alt}}}, "source": ["colr = 1"]}
    path = folder / "a.ipynb"
    path.write_text(json.dumps({"cells": [*texts, code]}), encoding="utf-8")
    return path


def test_a_misspelt_word_is_found_with_its_place_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = notebook(tmp_path, "Right.", "Right here.\n\nThe *optimsers* descend.", alt="A sentense.")
    assert main([str(path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{path}, cell 1, line 3: 'optimsers' is no known word. Mend it, or add it to tools/words.txt.",
        f"{path}, cell 2, alt text, line 1: 'sentense' is no known word (is it 'sentence'?). "
        "Mend it, or add it to tools/words.txt.",
    ]


def test_code_formulas_roles_and_addresses_are_no_prose(tmp_path: Path, speller: Speller) -> None:
    assert check([page(tmp_path, NO_PROSE)], speller) == []


def test_boxes_tables_and_terms_are_prose(tmp_path: Path, speller: Speller) -> None:
    found = check([page(tmp_path, NESTED)], speller)
    assert [fault.split("' is")[0].split("page.md, ")[1] for fault in found] == [
        "line 3: 'titel",
        "line 7: 'sentense",
        "line 11: 'tabel",
        "line 16: 'wieghts",
    ]


def test_in_a_module_docstrings_are_prose_and_its_names_are_not(tmp_path: Path, speller: Speller) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        '"""Some wrods.\n\nOf ``colr`` and "colr"::\n\n    colr = 1\n\nAnd wrods."""\n# colr\n\n\n'
        'def hvp(w: float) -> str:\n    """The hvp of w,\n    and its wrods. Hvp."""\n    return "colr"\n'
    )
    assert [fault.split(": ")[0].split(", ")[1] for fault in check([path], speller)] == ["line 1", "line 7", "line 13"]


def test_a_term_is_written_in_one_way_in_labels_too(tmp_path: Path) -> None:
    path = notebook(tmp_path, "The 0-1 loss, from 0-1, and in 2010-1 so.", "The 0–1 loss.")
    found = check_spelling.forms([path, ROOT / "src" / "helpers" / "losses.py"])
    assert [fault.split(": ")[1] for fault in found] == ["'0-1' is written '0–1'."]


def test_claims_are_prose_where_they_say_something(tmp_path: Path, speller: Speller) -> None:
    path = tmp_path / "claims.yml"
    path.write_text("- id: wrods\n  says: $wrods$ and wrods\n  why: >-\n    Some\n    wrods.\n")
    assert [fault.split(": ")[0].split(", ")[1] for fault in check([path], speller)] == ["line 2", "line 3"]


@pytest.mark.parametrize("word", ["colour", "behaviour", "minimiser", "linearised", "Raginsky", "doesn't"])
def test_english_is_british_and_authors_are_known(speller: Speller, word: str) -> None:
    assert speller.fault(word) is None


@pytest.mark.parametrize(
    ("word", "british"), [("color", "colour"), ("Behavior", "behaviour"), ("minimized", "minimised")]
)
def test_american_forms_are_refused_with_the_british_one(speller: Speller, word: str, british: str) -> None:
    assert speller.fault(word) == f"American for {british!r}"


def test_words_end_at_hyphens_and_possessives_and_names_are_none() -> None:
    text = "Wang’s sub-Gaussian (bound): SGD, PyTorch, x2, a_b, file.py, sigma^2 and/or 'quoted'."
    assert list(words_of(text)) == ["Wang", "sub", "Gaussian", "bound", "and", "or", "quoted"]


def test_an_accepted_word_in_lower_case_is_right_in_any_case_and_a_name_only_as_it_stands() -> None:
    speller = Speller({"nats", "Krylov"})
    faults = [word for word in ("nats", "Nats", "Krylov", "krylov") if speller.fault(word)]
    assert faults == ["krylov"]
    assert speller.used == {"nats", "Krylov"}


def test_an_accepted_word_that_no_text_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    page(tmp_path, "Three nats.")
    words = tmp_path / "words.txt"
    words.write_text("bits\nnats\n")
    monkeypatch.setattr(check_spelling, "all_texts", lambda: [tmp_path / "page.md"])
    assert main([], words) == 1
    assert capsys.readouterr().out.strip() == "words.txt: no text has 'bits'. Take it out."


@pytest.mark.parametrize("text", ["b\na\n", "a\na\n"])
def test_the_list_of_words_is_sorted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "words.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match="alphabetical order"):
        accepted_words(path)


def test_the_book_has_no_misspelt_word(capsys: pytest.CaptureFixture) -> None:
    assert main([]) == 0, capsys.readouterr().out


def test_continuous_integration_checks_the_spelling() -> None:
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nlint:")[1].split("\n\n")[0]
    assert "tools/check_spelling.py" in lint
    assert "codespell" in lint
    assert "make lint" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
