"""What the laboratory says and draws in the page, from plain data: its answer, its groups, its refusals, its stops."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from benchmarks._in_browser import InBrowser, executable, opened
from helpers.widgets.laboratory.element import OWN, SHARED
from helpers.widgets.laboratory.scripts import ENGINE, script
from helpers.widgets.laboratory.worlds import packed_digits

LINKS = Path(__file__).resolve().parents[2] / "book" / "laboratory.yml"
SCRIPTS = "\n".join([*SHARED, *map(script, OWN)]).replace("export default", "void")
K, EXAMPLES = 4, 60


@pytest.fixture(scope="module")
def page() -> Iterator[InBrowser]:
    if executable("chromium") is None:
        pytest.skip("no Chromium on this machine: install it to hold what the laboratory says")
    with opened("chromium") as ready:
        yield ready


def compute(page: InBrowser, body: str, argument: Any = None, scripts: str = SCRIPTS) -> Any:
    return page.calculate(f"{scripts}\n{body}", argument)


# --- The answer of a sweep -------------------------------------------------------------------------------------------


def row(batch_size: int, trace: float, gap: float, noise: float = 0.005, train_loss: float = 0.1) -> dict[str, Any]:
    """A finished run with these means, and runs and test examples around them."""
    draws = np.random.default_rng(batch_size)
    around = noise * (runs := draws.normal(size=K)) - noise * runs.mean()
    losses = gap + train_loss + noise * draws.normal(size=EXAMPLES)
    return {
        "settings": {"world": "digits", "batch_size": batch_size, "lr": 0.1, "seed": 0, "stop_loss": 0},
        "results": {
            "trace": trace, "traces": (trace * np.exp(around)).tolist(), "train_loss": train_loss, "epochs": 40,
            "gap": {"value": gap, "by_run": (gap + around).tolist()}, "test_losses": losses.tolist(),
        },
    }  # fmt: skip


def answer(page: InBrowser, rows: list[Any], lost: Any = ()) -> dict[str, str]:
    body = """const { rows, lost } = argument;
    return answerOf(rows, lost, "batch_size", rows.length > 1 ? [[rows[0], rows.at(-1)]] : []);"""
    found: dict[str, str] = compute(page, body, {"rows": rows, "lost": list(lost)})
    return found


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        (
            [(0.5, 0.25), (50, 0.14)],
            "rose 0.5 → 50 while the gap fell 0.25 → 0.14, so flatter did not mean a smaller gap.",
        ),
        ([(0.5, 0.14), (50, 0.25)], "rose 0.5 → 50 and the gap rose 0.14 → 0.25, so flatter meant a smaller gap."),
        (
            [(4.8, 0.21), (3, 0.29)],
            "fell 4.8 → 3 while the gap rose 0.21 → 0.29, so flatter did not mean a smaller gap.",
        ),
        (
            [(0.5, 0.25), (50, 0.251)],
            "rose 0.5 → 50; the gap, 0.25 → 0.25, is too close to tell, so this seed gives no",
        ),
        ([(5, 0.25), (5.001, 0.14)], "moved 5 → 5, which is too close to tell"),
    ],
)
def test_the_answer_is_what_the_rows_say(page: InBrowser, ends: list[Any], verdict: str) -> None:
    rows = [row(batch, *numbers) for batch, numbers in zip((2, 200), ends, strict=True)]
    assert answer(page, rows)["details"].startswith("Digits, seed 0: from batch size 2 to 200 the trace ")
    assert verdict in answer(page, rows)["details"]


LARGER, SMALLER, SAME, NO_TRACE = (
    [(0.5, 0.25), (50, 0.14)],
    [(0.5, 0.14), (50, 0.25)],
    [(0.5, 0.25), (50, 0.251)],
    [(5, 0.25), (5.001, 0.14)],
)


def seeds_of(seeds: list[Any]) -> list[Any]:
    """The two ends of a sweep, one pair a seed, each end (trace, gap)."""
    return [[row(batch, *numbers) for batch, numbers in zip((2, 200), ends, strict=True)] for ends in seeds]


FAINT = [(0.5, 0.25, 0.1), (50, 0.16, 0.1)]  # a noisy seed that alone does not tell its gaps apart
VERDICTS = {
    "all say the same": (
        [LARGER] * 5,
        5,
        "larger",
        "The flatter networks have the larger gap, by 0.11 nats (",
        "larger in five of five seeds",
    ),
    "some say it alone, all together": (
        [LARGER, LARGER, FAINT, FAINT, FAINT],
        5,
        "larger",
        "The flatter networks have the larger gap, by 0.098 nats (",
        "larger in two of five seeds, no answer in three",
    ),
    "some say it alone, not all together": (
        [LARGER, LARGER, SAME, SAME, SAME],
        5,
        "open",
        "Undecided: two of five seeds tell their gaps apart, but the interval over all seeds, ",
        "larger in two of five seeds, no answer in three",
    ),
    "the contrary": (
        [SMALLER] * 4,
        5,
        "smaller",
        "The flatter networks have the smaller gap, by 0.11 nats (",
        "smaller in four of four seeds, one left out",
    ),
    "contradiction": (
        [SMALLER, LARGER, LARGER, LARGER],
        4,
        "open",
        "Undecided: the seeds contradict each other.",
        "larger in three of four seeds, smaller in one",
    ),
    "nothing anywhere": (
        [SAME] * 5,
        5,
        "same",
        "No clear difference in the gap: flatter less sharper is ",
        "no answer in five of five seeds",
    ),
    "traces too close": (
        [LARGER, *[NO_TRACE] * 4],
        5,
        "open",
        "Undecided: only one of five seeds tells which end is the flatter, and three are needed.",
        "larger in one of five seeds, no answer in four",
    ),
    "one seed": ([LARGER], 1, "open", "Undecided: only one of one seed tells", "larger in one of one seed"),
    "none": ([], 5, "open", "No answer: the two ends were not both trained.", ""),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_headline_and_bet_are_one_verdict(page: InBrowser, name: str) -> None:
    seeds, asked, state, line, each = VERDICTS[name]
    body = """const [pairs, asked] = argument; const verdict = verdictOf(pairs, asked);
    const bets = ["smaller", "same", "larger"];
    return { state: verdict.state, line: headline(verdict), each: seedBySeed(verdict),
      worth: bets.map((said) => worth(OF_A_SWEEP, said, verdict.state)),
      told: bets.map((said) => makeScore()(OF_A_SWEEP, said, outcomeOfSweep(verdict))) };"""
    found = compute(page, body, [seeds_of(seeds), asked])
    assert found["state"] == state
    assert found["line"].startswith(line)
    assert each in found["each"]
    expected = {
        "larger": [False, False, True],
        "smaller": [True, False, False],
        "same": [None, True, None],
        "open": [None] * 3,
    }
    assert found["worth"] == expected[state]
    for judgement, told in zip(found["worth"], found["told"], strict=True):
        words = {
            True: "Right; 1 of 1 right so far.",
            False: "Wrong; 0 of 1 right so far.",
            None: "Your bet stays open, neither right nor wrong: ",
        }
        assert words[judgement] in told
        assert told.count(": ") == (judgement is None)
        if judgement is None and state == "open":  # the reason is the headline's
            reason = line.split(": ", 1)[1] if seeds else "the two ends were not both trained"
            assert reason.rstrip(".") in told
        assert ("“no clear difference” counts only where" in told) == (name == "some say it alone, not all together")


def test_what_is_judged_in_place_of_what_was_asked_is_said(page: InBrowser) -> None:
    """The same words in the headline and in the bet's line, whatever the verdict."""
    body = """return argument.map((pairs) => {
      const between = inPlaceOf("batch_size", [2, 200], [2, 20]);
      const verdict = verdictOf(pairs);
      const none = inPlaceOf("batch_size", [2, 200], [2, 200]);
      return { line: headline(verdict, between), whole: headline(verdict, none),
        told: makeScore()(OF_A_SWEEP, "larger", outcomeOfSweep(verdict, between)) };
    });"""
    larger, same, undecided = compute(page, body, [seeds_of([one] * 5) for one in (LARGER, SAME, NO_TRACE)])
    words = "between batch size 2 and 20, for 200 did not train."
    assert larger["line"].endswith(f" at 95 %), {words}")
    for found in (same, undecided):
        assert found["line"].endswith(f". This is {words}")
    for found in (larger, same, undecided):
        assert f"It is judged {words}" in found["told"]
        assert "judged" not in found["whole"]
        assert "between" not in found["whole"]


def test_an_answer_names_what_stands_in_place_of_an_end(page: InBrowser) -> None:
    rows = [row(2, 0.5, 0.25), row(20, 50, 0.14)]
    body = """return answerOf(argument, [{ value: 200, why: "it diverged" }], "batch_size", Array(4).fill(argument), 5,
      inPlaceOf("batch_size", [2, 200], [2, 20])).verdict;"""
    assert compute(page, body, rows).endswith("between batch size 2 and 20, for 200 did not train.")


@pytest.mark.parametrize(("seeds", "rtol"), [(2, 0), (3, 1e-2), (4, 2e-3), (5, 2e-3)])
def test_the_interval_over_seeds_is_student_s(page: InBrowser, seeds: int, rtol: float) -> None:
    ends = [LARGER, FAINT, [(0.5, 0.25), (50, 0.2)], [(50, 0.3), (0.5, 0.36)], LARGER]
    pairs = seeds_of(ends[-seeds:])
    found = compute(page, "return overSeeds(argument);", pairs)
    if seeds == 2:
        assert found is None
        return
    flatter = [(a, b) if a["results"]["trace"] < b["results"]["trace"] else (b, a) for a, b in pairs]
    values = np.array([np.subtract(*(end["results"]["gap"]["by_run"] for end in pair)).mean() for pair in flatter])
    examples = np.mean([np.subtract(*(end["results"]["test_losses"] for end in pair)) for pair in flatter], axis=0)
    squares = [values.var(ddof=1) / seeds, examples.var(ddof=1) / EXAMPLES]
    freedom = sum(squares) ** 2 / (squares[0] ** 2 / (seeds - 1) + squares[1] ** 2 / (EXAMPLES - 1))
    reach = stats.t.ppf(0.975, freedom) * np.sqrt(sum(squares))
    assert [found[key] for key in ("value", "low", "high")] == pytest.approx(
        [values.mean(), values.mean() - reach, values.mean() + reach], abs=rtol * reach
    )


@pytest.mark.parametrize(
    ("changes", "options", "state", "why"),
    [
        ({"batch_size": 200}, {}, "falls", ""),
        ({"batch_size": 200}, {"gap": 0.5}, "rises", ""),
        ({"batch_size": 200}, {"gap": 0.301}, "stays", "cannot be told apart"),
        ({"batch_size": 200}, {"traces": 1.001}, "falls", ""),
        ({"seed": 1}, {}, "open", "other samples"),
        ({"batch_size": 200}, {"loss": 1.8}, "open", "not trained"),
    ],
)
def test_a_bet_on_a_run_is_held_to_the_line_on_the_newest_two(
    page: InBrowser, changes: dict[str, Any], options: Any, state: str, why: str
) -> None:
    body = """const [before, newest] = argument; const outcome = outcomeOfRun(before, newest);
    return [outcome, newestLine(newestTwo([before, newest]))[0], makeScore()(OF_A_RUN, "rises", outcome)];"""
    outcome, line, told = compute(page, body, pair_of(changes, **options))
    assert outcome["state"] == state
    assert why in outcome["why"] or not why
    decided = "the flatter one has the" in line or "the gap fell" in line
    assert decided == (state in ("rises", "falls"))
    assert ("Your bet stays open" in told) == (not decided)


def test_the_picture_draws_the_difference_that_is_judged(page: InBrowser) -> None:
    """Two gaps may each be uncertain and their difference clear: only the difference has an interval."""
    pairs = seeds_of([LARGER, SAME, NO_TRACE, LARGER, LARGER, LARGER])
    body = """const shown = endsOf("batch_size", argument);
    const marks = evidencePicture("u", shown, 700).marks;
    const all = (node) => (node.tag ? [node, ...node.children.flatMap(all)] : []);
    const has = ({ attributes }, name) => (attributes.class || "").split(" ").includes(name);
    const of = (name) => marks.flatMap(all).filter((node) => has(node, name));
    return { errors: of("lab-error").length, gaps: of("lab-dot").length, bars: of("lab-difference").length,
      unknown: of("lab-unknown").length, over: of("lab-all").length, zero: of("lab-zero").length,
      seeds: shown.seeds.map(({ over, known, meant }) => [sign(over), known, meant]),
      texts: marks.flatMap(all).filter(({ tag }) => tag === "text").map(({ children }) => children[0]),
      legend: evidenceLegend(shown).flatMap(({ children }) => children).filter((one) => typeof one === "string") };"""
    found = compute(page, body, pairs)
    assert found["errors"] == 0
    assert [found[key] for key in ("gaps", "bars", "unknown", "over", "zero")] == [12, 7, 1, 1, 1]
    meant = {1: "larger", 0: "same", -1: "smaller"}
    for over, known, said in found["seeds"]:
        assert said == (meant[over] if known else None)
    assert "bar: flatter less sharper, in pairs, 95 %" in found["legend"]
    assert "dashed: traces cannot be told apart" in found["texts"]


def test_there_are_as_many_networks_as_are_said(page: InBrowser) -> None:
    rows = [row(2, 0.5, 0.25), row(200, 50, 0.14)]
    assert "Four networks of each setting" in answer(page, rows)["details"]
    for one in rows:
        one["results"]["traces"], one["results"]["gap"]["by_run"] = one["results"]["traces"][:3], [0.1, 0.2, 0.3]
    assert "Three networks of each setting" in answer(page, rows)["details"]
    assert not re.search(r"[Ff]our runs|all four", SCRIPTS)


@pytest.mark.parametrize(
    ("losses", "classes", "loss"),
    [
        ([0.001, 0.9], 10, 0.03),
        ([0.085, 0.39], 2, 0.2),
        ([0.295, 0.3], 2, 0.3),
        ([0.41, 0.5], 3, 0.5),
        ([0.2], 10, 0.5),
    ],
)
def test_the_common_loss_is_one_that_all_may_reach(
    page: InBrowser, losses: list[float], classes: int, loss: float
) -> None:
    rows = [{"results": {"train_loss": one, "classes": classes}} for one in losses]
    assert compute(page, "return commonLoss(argument);", rows) == loss


def test_what_gave_no_row_is_named_and_unequal_fit_as_well(page: InBrowser) -> None:
    rows = [row(2, 0.5, 0.25, train_loss=0.01), row(20, 5, 0.2), row(200, 50, 0.14, train_loss=0.9)]
    verdict, each, details = answer(page, rows, [{"value": 100, "why": "it diverged"}]).values()
    assert "Left out is one training: batch size 100 (it diverged)." in details
    assert "At seed 0, 3 of 3 pairs of settings can be told apart, and in 0 of them the flatter has" in details
    assert verdict == "Undecided: only one of one seed tells which end is the flatter, and three are needed."
    assert each == "Seed by seed: larger in one of one seed."
    assert "But they fit unequally: training losses at the end run from 0.01 to 0.9." in details
    assert "nothing to compare" in answer(page, rows[:1])["verdict"]
    for one in rows:
        one["settings"]["stop_loss"] = 0.3
    stopped = answer(page, rows)["details"]
    assert "fell below 0.3, after 40 to 40 epochs; at the end the losses are 0.01 to 0.9, more than a factor" in stopped
    assert "unequally" not in answer(page, rows[1:2] * 2)["details"]
    two = answer(page, [rows[0], rows[2]])["details"]
    assert (
        "At seed 0, the one pair of settings can be told apart, and in it the flatter has the larger gap (each" in two
    )
    same = answer(page, [row(2, 0.5, 0.25), row(200, 50, 0.251)])["details"]
    assert "At seed 0, the one pair of settings cannot be told apart (each" in same
    apart = [row(2, 5, 0.25), row(20, 50, 0.2), row(200, 5.001, 0.14)]
    assert "At seed 0, 2 of 3 pairs of settings can be told apart" in answer(page, apart)["details"]


def test_intervals_are_student_s(page: InBrowser) -> None:
    a, b = row(2, 0.5, 0.25, 0.05)["results"], row(200, 50, 0.14, 0.05)["results"]
    there = compute(page, "return { gap: gapChange(...argument), trace: traceChange(...argument) };", [a, b])
    runs = np.subtract(b["gap"]["by_run"], a["gap"]["by_run"])
    examples = np.subtract(b["test_losses"], a["test_losses"])
    squares = [runs.var(ddof=1) / K, examples.var(ddof=1) / EXAMPLES]
    freedom = sum(squares) ** 2 / (squares[0] ** 2 / (K - 1) + squares[1] ** 2 / (EXAMPLES - 1))
    reach = stats.t.ppf(0.975, freedom) * np.sqrt(sum(squares))
    assert [there["gap"][key] for key in ("value", "low", "high")] == pytest.approx(
        [runs.mean(), runs.mean() - reach, runs.mean() + reach], abs=2e-3 * reach
    )
    logs = np.log(np.divide(b["traces"], a["traces"]))
    expected = stats.t.interval(0.95, K - 1, logs.mean(), stats.sem(logs))
    assert [there["trace"][key] for key in ("low", "high")] == pytest.approx(
        expected, abs=2e-3 * (expected[1] - expected[0])
    )


# --- Challenges ------------------------------------------------------------------------------------------------------

FINE = {
    "classes": 10, "train_loss": 0.2, "test_loss": 0.4, "train_error": 0.0, "test_error": 0.1, "trace": 5.0,
    "dispersion": 2.0, "closed_form": {"value": 2.0, "sigma": 0.1}, "gap": {"value": 0.01, "standard_error": 0.02},
    "omniscient": [], "error_gap": {"value": 0.1, "standard_error": 0.01}, "langevin": None,
}  # fmt: skip
USEFUL = FINE | {
    "gap": {"value": 0.2, "standard_error": 0.02},
    "omniscient": [{"value": 0.3, "penalty": 0.1, "sigma": 0.01, "noise_to_weight": 0.5, "clipped_share": 0.0}],
}
DEGENERATE = {
    "untrained": ({"train_loss": 2.2}, {}, "are not trained"),
    "diverged": ({"train_loss": 9.0}, {}, "diverged"),
    "not finite": ({"trace": "NaN"}, {}, "diverged"),
    "no noise between runs": ({"dispersion": 0.0}, {}, "no noise"),
    "no spread": ({}, {"world": "moons", "toy_noise": 0}, "without spread"),
}


def judged(page: InBrowser, number: int, results: Any, settings: Any = ()) -> Any:
    body = """const results = JSON.parse(JSON.stringify(argument.results), (_, v) => (v === "NaN" ? NaN : v));
    return judged(CHALLENGES[argument.number - 1], { results, settings: argument.settings }, []);"""
    chosen = {"world": "digits", "toy_noise": 0.2} | dict(settings)
    return compute(page, body, {"number": number, "results": results, "settings": chosen})


@pytest.mark.parametrize("number", [2, 4])
@pytest.mark.parametrize("kind", DEGENERATE)
def test_a_degenerate_run_solves_no_challenge(page: InBrowser, number: int, kind: str) -> None:
    results = {2: FINE, 4: USEFUL}[number]
    assert judged(page, number, results) is True
    changes, settings, words = DEGENERATE[kind]
    said = judged(page, number, results | changes, settings)
    assert said is not True
    assert words in said


def test_a_run_that_stands_for_nothing_says_so(page: InBrowser) -> None:
    runs = [FINE, FINE | {"train_loss": 2.0}, FINE | {"train_loss": 20.0}]
    fine, untrained, diverged = compute(page, "return argument.map(standing);", runs)
    assert fine == ""
    assert (
        "compared with no other: the networks are not trained, with a training loss of 2, above half of a guess's 2.3."
        in untrained
    )
    assert "the run diverged, with a training loss of 20, where a uniform guess costs 2.3." in diverged


def test_with_wrong_labels_a_high_loss_is_not_called_no_training(page: InBrowser) -> None:
    entry = {"results": FINE | {"train_loss": 2.0}, "settings": {"label_noise": 0.4}}
    said = compute(page, "return untrained(argument);", entry)
    assert said.startswith("the networks have not fitted the wrong labels, with a training loss of 2")


@pytest.mark.parametrize(
    ("loss", "says"), [(2.303, "did not learn"), (2.6, "did not learn"), (3.5, "diverged"), (2.2, "are not trained")]
)
def test_a_run_that_never_moved_did_not_diverge(page: InBrowser, loss: float, says: str) -> None:
    said = compute(page, "return untrained({ results: argument });", FINE | {"train_loss": loss})
    assert says in said
    assert ("diverged" in said) == (says == "diverged")


def test_no_reason_brings_a_second_colon(page: InBrowser) -> None:
    """A reason stands at the end of a sentence that has one, or in brackets."""
    losses = [2.2, 2.6, 20.0, "NaN"]
    body = """return argument.map((loss) => untrained({ results: JSON.parse(JSON.stringify(loss),
      (key, value) => (value === "NaN" ? NaN : value)) }));"""
    said = compute(page, body, [FINE | {"train_loss": loss} for loss in losses])
    assert all(words and ":" not in words for words in said)


@pytest.mark.parametrize("number", [1, 4])
def test_two_challenges_are_for_the_digits(page: InBrowser, number: int) -> None:
    said = judged(page, number, {1: FINE, 4: USEFUL}[number], {"world": "moons"})
    assert said == "in two dimensions that is too easy: take the digits"


@pytest.mark.parametrize(
    ("ends", "meant"),
    [
        ([(0.5, 0.25), (50, 0.14)], "larger"),
        ([(0.5, 0.14), (50, 0.25)], "smaller"),
        ([(50, 0.25), (0.5, 0.14)], "smaller"),
        ([(0.5, 0.25), (50, 0.251)], "same"),
        ([(5, 0.25), (5.001, 0.14)], None),
    ],
)
def test_a_prediction_is_about_what_flatter_comes_with(page: InBrowser, ends: list[Any], meant: str) -> None:
    rows = [row(batch, *numbers) for batch, numbers in zip((2, 200), ends, strict=True)]
    assert compute(page, "return flatterMeant(argument);", rows) == meant


def test_a_certificate_may_be_of_networks_that_noise_keeps_from_fitting(page: InBrowser) -> None:
    """Its number holds the training error; what it may not be of is a run that diverged."""
    noisy = FINE | {"train_loss": 1.5, "train_error": 0.18, "langevin": {"value": 0.1}}
    assert judged(page, 5, noisy) is True
    assert "not trained" in judged(page, 1, noisy)
    assert "diverged" in judged(page, 5, noisy | {"train_loss": 4.0})
    assert judged(page, 5, noisy | {"langevin": {"value": 0.2}}) == "now it is 38 %"


def pair_of(changes: dict[str, Any], loss: float = 0.2, traces: float = 8, gap: float = 0.1) -> list[dict[str, Any]]:
    """A run with trace 1 and gap 0.3, and one after it that differs in settings, training loss, trace and gap."""
    settings = {"world": "digits", "toy_noise": 0.2, "batch_size": 2, "lr": 0.1, "width": 16, "n": 200, "seed": 0}
    pair = [row(2, 1.0, 0.3, 0.01), row(200, traces, gap, 0.01)]
    for one, own in zip(pair, ({}, changes), strict=True):
        one["results"] = FINE | one["results"] | {"train_loss": 0.2}
        one["settings"] = settings | own
    pair[1]["results"]["train_loss"] = loss
    return pair


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({"batch_size": 200}, {}, True),
        ({"lr": 0.5}, {}, True),
        ({"batch_size": 200}, {"loss": 0.29}, True),
        ({"batch_size": 200}, {"loss": 0.31}, "too far apart"),
        ({"batch_size": 200}, {"loss": 1.8}, "not trained"),
        ({"batch_size": 200}, {"traces": 1.001}, "told apart"),
        ({"batch_size": 200}, {"gap": 0.5}, "smaller gap"),
        ({"width": 4}, {}, "train a second"),
        ({"batch_size": 200, "lr": 0.5}, {}, "train a second"),
        ({"batch_size": 200, "n": 100}, {}, "train a second"),
    ],
)
def test_a_larger_gap_counts_only_where_both_fit_alike(
    page: InBrowser, changes: dict[str, Any], options: Any, says: Any
) -> None:
    said = compute(page, "return judged(CHALLENGES[2], argument[1], [argument[0]]);", pair_of(changes, **options))
    assert said is True if says is True else says in said


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({"width": 4}, {"gap": 0.5}, True),
        ({"width": 4}, {}, "larger gap"),
        ({"seed": 1}, {"gap": 0.5}, "keeps the samples"),
        ({"n": 100}, {"gap": 0.5}, "keeps the samples"),
    ],
)
def test_flatter_may_be_made_to_mean_a_smaller_gap(
    page: InBrowser, changes: dict[str, Any], options: Any, says: Any
) -> None:
    said = compute(page, "return judged(CHALLENGES[0], argument[1], [argument[0]]);", pair_of(changes, **options))
    assert said is True if says is True else says in said


ANSWERED = """const all = digits(argument);
const run = (given) => {
  const settings = sane(given);
  const prepared = prepare(settings, settings.world === "digits" ? all : null);
  const work = session(prepared);
  let next = work.next();
  while (!next.done) next = work.next();
  return { settings, results: next.value };
};"""


def test_no_challenge_is_met_before_a_control_is_moved_and_those_of_flatness_can_be(page: InBrowser) -> None:
    body = f"""{ENGINE}
    {ANSWERED}
    const solved = (entries) =>
      CHALLENGES.map((challenge) => judged(challenge, entries.at(-1), entries.slice(0, -1)) === true);
    const loss = {{ stop_loss: 0.1, epochs: 1000 }};
    return {{ starts: Object.keys(WORLDS).map((world) => solved([run({{ world }})])),
      smaller: solved([run({{ width: 64 }}), run({{ width: 4 }})])[0],
      larger: solved([run({{ ...loss, batch_size: 20 }}), run({{ ...loss, batch_size: 50 }})])[2] }};"""
    found = compute(page, body, packed_digits())
    assert not any(map(any, found["starts"]))
    assert found["smaller"]
    assert found["larger"]


def test_what_is_no_number_is_the_default(page: InBrowser) -> None:
    body = "return argument.map((lr) => sane({ lr }).lr);"
    assert compute(page, body, ["", "  ", None, "fast", "0.3", 0.3]) == [0.1, 0.1, 0.1, 0.1, 0.3, 0.3]


def test_a_row_without_noise_is_no_useful_bound(page: InBrowser) -> None:
    row = USEFUL["omniscient"][0] | {"sigma": 0.0}
    assert judged(page, 4, USEFUL | {"omniscient": [row]}) is not True


# --- The cell beside the page ----------------------------------------------------------------------------------------

CELLS = {
    "a toy": {"world": "xor", "n": 40, "epochs": 5, "width": 6, "seed": 3},
    "the end of a sweep": {"batch_size": 200},
    "examples at the clip": {"width": 8, "n": 60, "epochs": 6, "batch_size": 16, "lr": 1, "momentum": 0.9, "seed": 3},
    "noisy steps": {"world": "circles", "width": 12, "n": 60, "epochs": 8, "batch_size": 60, "temperature": 0.01},
    "stopped at a loss": {"world": "moons", "n": 60, "lr": 0.5, "stop_loss": 0.4, "epochs": 300, "label_noise": 0.1},
    "another seed and width": {"world": "spirals", "width": 24, "seed": 11, "epochs": 12, "momentum": 0.5},
}


@pytest.mark.parametrize("name", CELLS)
def test_the_cell_gives_the_numbers_of_the_page(page: InBrowser, name: str) -> None:
    body = f"""{ENGINE}
    {ANSWERED}
    const {{ settings, results }} = run(argument.settings);
    return {{ settings, results, cell: asPython(settings) }};""".replace("digits(argument)", "digits(argument.text)")
    there = compute(page, body, {"settings": CELLS[name], "text": packed_digits()})
    assert all(there["settings"][key] == value for key, value in CELLS[name].items())
    scope: dict[str, Any] = {}
    exec(there["cell"], scope)
    here, there = scope["bounds"], there["results"]
    for key in ("trace", "dispersion", "train_loss", "test_loss", "train_error", "epochs", "reached"):
        if key in here:
            assert there[key] == pytest.approx(here[key], rel=1e-8), key
    assert there["epochs"] == here["epochs"]
    for key in ("gap", "error_gap", "closed_form", "terminal", "counted", "langevin"):
        if here[key] is None:
            assert there[key] is None
            continue
        for part in ("value", "standard_error", "noise_to_weight", "clipped_share"):
            if part in here[key]:
                assert there[key][part] == pytest.approx(here[key][part], rel=1e-8, abs=1e-12), (key, part)
    for key in ("mean", "low", "high", "standard_error"):
        assert there["along"][key] == pytest.approx(here["along"][key], rel=1e-8), key
    for rows in ("omniscient", "self_certified"):  # the page solves its systems to a residual of 1e-6
        for one, twin in zip(there[rows], here[rows], strict=True):
            for part in ("value", "penalty", "trajectory", "flatness", "sigma", "clipped_share"):
                assert one[part] == pytest.approx(twin[part], rel=1e-3, abs=1e-6), (rows, part)
    if name == "examples at the clip":
        assert there["closed_form_difference"]["clipped_share"] > 0


# --- Stops of sliders ------------------------------------------------------------------------------------------------


def test_every_value_that_a_link_names_is_a_stop(page: InBrowser) -> None:
    entries = yaml.safe_load(LINKS.read_text(encoding="utf-8")).values()
    claims = [claim for entry in entries for claim in (entry, entry.get("besides", {})) if claim]
    named = {tuple(pair) for claim in claims for key in ("setting", "to") for pair in claim[key].items()}
    body = """const start = { ...DEFAULTS_OF_ENGINE, world: "moons" };
    return argument.map(([key, value]) => CONTROLS[key].stops(start).includes(value));"""
    assert dict(zip(named, compute(page, body, sorted(named)), strict=True)) == dict.fromkeys(sorted(named), True)


def test_stops_are_round_and_rise(page: InBrowser) -> None:
    body = "return Object.entries(CONTROLS).map(([key, { stops }]) => [key, stops({ ...DEFAULTS_OF_ENGINE })]);"
    for key, stops in compute(page, body):
        assert stops == sorted(set(stops)), key
        assert all(float(f"{stop:.2g}") == stop for stop in stops), key
        assert len(stops) >= 12, key


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"stop_loss": 0.3, "epochs": 1000}, "you changed where training stops"),
        ({"stop_loss": 0.3}, "you changed the training loss"),
        ({"world": "moons"}, "you changed the world to two moons"),
        ({"seed": 3}, "you changed the seed"),
    ],
)
def test_one_choice_is_told_as_one(page: InBrowser, part: dict[str, Any], words: str) -> None:
    assert compute(page, "return causeOf(argument);", part) == words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("learning rate", "“learning rate” is written lr and was left out"),
        ("batchsize", "“batchsize” is written batch_size and was left out"),
        ("hidden units", "“hidden units” is written width and was left out"),
        ("colour", "“colour” is the name of no setting and was left out"),
    ],
)
def test_a_control_s_own_name_is_not_called_no_setting(page: InBrowser, name: str, words: str) -> None:
    assert words in compute(page, "return refused({ [argument]: 5 });", name)


def test_a_value_from_elsewhere_becomes_a_stop(page: InBrowser) -> None:
    body = """const settings = { ...DEFAULTS_OF_ENGINE, lr: 0.137 };
    const made = slider("lr", "u", () => settings, (key, value) => { settings[key] = value; });
    made.update(settings);
    const shown = [made.input.getAttribute("aria-valuetext")];
    for (const way of [1, -1]) {
      made.input.value = Number(made.input.value) + way;
      made.input.dispatchEvent(new Event("input"));
      made.update(settings);
      shown.push(made.input.getAttribute("aria-valuetext"));
    }
    return shown;"""
    assert compute(page, body) == ["0.137", "0.15", "0.137"]


# --- Groups of the history -------------------------------------------------------------------------------------------


def test_no_line_joins_runs_of_two_settings(page: InBrowser) -> None:
    entries = [
        row(batch, batch, 0.2) | {"settings": {"world": world, "batch_size": batch, "lr": lr, "seed": 0}}
        for (world, lr), batch in itertools.product((("digits", 0.1), ("digits", 0.3), ("moons", 0.1)), (2, 20, 200))
    ]
    body = """const groups = groupsOf(argument, "batch_size");
    const { marks } = historyPicture("u", argument, groups, "batch_size", ACROSS.trace, UP.gap, 400);
    const paths = (children, name) => children.map(({ attributes }) => attributes)
      .filter((one) => String(one.class).split(" ").includes(name)).map(({ d }) => d);
    const drawn = marks.filter(({ tag }) => tag === "g").map(({ children }) => ({
      joined: paths(children, "lab-joined").map((d) => d.match(/[ML]/g).length),
      shapes: [...new Set(paths(children, "lab-dot"))] }));
    return { names: groups.map(({ name }) => name), drawn, legend: legendMarks(groups).length };"""
    found = compute(page, body, entries)
    assert found["names"] == ["digits", "digits, learning rate 0.3", "moons"]
    assert [group["joined"] for group in found["drawn"]] == [[3], [3], [3]]
    shapes = [group["shapes"] for group in found["drawn"]]
    assert all(len(one) == 1 for one in shapes)
    assert len({one[0] for one in shapes}) == 3
    assert found["legend"] == 3


# --- Bars ------------------------------------------------------------------------------------------------------------


def test_without_a_trace_there_is_no_bound_and_the_sentence_says_so(page: InBrowser) -> None:
    body = """const nothing = { A: 2, B: 0, sigma: Infinity, value: 0, noise_to_weight: Infinity };
    const results = { ...argument, closed_form: nothing, terminal: { ...nothing, sigma: 2, B: 1, noise_to_weight: 1 },
      omniscient: [], counted: { value: 0.1 }, langevin: null, reached: null, epochs: 8 };
    const columns = columnsOf(results, 0, 2);
    const { marks } = barsPicture("u", results, columns, 460);
    const words = sentence(results, { epochs: 40 }, { lam: 0 }, columns);
    return { words, numbers: JSON.stringify(marks).includes("null") };"""
    argument = FINE | {"clip": 27.6}
    found = compute(page, body, argument)
    assert "closed form no trace, end point 16.5" in found["words"]
    assert found["words"].endswith("After 8 of 40 epochs.")
    assert not found["numbers"]


def test_the_sentence_names_every_bound_and_says_each_warning_once(page: InBrowser) -> None:
    wide = {
        "value": 3.0,
        "trajectory": 2.0,
        "flatness": 1.0,
        "penalty": 0.0,
        "noise_to_weight": 7.0,
        "sigma": 1.0,
        "A": 2.0,
        "B": 1.0,
        "lam": 1.0,
        "clipped_share": 0.2,
    }
    argument = FINE | {
        "clip": 27.6,
        "closed_form": wide,
        "terminal": wide,
        "omniscient": [wide],
        "self_certified": [wide | {"noise_to_weight": 0.5, "clipped_share": 0.0}],
        "counted": {"value": 0.1},
    }
    body = "return sentence(argument, { epochs: 40 }, { lam: 0 }, columnsOf(argument, 0, 1));"
    words = compute(page, body, argument)
    assert "; self-certified, of the moved and noisy network: 3; counted 0.1 on the 0–1 gap of 0.1." in words
    warned = words.split("Conclude nothing from ")[1]
    assert warned.count("noise larger than the weights") == 1
    assert warned.startswith(
        "closed form, end point and omniscient: noise larger than the weights; nor from closed form, "
    )


def test_a_useful_bound_that_is_missed_names_its_trade_off(page: InBrowser) -> None:
    rows = [
        USEFUL["omniscient"][0] | {"value": value, "penalty": 0.1, "lam": lam}
        for value, lam in ((0.7, 1.0), (0.5, 3.0))
    ]
    argument = {"results": USEFUL | {"omniscient": rows}, "settings": {"world": "digits"}}
    said = compute(page, "return CHALLENGES[3].check(argument);", argument)
    assert said == "at best it is 0.5, at λ = 3, and twice the gap is 0.4"


def test_the_picture_is_as_high_in_every_world(page: InBrowser) -> None:
    """And all mistakes that the engine hands over stand within it."""
    argument = {
        "shown": [{"place": i, "label": 3, "answers": [3, 5, 5, 8], "count": 3} for i in range(20)],
        "pixels": [0] * 65 * 1797,
    }
    body = """const portrait = { mistakes: argument, boundaries: null, points: { x: [], y: [] } };
    const of = (world) => runsPicture("world", "u", { job: { world }, portrait, pixels: argument.pixels }, 300);
    const lines = of("digits").marks.filter(({ tag }) => tag === "text").map(({ attributes }) => attributes.y);
    const heights = ["digits", "moons"].map((world) => of(world).height);
    return { heights, lowest: Math.max(...lines), words: lines.length,
      kept: MISTAKE_GRID.across * MISTAKE_GRID.down };"""
    found = compute(page, body, argument)
    assert found["heights"] == [300, 300]
    assert found["words"] == 2 * found["kept"] == 40
    assert f"const MISTAKES = {found['kept']};" in script("portrait")
    assert found["lowest"] < 300


def test_a_self_certified_bar_below_the_gap_is_hollow_and_explained(page: InBrowser) -> None:
    bound = {"value": 0.1, "trajectory": 0.05, "flatness": 0.02, "penalty": 0.03, "noise_to_weight": 0.5}
    argument = {"gap": {"value": 0.2, "standard_error": 0.01}, "error_gap": {"value": 0.1, "standard_error": 0.01},
                "clip": 27.6, "classes": 10, "omniscient": [bound], "self_certified": [bound]}  # fmt: skip
    body = """const columns = columnsOf(argument, 0, 1);
    const bars = barsPicture("u", argument, columns, 400).marks.filter(({ tag }) => tag === "g");
    const hollow = bars.map(({ attributes }) => attributes).filter((one) => /lab-hollow/.test(one.class));
    return { note: belowTheGap(argument, columns), hollow: hollow.map((one) => one["data-bound"]) };"""
    found = compute(page, body, argument)
    assert found["hollow"] == ["self-certified"]
    assert "bounds the risk of the moved and noisy network" in found["note"]
    assert "only if neither the move nor the noise lowers the risk" in found["note"]
    assert compute(page, body, argument | {"self_certified": [bound | {"value": 0.3}]})["note"] == ""


def test_every_bar_has_two_standard_errors_and_its_number_above_them(page: InBrowser) -> None:
    body = """const of = (children, name) => children.find(({ attributes }) => attributes.class === name)?.attributes;
    const { marks } = barsPicture("u", argument, columnsOf(argument, 0, 1), 460);
    const best = marks.filter(({ tag }) => tag === "g")
      .map(({ children }) => [of(children, "lab-reach")?.d, of(children, "lab-value")?.y]);
    const { error_over_runs } = THIS_ENGINE.wang_mao;
    return { best, moved: columnsOf(argument, 0, 2)[0].bound.standard_error,
      twin: error_over_runs({ trajectory: 1, flatness: 4 }, argument.traces, argument.squares) };"""
    terms = {"A": 2, "B": 1, "sigma": 1, "value": 3, "trajectory": 2, "flatness": 1, "noise_to_weight": 0.1}
    results = {
        "clip": 27.6, "closed_form": terms | {"standard_error": 0.5}, "terminal": None, "omniscient": [],
        "counted": {"value": 0.3, "standard_error": 0.05}, "traces": [1, 2, 3, 2], "squares": [1, 1, 2, 2],
    }  # fmt: skip
    found = compute(page, body, FINE | results)
    (closed, label), *_, (counted, _), (nothing, _) = found["best"]
    low, high = (float(text) for text in re.match(r"M[\d.]+ ([\d.]+)V([\d.]+)", closed).groups())
    top, bottom = 14, 330 - 64
    expected = [bottom + (np.log10(value / 1e-3) / 6) * (top - bottom) for value in (2.0, 4.0)]
    assert [low, high] == pytest.approx(expected, abs=1e-6)
    assert label == pytest.approx(high - 4)
    assert counted is not None
    assert nothing is None
    assert found["moved"] == pytest.approx(found["twin"])
    spread = np.array([1, 2, 3, 2]) / 2 * 4 + np.array([1, 1, 2, 2]) / 1.5 / 2
    assert found["twin"] == pytest.approx(spread.std(ddof=1) / 2)


@pytest.mark.parametrize("count", [4, 6])
def test_before_training_a_page_shows_what_will_stand_there(page: InBrowser, count: int) -> None:
    body = """const { marks } = emptyBars("u", 10, 460, argument);
    const bars = marks.filter(({ tag }) => tag === "g")
      .map(({ attributes, children }) => [attributes["data-bound"], children[0].children[0]]);
    return { bars, numbers: /NaN|undefined/.test(JSON.stringify(marks)) };"""
    found = compute(page, body, count)
    names = ("closed form", "end point", "omniscient", "self-certified", "counted", "Langevin")
    assert found["bars"] == [[name, "?"] for name in names[:count]]
    assert not found["numbers"]


# --- Flatness and gap in one picture ---------------------------------------------------------------------------------


def entry(batch_size: int, seed: int, trace: float, gap: float, steep: float) -> dict[str, Any]:
    one = row(batch_size, trace, gap)
    distances = list(range(1, 9))
    around = {key: [factor * steep * s * s for s in distances] for key, factor in
              (("mean", 1.0), ("low", 0.5), ("high", 1.5))}  # fmt: skip
    one["settings"] |= {"seed": seed, "n": 200, "label_noise": 0, "toy_noise": 0.2, "epochs": 40}
    one["results"] |= {"classes": 10, "test_loss": 0.3, "dispersion": 1.0, "train_loss": 0.1}
    one["results"]["along"] = around | {"distances": distances, "directions": 16}
    one["results"]["gap"]["standard_error"] = 0.01
    return one


def test_flatness_and_gap_of_both_ends_are_drawn_and_stand_in_the_table(page: InBrowser) -> None:
    pairs = [[entry(2, seed, 0.5, 0.25, 0.01), entry(200, seed, 50, 0.14, 0.03)] for seed in (0, 1)]
    body = """const shown = endsOf("batch_size", argument);
    const text = (one) => (typeof one === "string" ? one : one.children.map(text).join(" "));
    return [280, 720].map((width) => {
      const { marks, height } = evidencePicture("u", shown, width);
      const ends = marks.filter(({ attributes }) => "data-end" in attributes);
      const of = (children, name) => children.find(({ attributes }) => attributes.class === name).attributes.d;
      return { height, dots: JSON.stringify(marks).match(/lab-dot/g).length,
        rises: ends.map(({ children }) => of(children, "lab-rise")),
        bad: /NaN|undefined|null/.test(JSON.stringify(marks)),
        legend: evidenceLegend(shown).map(text), rows: evidenceTable(shown)[1].children.map(text) };
    });"""
    narrow, wide = compute(page, body, pairs)
    assert narrow["height"] == 2 * wide["height"]
    for found in (narrow, wide):
        assert found["dots"] == 4
        assert not found["bad"]
    last = [float(path.rsplit(" ", 1)[1]) for path in wide["rises"]]
    zero = float(re.match(r"M[\d.]+ ([\d.]+)", wide["rises"][0]).group(1))  # type: ignore[union-attr]
    assert (zero - last[1]) / (zero - last[0]) == pytest.approx(3, rel=0.01)
    assert "batch size 2, by the trace the flatter" in wide["legend"][0]
    assert "mean, range of 32 directions" in wide["legend"][2]
    assert [text.split()[:3] for text in wide["rows"]] == [["batch", "size", size] for size in ("2,", "200") * 2]
    assert "0.16 (0.08 to 0.24)" in wide["rows"][0]  # distance 4


def test_the_newest_two_runs_are_compared_in_words(page: InBrowser) -> None:
    flat, sharp = entry(2, 0, 0.5, 0.25, 0.01), entry(200, 0, 50, 0.14, 0.03)
    other = entry(200, 1, 50, 0.14, 0.03)
    untrained = entry(50, 0, 50, 0.14, 0.03)
    untrained["results"]["train_loss"] = 2.0
    body = "return argument.map((history) => newestLine(newestTwo(history)).join(' '));"
    alone, larger, apart, poor = compute(page, body, [[flat], [flat, sharp], [flat, other], [flat, untrained]])
    assert alone.startswith("Does flatter mean a smaller gap?")
    assert larger.startswith("The newest two runs: the flatter one has the larger gap. That is one seed")
    assert "not compared: they have other samples, seed 1 and, before, seed 0. " in apart
    assert "not compared: the newest is left out, for the networks are not trained, with" in poor
    (back,) = compute(page, body, [[untrained, flat]])
    assert "not compared: the one before is left out, for the networks are not trained, with" in back
    elsewhere = entry(200, 1, 50, 0.14, 0.03)
    elsewhere["settings"]["world"] = "moons"
    elsewhere["results"]["train_loss"] = 2.0
    (worlds,) = compute(page, body, [[flat, elsewhere]])  # said first, though it is not trained either
    assert "not compared: they are of two worlds, two moons and, before, digits. " in worlds
    for line in (apart, poor, back, worlds):
        assert line.split(". ")[0].count(":") == 1


def test_the_legend_names_no_bar_that_is_not_there(page: InBrowser) -> None:
    body = """return argument.map((history) => [newestTwo(history), newestTwo(history)].map((shown, which) => (which
      ? JSON.stringify(evidenceLegend(shown)) : JSON.stringify(evidencePicture("u", shown, 700)))));"""
    flat, sharp, other = entry(2, 0, 0.5, 0.25, 0.01), entry(200, 0, 50, 0.14, 0.03), entry(200, 1, 50, 0.14, 0.03)
    for history, drawn in (([flat], False), ([flat, other], False), ([flat, sharp], True)):
        ((picture, legend),) = compute(page, body, [history])
        assert ("lab-difference" in picture) == drawn
        assert ("bar: flatter less sharper" in legend) == drawn


# --- Drawing ---------------------------------------------------------------------------------------------------------


def test_pictures_say_what_lies_beyond_their_axes(page: InBrowser) -> None:
    body = """const text = (one) => (typeof one === "string" ? one
      : one.children.map(text).join("") + (one.tag === "text" ? "|" : ""));
    const words = ({ marks }) => marks.map(text).join("");
    const gap = (value) => ({ value, standard_error: 0.001 });
    const bars = (value, gaps) => words(barsPicture("u", { gap: gap(gaps), error_gap: gap(0.1), clip: 27, classes: 10 },
      [{ name: "closed form", group: 0, bound: { value, standard_error: 0 }, reasons: [] }], 400));
    const entry = (temperature) => ({ settings: { ...DEFAULTS_OF_ENGINE, temperature }, results: { gap: gap(0.1) } });
    const history = (entries) => words(historyPicture("u", entries, groupsOf(entries, "temperature"), "temperature",
      ACROSS.temperature, UP.gap, 400));
    const losses = (all) => lossMarks(all, DEFAULTS_OF_ENGINE, 300).map(text).join("");
    return [bars(5000, 0.1), bars(5, -0.01), bars(5, 0.1), words(emptyBars("u", 10, 400, 4)),
      history([entry(0), entry(0.1)]), history([entry(0.1)]), losses([1, 1e-6]), losses([1, 0.1])];"""
    over, under, fine, empty, some, all_there, low, inside = compute(page, body)
    assert "5000 ↑|" in over
    assert "gap −0.01 ↓|" in under
    assert not re.search("[↑↓]", fine + empty)
    assert "1 of 2 runs have no place on these axes" in some
    assert "no place" not in all_there
    assert "beyond the axis" in low
    assert "beyond" not in inside


def test_nodes_of_a_picture_stay_when_it_changes(page: InBrowser) -> None:
    body = """const svg = make("svg", {}, make("title", {}, "none"));
    const picture = (x, texts) => ({ width: 9, height: 9,
      marks: [mark("path", { d: `M${x}` }), ...texts.map((text) => mark("text", { x }, text))] });
    display(svg, picture(1, ["a", "b"]));
    const first = [...svg.childNodes];
    let touched = 0;
    display(svg, picture(2, ["a", "c", "d"]));
    const kept = first.map((node, i) => node === svg.childNodes[i]);
    const html = svg.innerHTML;
    const counted = svg.firstChild.setAttribute;
    svg.firstChild.setAttribute = function (...all) { touched += 1; counted.apply(this, all); };
    display(svg, picture(2, ["a", "c", "d"]));
    display(svg, picture(2, ["a"]));
    return { kept, html, touched, left: svg.childNodes.length };"""
    found = compute(page, body)
    assert found["kept"] == [True, True, True]
    assert found["html"] == '<path d="M2"></path><text x="2">a</text><text x="2">c</text><text x="2">d</text>'
    assert found["touched"] == 0
    assert found["left"] == 2


def test_parts_are_painted_once_a_frame_and_the_rest_waits(page: InBrowser) -> None:
    body = """const frames = [];
    let frame = null;
    globalThis.requestAnimationFrame = (paint) => { frame = paint; return frames.push([]); };
    const spend = (name, ms) => () => {
      frames.at(-1).push(name);
      const until = performance.now() + ms;
      while (performance.now() < until);
    };
    const update = painter({ a: spend("a", 8), b: spend("b", 0), c: spend("c", 0) });
    update("a", "b");
    update("b", "c", "a");
    while (frame) { const paint = frame; frame = null; paint(); }
    return frames.filter((one) => one.length);"""
    assert compute(page, body) == [["a"], ["b", "c"]]
