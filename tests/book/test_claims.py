"""The claims ledger names only what is there, and its verdicts are the ones that tests and artefacts support."""

import json
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from docutils.nodes import make_id
from ledger_rows import CLEAN, grid, made_up
from scipy.stats import kendalltau

from helpers.experiments.machinery.artefact import Json, load
from tools.verdicts import RULES, called, shoham
from tools.verdicts.common import (
    TooFew,
    agreement,
    difference,
    direction,
    every,
    finished,
    graded,
    number,
    opposite,
    reading,
)

ROOT = Path(__file__).resolve().parents[2]
ROWS: list[dict[str, Any]] = yaml.safe_load((ROOT / "book" / "claims.yml").read_text(encoding="utf-8"))
KEYS = {"id", "seed", "number", "kind", "says", "chapter", "function", "test", "artefact", "verdict", "why"}
SOURCES: dict[str, dict[str, Any]] = yaml.safe_load(
    (ROOT / "book" / "claims-sources.yml").read_text(encoding="utf-8")
)  # fmt: skip
LAST = {
    ("001", "Lemma"): 7, ("001", "Theorem"): 4, ("001", "Corollary"): 2, ("001", "Figure"): 9, ("001", "Table"): 3,
    ("001", "Algorithm"): 2, ("001", "Remark"): 4, ("002", "Figure"): 19, ("003", "Figure"): 8,
    ("000", "Open question"): 3, ("000", "Key result"): 3, ("000", "Next check"): 3,
}  # fmt: skip
VERDICTS = {
    "reproduced", "reproduced at small scale", "otherwise at small scale", "partly", "not reproduced", "answered",
    "source wrong", "not run yet",
}  # fmt: skip


def contents() -> set[str]:
    """Every page in the table of contents."""
    return set(re.findall(r"file: book/(\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8")))


def items(seed: str) -> dict[str, list[str]]:
    """What a source states, each with the rows that judge it."""
    kinds = [kind for kind in SOURCES[seed].values() if isinstance(kind, dict)]
    return {name: [rows] if isinstance(rows, str) else rows for kind in kinds for name, rows in kind.items()}


@pytest.mark.parametrize("seed", SOURCES)
def test_each_item_of_a_source_has_its_rows_and_each_row_its_item(seed: str) -> None:
    """A row of another source may judge it, if that source says the same."""
    every_row = {row["id"] for row in ROWS}
    for name, rows in items(seed).items():
        assert rows, f"{name} of {seed} has no row"
        assert set(rows) <= every_row, f"{name} of {seed} names a row that is not there: {set(rows) - every_row}"
    named = {row for rows in items(seed).values() for row in rows}
    assert {row["id"] for row in ROWS if row["seed"] == seed} <= named, "a row judges nothing that was counted"


def test_numbered_items_are_all_counted() -> None:
    """From 1 to the last number in the source; the first source's theorems 1 and 3 are not at hand."""
    for (seed, kind), last in LAST.items():
        numbers = [int(found[1]) for name in items(seed) if (found := re.fullmatch(rf"{kind} (\d+)", name))]
        assert numbers == list(range(1, last + 1)), f"{kind} of {seed}"
    assert len(SOURCES["003"]["statements"]) == 13 + 1, "thirteen results, as its summary counts them, and a definition"
    assert set(SOURCES) == {row["seed"] for row in ROWS} - {"beyond"}


def test_a_doubt_is_told() -> None:
    """Where a verdict takes something back, the reason is longer than the claim; small scale says what was small.

    Whether a doubt is told in full only a reader can say.
    """
    short = [row["id"] for row in ROWS if len(row["why"]) < 60]
    doubtful = [row for row in ROWS if row["verdict"] in ("partly", "answered") or "small scale" in row["verdict"]]
    short += [row["id"] for row in doubtful if len(row["why"]) <= len(row["says"])]
    assert not short, f"say more in `why`: {', '.join(short)}"
    sizes = re.compile(r"\b(small|narrow|digits|width 8)\b", re.I)
    silent = [row["id"] for row in doubtful if "small scale" in row["verdict"] and not sizes.search(row["why"])]
    assert not silent, f"say in `why` how small it was: {', '.join(silent)}"


def test_a_row_knows_no_neighbours() -> None:
    """It is read alone where it is cited or filtered, so another row is called by its name or its item."""
    found = [row["id"] for row in ROWS if re.search(r"\brows? (above|below)\b|\b(next|last) row\b", row["why"])]
    assert not found, f"name the row that is meant: {', '.join(found)}"


def test_a_row_that_another_names_is_there() -> None:
    ids = {row["id"] for row in ROWS}
    for row in ROWS:
        named = set(re.findall(r"\b(?:00[0-4]|beyond)-[a-z0-9-]*[a-z0-9]", row["why"]))
        assert named <= ids - {row["id"]}, f"{row['id']} names {named - ids}"


def test_ids_are_unique() -> None:
    assert len({row["id"] for row in ROWS}) == len(ROWS)


def cells(page: Path) -> list[dict[str, Any]]:
    """The cells of a notebook."""
    return list(json.loads(page.read_text(encoding="utf-8"))["cells"])


@cache
def recorded(page: Path) -> list[str]:
    """The lines that a notebook prints and that a run of it is compared with, cell by cell."""
    outputs = [out for cell in cells(page) if "nbval-check-output" in cell["metadata"].get("tags", [])
               for out in cell["outputs"]]  # fmt: skip
    texts = ["".join(out.get("text") or out.get("data", {}).get("text/plain", "")) for out in outputs]
    return [line for text in texts for line in text.split("\n")]


@cache
def anchors(page: Path) -> set[str]:
    """Labels of theorems and headings of a page, as its addresses have them."""
    text = "\n".join("".join(cell["source"]) for cell in cells(page) if cell["cell_type"] == "markdown")
    headings = (heading.replace("$", "") for heading in re.findall(r"^#{2,4} (.+)$", text, re.M))
    return set(re.findall(r"^:label: (\S+)$", text, re.M)) | {make_id(heading) for heading in headings}


def test_what_is_wrong_or_answered_leads_to_its_reason() -> None:
    """The place on the row's page where the error is shown, or the answer proved."""
    lost = [row["id"] for row in ROWS if row["verdict"] in ("source wrong", "answered") and not row.get("anchor")]
    assert not lost, f"give an anchor on the row's page: {', '.join(lost)}"
    for row in ROWS:
        if anchor := row.get("anchor"):
            there = anchors(ROOT / "book" / f"{row['chapter']}.ipynb")
            assert anchor in there, f"{row['id']}: {row['chapter']} has no {anchor}, only {sorted(there)}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_a_row_names_only_what_is_there(row: dict[str, Any]) -> None:
    assert KEYS <= set(row) <= KEYS | {"anchor", "rule"}
    assert row["seed"] in {"000", "001", "002", "003", "004", "beyond"}
    assert row["verdict"] in VERDICTS
    module, name = row["function"].split(".")
    assert hasattr(import_module(f"helpers.{module}"), name), f"helpers.{row['function']} is not there"
    if row["chapter"]:
        assert row["chapter"] in contents(), f"chapter {row['chapter']} is not in the table of contents"
        assert list((ROOT / "book").glob(f"{row['chapter']}.*")), f"chapter {row['chapter']} is not there"
    if row["artefact"]:
        assert (ROOT / "book" / "results" / row["artefact"]).exists(), f"artefact {row['artefact']} is not there"
    if row["test"]:
        path, _, name = row["test"].partition("::")
        assert name, f"{row['id']}: a file is no test, name one in it"
        if path.endswith(".ipynb"):
            assert any(name in line for line in recorded(ROOT / path)), f"{path} records no line with {name!r}"
        else:
            source = (ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"^def {name}\(", source, re.M), f"{row['test']} is not there"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_a_verdict_rests_on_a_test_or_an_artefact(row: dict[str, Any]) -> None:
    supported = bool(row["test"] or row["artefact"])
    assert supported or row["verdict"] == "not run yet", f"{row['id']} has a verdict and nothing that supports it"
    assert row["why"]


def test_what_was_not_run_says_what_it_needs() -> None:
    silent = [row["id"] for row in ROWS if row["verdict"] == "not run yet" and not row["why"].startswith("Needs ")]
    assert not silent, f"say in `why` what is missing, beginning with 'Needs': {', '.join(silent)}"


@pytest.mark.parametrize("row", [row for row in ROWS if row["artefact"]], ids=lambda row: row["id"])
def test_a_verdict_is_the_one_that_its_artefact_supports(row: dict[str, Any]) -> None:
    assert row["id"] in RULES, f"{row['id']} rests on an artefact: give it a rule in tools/verdicts"
    artefact = load(ROOT / "book" / "results" / row["artefact"])
    assert RULES[row["id"]](artefact) == row["verdict"], "run python -m tools.verdicts, then mend `verdict` and `why`"


def test_a_rule_belongs_to_a_row_that_names_it() -> None:
    """The row may not have its artefact yet."""
    assert {row["id"]: row["rule"] for row in ROWS if "rule" in row} == {
        name: called(rule) for name, rule in RULES.items()
    }


def test_a_rule_is_called_by_the_function_that_reads_the_rows() -> None:
    assert called(RULES["002-table-1"]) == "wu.sharpness_is_the_edge"
    assert called(RULES["001-figure-7"]) == "wang_mao.bound_above_gap"
    assert called(RULES["001-table-2"]) == "flat.gmp_gains"


@pytest.mark.parametrize("name", RULES)
def test_a_rule_without_rows_says_not_run_yet(name: str) -> None:
    assert RULES[name](made_up([], shares=[0.1], lambdas=[0.01], n=1, paths=200)) == "not run yet"


def powers(p: float, seeds: tuple[int, ...] = (0, 1)) -> list[Json]:
    """y = x^p, off by a percent up or down."""
    return [{"x": x, "seed": seed, "y": x**p * (1.01 if (x + seed) % 2 else 0.99)} for seed in seeds for x in (1, 2, 5)]


@pytest.mark.parametrize(("p", "found"), [(0.5, "rises"), (-0.5, "falls"), (0.0, "unclear")])
def test_a_direction_has_a_sign_and_an_interval(p: float, found: str) -> None:
    assert direction(powers(p), number("y"), "x", ("seed",)) == found
    assert opposite(opposite(found)) == found


def test_a_direction_of_too_few_rows_has_not_been_run() -> None:
    assert direction(powers(1.0)[:2], number("y"), "x", ("seed",)) == "not run yet"
    assert direction([], number("y"), "x", ()) == "not run yet"


@pytest.mark.parametrize(
    ("pairs", "verdict"),
    [
        ([("rises", "rises"), ("falls", "falls")], "reproduced"),
        ([("rises", "rises"), ("falls", "rises")], "partly"),
        ([("rises", "rises"), ("unclear", "rises")], "partly"),
        ([("rises", "falls"), ("unclear", "rises")], "not reproduced"),
        ([("unclear", "rises")], "not reproduced"),
        ([("unclear", "unclear"), ("rises", "unclear")], "not run yet"),
        ([("not run yet", "rises")], "not run yet"),
    ],
)
def test_numbers_that_move_together(pairs: list[tuple[str, str]], verdict: str) -> None:
    assert agreement(pairs) == verdict


def test_grades() -> None:
    assert [graded(True, True), graded(False, True), graded(False, False)] == ["reproduced", "partly", "not reproduced"]


def test_a_difference_is_taken_in_pairs() -> None:
    """The seeds differ far more than the methods; differences 1, 2, 3 have mean 2 and standard error 1/sqrt(3)."""
    rows = [
        {"method": method, "seed": seed, "y": 100 * seed + gain * (method == "new")}
        for seed, gain in ((0, 1), (1, 2), (2, 3))
        for method in ("new", "old")
    ]
    low, high = difference(rows, number("y"), "method", "new", "old")
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), rel=1e-5)
    flipped = difference(rows, number("y"), "method", "old", "new")
    assert flipped == pytest.approx((-high, -low))
    with pytest.raises(TooFew, match="1 pairs are too few"):
        difference(rows[:3], number("y"), "method", "new", "old")


def test_tau_is_scipys_with_ties() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 9, 50), rng.integers(0, 7, 50)
    assert shoham.tau_within(one, other, np.zeros(50)) == pytest.approx(kendalltau(one, other).statistic, rel=1e-12)


def test_every_finding_of_none_is_no_finding() -> None:
    assert every([True, True])
    assert not every([True, False])
    with pytest.raises(TooFew):
        every([])


def test_a_rule_counts_finished_rows_with_its_settings() -> None:
    rule = reading(2, part="a")(lambda rows, config: graded(len(rows) == 2, False))
    rows: list[Json] = [{"part": "a", "status": "ok"}, {"part": "b"}, {"part": "a", "status": "diverged: loss"}]
    assert rule(made_up(rows)) == "not run yet"
    rows.append({"part": "a"})
    assert rule(made_up(rows)) == "reproduced at small scale"
    assert rule(made_up(rows, "paper")) == "reproduced"
    assert reading(2, smaller=False)(lambda rows, config: "reproduced")(made_up(rows)) == "reproduced"
    assert len(finished(made_up(rows), part="a")) == 2


@pytest.mark.parametrize(
    ("rule", "along", "against"),
    [
        ("000-result-trends", "reproduced at small scale", "otherwise at small scale"),
        ("000-open-2", "otherwise at small scale", "reproduced at small scale"),
        ("000-failure-trend", "not run yet", "reproduced at small scale"),
    ],
)
def test_the_grid_is_read_with_its_signs(rule: str, along: str, against: str) -> None:
    assert RULES[rule](made_up(grid(0.3, 0.6))) == along
    assert RULES[rule](made_up(grid(-0.3, -0.6))) == along
    assert RULES[rule](made_up(grid(0.3, -0.6))) == against
    assert RULES[rule](made_up(grid(0.0, 0.6))) == "not run yet"
    assert RULES[rule](made_up(grid(0.3, 0.6)[:5])) == "not run yet"


def test_points_with_a_warning_enter_no_rule() -> None:
    """A warning on the first entry of each path moves a rule on to the next; on all of them it says nothing."""
    rows = grid(0.3, -0.6)
    assert RULES["000-result-trends"](made_up(rows)) == "otherwise at small scale"
    for row in rows:
        row["omniscient"][0]["converged"] = False
    assert RULES["000-result-trends"](made_up(rows)) == "reproduced at small scale"
    for row in rows:
        row["omniscient"][1]["clipped_share"] = 0.2
    for name in ("000-result-trends", "000-result-tight", "000-failure-trend", "000-open-2"):
        assert RULES[name](made_up(rows)) == "not run yet"


def test_the_tightness_rule_can_return_each_verdict() -> None:
    rule = RULES["000-result-tight"]
    rows = grid(0.3, 0.6)
    assert rule(made_up(rows)) == "partly"  # the smallest is mostly read off held-out losses
    informative = [row | {"omniscient": [CLEAN | {"value": row["gap"], "holdout_share": 0.3}]} for row in rows]
    assert rule(made_up(informative)) == "reproduced at small scale"
    loose = [row | {"omniscient": [CLEAN | {"value": 100.0, "holdout_share": 0.3}]} for row in rows]
    assert rule(made_up(loose)) == "otherwise at small scale"


@pytest.mark.parametrize(
    ("certificates", "loss", "verdict"),
    [
        ((1.5,), 0.5, "reproduced at small scale"),
        ((1.5, 4.0), 0.5, "partly"),
        ((4.0,), 0.5, "otherwise at small scale"),
        ((1.5,), 5.0, "not run yet"),  # networks worse than a uniform guess
    ],
)
def test_certificates_are_judged_where_networks_could_pass(
    certificates: tuple[float, ...], loss: float, verdict: str
) -> None:
    rows = grid(0.3, 0.6)
    for i, row in enumerate(rows):
        certificate = CLEAN | {"certificate": certificates[i % len(certificates)]}
        row.update(train_loss=loss, self_certified=[certificate])
    assert RULES["000-open-1"](made_up(rows)) == verdict


def clipped(gain: float) -> list[Json]:
    """Accuracies in which clipping adds the gain to the test accuracy, on noisy and on clean data."""
    rules = {"none": 0.0, "algorithm 1": gain, "algorithm 1, start detected": gain, "main text": gain / 10}
    return [
        {
            "noise": noise,
            "seed": seed,
            "rule": rule,
            "train_accuracy": [0.9],
            "test_accuracy": [0.6 + 0.01 * seed + added],
            "true_test_accuracy": [0.6 + 0.01 * seed + added + 0.001 * ((seed + len(rule)) % 3)],
        }
        for noise in (0.0, 0.4)
        for seed in range(3)
        for rule, added in rules.items()
    ]


@pytest.mark.parametrize(
    ("rule", "gains", "loses"),
    [
        ("001-figure-4", "reproduced at small scale", "otherwise at small scale"),
        ("001-figure-9", "reproduced at small scale", "otherwise at small scale"),
        ("001-clean-clipping", "otherwise at small scale", "reproduced at small scale"),
    ],
)
def test_clipping_is_read_with_its_sign(rule: str, gains: str, loses: str) -> None:
    assert RULES[rule](made_up(clipped(0.2))) == gains
    assert RULES[rule](made_up(clipped(-0.2))) == loses


def test_a_bound_that_follows_along_one_axis_follows_in_part() -> None:
    rows = grid(0.3, 0.6)
    for row in rows:
        row["omniscient"][0]["value"] = 9 * row["lr"] ** 0.6
    assert RULES["000-result-trends"](made_up(rows)) == "partly"


def test_a_large_lambda_may_set_a_trend_right_or_not() -> None:
    rows = grid(0.3, -0.6)
    for row in rows:
        row["omniscient"][1]["value"] = row["lr"] ** 0.3
    assert RULES["000-failure-trend"](made_up(rows)) == "partly"
    for row in rows:
        row["omniscient"][1]["value"] = 1 / row["gap"]
    assert RULES["000-failure-trend"](made_up(rows)) == "otherwise at small scale"


def test_what_a_row_points_to_points_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the title of a theorem, the heading of a section, the name of a function; and nowhere else."""
    monkeypatch.syspath_prepend(str(ROOT / "book" / "_ext"))
    links = import_module("ledger_links")
    row = {"id": "001-x", "chapter": "01-a", "anchor": "thm-b", "function": "neu.bound", "words": "Wu, lemma 1"}
    theorem = '<div id="thm-b"><p class="title">Theorem</p><p>Text.</p></div>'
    found = links.with_links(theorem, "01-a", [row])
    line = '<p class="ledger-here"><small>In the ledger: <a href="claims.html#claim-001-x">Wu, lemma 1</a>.</small></p>'
    assert found == theorem.replace("Theorem</p>", f"Theorem</p>{line}")
    assert links.with_links(theorem, "02-c", [row]) == theorem
    heading = '<h3 id="helpers.neu.bound">helpers.neu.bound</h3><pre>bound()</pre>'
    assert (
        'bound</h3><p class="ledger-here"><small>In the ledger: <a href="claims.html?words=neu.bound">2 rows</a>'
        in (links.with_links(heading, "api", [row, row | {"id": "001-y"}]))
    )


def test_a_link_to_a_row_says_whose_statement_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "book" / "_ext"))
    words = {row["id"]: row["words"] for row in import_module("ledger_links").ledger(ROOT / "book")}
    assert words["001-corollary-1"] == "Wang and Mao (2022), Corollary 1"
    assert words["000-open-3"] == "Peng et al. (ICLR 2025), Open question 3"
    assert words["beyond-counting"] == "this book"
