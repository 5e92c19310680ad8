"""Small extensions of the site: chapter numbers, labels of works, links from code to the package page, symbols."""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from pybtex.database import Entry, Person, parse_file

from book._ext.chapter_numbers import number_of
from book._ext.package_links import with_links
from book._ext.reference_labels import AuthorYearLabels, label


def test_a_chapter_has_the_number_of_its_file_and_other_pages_none() -> None:
    assert number_of("book/03-closed-form") == 3
    assert number_of("book/16-langevin") == 16
    assert number_of("book/toolbox") is None
    assert number_of("book/intro") is None


def entry(*names: str, year: str = "2025") -> Entry:
    return Entry("article", {"title": "T", "year": year}, {"author": [Person(name) for name in names]})


def test_works_are_labelled_as_the_text_cites_them() -> None:
    assert label(entry("Xu, Aolin", "Raginsky, Maxim", year="2017")) == "Xu and Raginsky, 2017"
    assert label(entry("Peng, A", "Li, B", "Su, C")) == "Peng et al., 2025"
    assert label(entry("van der Vaart, A")) == "van der Vaart, 2025"
    assert label(Entry("book", {"title": "{A} book", "year": "2000"})) == "A book, 2000"
    assert label(entry(r"Gr\"unwald, P")) == "Grünwald, 2025"
    assert label(entry("{Ben Arous}, G")) == "Ben Arous, 2025"


def test_no_two_works_have_one_label_and_no_label_shows_its_source() -> None:
    works = parse_file(str(ROOT / "book" / "references.bib")).entries.values()
    labels = list(AuthorYearLabels().format_labels(list(works)))
    assert {text for text in labels if labels.count(text) > 1} == set()
    assert [text for text in labels if re.search(r"[\\{}$]", text)] == []


def test_a_call_of_the_package_leads_to_its_entry_and_other_names_do_not() -> None:
    def code(module: str, name: str) -> str:
        return f'<span class="n">{module}</span><span class="o">.</span><span class="n">{name}</span>'

    page = with_links(code("neu", "bound") + code("np", "array"), {"neu.bound"})
    assert page == f'<a class="package-link" href="api.html#helpers.neu.bound">{code("neu", "bound")}</a>' + code(
        "np", "array"
    )


ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))  # extensions import one another by name
import symbol_lists  # noqa: E402

NOTES = """
| [$Z\\sim\\mu$]{#sym-z} | an example and its distribution | row |
| [$W_t$, $W=W_T$]{#sym-wt} | weights | $(d,)$ |
| [$w^\\star$]{#sym-wstar} | a minimum | $(d,)$ |
| [$L_S(w)$]{#sym-ls} | training risk | nats |
| [$I(W;S)$]{#sym-i} | information | nats |
| [$I(\\cdot\\,;\\cdot\\mid\\cdot)$]{#sym-cmi} | information given more | nats |
| [$I$, $I_d$]{#sym-identity} | identity matrix | $(d,d)$ |
| [$\\lVert H\\rVert_F$]{#sym-frob} | Frobenius norm | number |
| [$\\lambda$]{#sym-lambda} | trade-off; chapters 10 to 12 | number |
| [$\\lambda$]{#sym-ridge} | the ridge; chapter 9 only | number |
| [$\\lambda_{\\max}$, $\\lambda_1$]{#sym-lmax} | largest eigenvalue | number |
| [$T$]{#sym-t} | number of updates | count |
"""


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (r"W_{t-1}+W_0", {"wt": [r"W_{t-1}", "W_0"]}),
        (r"\sum_{t=1}^T x_t", {"t": ["T"]}),  # what stands above and below a sum is seen
        (r"L_S(v)", {"ls": ["L_S"]}),  # the letters of an index are not
        (r"L_\mu(v), \nabla L", {}),
        (r"w^*", {"wstar": ["w^*"]}),
        (r"w", {}),
        (r"\tilde W", {}),  # an accent makes another symbol
        (r"x^T", {"t": ["T"]}),
        (r"I(W_T;X)", {"i": [r"I(\cdot\,;\cdot)"], "wt": ["W_T"]}),
        (r"I(x;y\mid Z)", {"cmi": [r"I(\cdot\,;\cdot\mid\cdot)"], "z": ["Z"]}),
        (r"N(0,\rho^2I)", {"identity": ["I"]}),
        (r"\|A\|_F^2", {"frob": [r"\|\cdot\|_F"]}),
        (r"\|x\|^2", {}),
        (r"\lambda_1+\lambda_j", {"lmax": [r"\lambda_1"]}),  # a form with a number is that number's
        (r"\underbrace{Z}_{\text{a Title}}", {"z": ["Z"]}),
        (r"\begin{aligned}W&\end{aligned}", {"wt": ["W"]}),
    ],
)
def test_symbols_are_those_of_the_formula(formula: str, expected: dict[str, list[str]]) -> None:
    found = symbol_lists.symbols_of([formula], symbol_lists.read_meanings(NOTES), 3, [])
    assert {meaning.anchor.removeprefix("sym-"): written for meaning, written in found} == expected


def test_a_letter_has_the_meaning_of_its_chapter_and_none_that_the_statement_replaces() -> None:
    meanings = symbol_lists.read_meanings(NOTES)
    for chapter, expected in {3: [], 9: ["the ridge"], 11: ["trade-off"]}.items():
        assert [m.says for m, _ in symbol_lists.symbols_of([r"\lambda"], meanings, chapter, [])] == expected
    assert symbol_lists.symbols_of([r"\lambda"], meanings, 9, [r"\lambda"]) == []
    assert symbol_lists.symbols_of([r"\lambda"], meanings, 9, ["sym-ridge"]) == []


def test_what_statements_replace_is_a_symbol_or_a_meaning_of_theirs() -> None:
    own = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"]["symbol_lists_own"]
    meanings = symbol_lists.read_meanings((ROOT / "book" / "notation.md").read_text(encoding="utf-8"))
    cells = [
        (int(path.name[:2]), "".join(cell["source"]))
        for path in (ROOT / "book").glob("[0-9][0-9]-*.ipynb")
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
    ]
    for name_of, names in own.items():
        ((chapter, text),) = [(c, t) for c, t in cells if f":label: {name_of}\n" in t]
        statement = re.split(r"^:::", text.partition(f":label: {name_of}\n")[2], flags=re.MULTILINE)[0]
        formulas = re.findall(r"\$+([^$]+)\$+", statement)
        with_all, with_own = (symbol_lists.symbols_of(formulas, meanings, chapter, o) for o in ([], names))
        for name in names:
            shown = [m.anchor if name.startswith("sym-") else tex for m, written in with_all for tex in written]
            kept = [m.anchor if name.startswith("sym-") else tex for m, written in with_own for tex in written]
            if not name.startswith("sym-"):
                assert name in shown, f"{name_of}: {name} is not explained anyhow: leave it out"
            assert name not in kept
