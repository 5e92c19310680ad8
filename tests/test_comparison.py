"""Every bound on runs of one's own: each number is that of its module, and each warning follows from its cause."""

import ast
import io
import json
import re
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from instances import CLIPPED, network, sample
from torch import nn
from tqdm import tqdm

import helpers
from helpers import (
    comparison,
    curvature,
    langevin,
    measurement,
    models,
    omniscient,
    supersample,
    training,
    wang_mao,
)
from helpers.curvature import Estimate
from helpers.data import Split
from helpers.losses import ClippedCrossEntropy, HalfSquaredError
from helpers.training import bar

LAMBDAS = (3.0, 300.0)


@pytest.fixture(scope="module")
def trained():
    """Three runs of a small network, with all their data."""
    *train, val, val2, test = (sample(40, seed=seed) for seed in range(6))
    run = training.train_ensemble(network, train, epochs=4, batch_size=10, lr=0.1, seed=0)
    return run, train, {"val": val, "val2": val2, "test": test}


@pytest.fixture(scope="module")
def table(trained):
    run, train, data = trained
    return helpers.bounds(run, data["val"], data["val2"], data["test"], train=train, loss=CLIPPED, lambdas=LAMBDAS)


def test_every_value_is_that_of_its_module(trained, table):
    run, train, data = trained
    trace, held_out = (
        sum(curvature.trace(m, CLIPPED, s).value for m, s in zip(run.models, splits, strict=True)) / 3
        for splits in (train, [data["val2"]] * 3)
    )
    sizes = {"n": 40, "steps": run.steps, "R": CLIPPED.R}
    d = len(models.weights(run.models[0]))
    expected = {
        "closed form": wang_mao.closed_form(run.dispersion, trace, **sizes).value,
        "logarithmic form": wang_mao.log_form(run.step_dispersion, trace, n=40, d=d, R=CLIPPED.R).value,
        "Neu et al., without sensitivity": wang_mao.closed_form(2 * run.dispersion, trace, **sizes).value,
        "end point": wang_mao.terminal(run.models, trace, **sizes).value,
        "closed form, difference of traces": wang_mao.closed_form(run.dispersion, abs(trace - held_out), **sizes).value,
        "end point, difference of traces": wang_mao.terminal(run.models, trace - held_out, **sizes).value,
    }
    path = {"loss": CLIPPED, "lambdas": LAMBDAS, "steps": run.steps}
    for row in omniscient.estimate(run.models, train, data["val"], data["val2"], **path):
        expected[f"omniscient, lambda {row.lam:g}"] = row.value
    for row in omniscient.self_certified(run.models, train, **path):
        expected[f"self-certified, lambda {row.lam:g}"] = row.value
    expected["counted"] = supersample.counted(table.train_errors, table.test_errors).value
    assert {row.name: row.value for row in table} == pytest.approx(expected, rel=1e-12)
    gap = omniscient.gap(run.models, train, data["test"], loss=CLIPPED)
    assert (table.gap.value, table.gap.standard_error) == (gap.value, gap.standard_error)
    assert table.holdout_gap.value == omniscient.gap(run.models, train, data["val2"], loss=CLIPPED).value
    assert len(table) == len(expected)


@pytest.mark.parametrize("draws", [0, 2])
def test_a_bar_goes_from_one_end_to_the_other_and_is_gone(trained, monkeypatch, draws):
    run, train, data = trained
    shown = []

    class Kept(tqdm):
        def __init__(self, **options):
            shown.append(self)
            super().__init__(**options | {"disable": False, "position": 0, "file": io.StringIO()})

    monkeypatch.setattr(bar, "tqdm", Kept)
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    options = {"loss": CLIPPED, "lambdas": LAMBDAS, "solver": omniscient.Solver(draws=draws)}
    helpers.bounds(run, **data, train=train, **options)
    (drawn,) = shown
    assert (drawn.n, drawn.total, drawn.leave) == (drawn.total, 3 * (5 + 2 * 2 * bool(draws)), False)
    assert drawn.fp.getvalue().endswith("\r")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    helpers.bounds(run, **data, train=train, **options)
    assert shown == [drawn]


def test_where_nobody_looks_no_bar_is_drawn(trained, capsys):
    run, train, data = trained
    helpers.bounds(run, **data, train=train, loss=CLIPPED, lambdas=[3.0])
    assert capsys.readouterr() == ("", "")


def test_data_go_by_their_names_and_the_loss_by_the_classes(trained, table):
    run, train, data = trained
    again = helpers.bounds(run, **data, train=iter(train), lambdas=LAMBDAS)
    assert [row.value for row in again] == [row.value for row in table]


def test_statistics_beside_the_weights_speak_against_every_bound_on_what_weights_know(trained, table):
    _, train, data = trained

    def normalised():
        first = network()
        return nn.Sequential(nn.BatchNorm1d(train[0].inputs.shape[1]).double(), first).to(train[0].inputs.dtype)

    run = training.train_ensemble(normalised, train, epochs=1, batch_size=10, lr=0.1, seed=0)
    found = helpers.bounds(run, **data, train=train, loss=CLIPPED, lambdas=[300.0])
    told = {row.name for row in found if any("among the weights" in warning for warning in row.warnings)}
    assert told == {row.name for row in found} - {"counted"}
    assert not any("among the weights" in warning for row in table for warning in row.warnings)


def test_a_row_says_what_it_needs(table):
    needs = {row.name: row.needs for row in table}
    assert needs["closed form"] == needs["self-certified, lambda 3"] == "retrainings"
    assert needs["counted"] == "retrainings, held-out losses"
    assert "gradients" in needs["omniscient, lambda 3"]
    assert table["counted"].loss == "0-1 error"
    assert table["self-certified, lambda 3"].loss == "loss, perturbed network"
    for row in table:
        if row.name.startswith("omniscient"):
            assert ("read off" in " ".join(row.warnings)) == (row.result.penalty > row.value / 2)
    assert "read off" in " ".join(table["omniscient, lambda 300"].warnings)
    with pytest.raises(KeyError, match="there is no bound 'best'; there are closed form"):
        table["best"]


def test_the_error_of_an_isotropic_bound_is_the_delta_method(trained):
    """A bound proportional to the cube root of the trace has a third of the trace's relative error."""
    run, train, data = trained
    traces = measurement.Traces(
        tuple(Estimate(v, 0.0, 1, "exact") for v in (1.0, 2.0, 4.5)), (Estimate(9.0, 0, 1, ""),) * 3
    )
    rows = {
        row.name: row
        for row in helpers.comparison.isotropic_rows(
            run, omniscient.Runs(run.models, train, CLIPPED), traces, data["val2"]
        )
    }
    relative = torch.tensor([1.0, 2.0, 4.5]).std().item() / 3**0.5 / 2.5
    for name in ("closed form", "Neu et al., without sensitivity"):
        assert rows[name].standard_error / rows[name].value == pytest.approx(relative / 3, rel=1e-6)
    up, down = (
        wang_mao.log_form(run.step_dispersion, 2.5 * (1 + e), n=40, d=39, R=CLIPPED.R).value for e in (1e-5, -1e-5)
    )
    assert rows["logarithmic form"].standard_error == pytest.approx((up - down) / 2e-5 * relative, rel=1e-4)


def test_the_error_of_the_end_point_holds_the_spread_of_the_ends(trained):
    """Against the change of the bound when a run counts a little more in both means: the infinitesimal jackknife."""
    run, train, data = trained
    table = helpers.bounds(run, **data, train=train, loss=CLIPPED, lambdas=[3.0])
    W = torch.stack([models.weights(model) for model in run.models]).double()
    squares = (W - W.mean(0)).square().sum(1)
    own, outside = (torch.tensor([one.value for one in of]) for of in (table.traces.training, table.traces.held_out))
    sizes = {"n": 40, "steps": run.steps, "R": CLIPPED.R}

    def end_point(traces, counts):
        bound = wang_mao.terminal(run.models, (counts * traces).sum().item(), **sizes)
        grown = (counts * squares).sum().item() / squares.mean().item()
        return wang_mao.optimal_noise(bound.A * grown**0.5, bound.B).value

    for name, traces in (("end point", own), ("end point, difference of traces", own - outside)):
        even, step = torch.full((3,), 1 / 3, dtype=torch.float64), 1e-6
        moves = []
        for more in torch.eye(3, dtype=torch.float64):
            up, down = (end_point(traces, even + sign * step * (more - even)) for sign in (1, -1))
            moves.append((up - down) / (2 * step))
        assert table[name].standard_error == pytest.approx(torch.tensor(moves).std().item() / 3**0.5, rel=1e-5)


def test_isotropic_bounds_at_clipped_examples_are_warned_of(trained):
    run, train, data = trained
    for clip, warned in ((1.0, True), (50.0, False)):
        loss = ClippedCrossEntropy(clip)
        rows = helpers.bounds(run, **data, train=train, loss=loss, lambdas=[3.0])
        for name in ("closed form", "end point", "end point, difference of traces"):
            assert any("examples clipped" in reason for reason in rows[name].warnings) == warned


def test_the_clipped_share_of_a_difference_counts_both_samples(trained):
    run, train, data = trained
    runs = omniscient.Runs(run.models, train, ClippedCrossEntropy(0.5))
    own, both = measurement.clipped_shares(runs, data["val2"])
    with torch.no_grad():
        costly = [
            [
                torch.nn.functional.cross_entropy(model(split.inputs), split.targets, reduction="none") >= 0.5
                for split in (sample, data["val2"])
            ]
            for model, sample in zip(run.models, train, strict=True)
        ]
    assert own == pytest.approx(sum(pair[0].double().mean().item() for pair in costly) / 3)
    assert both == pytest.approx(sum(torch.cat(pair).double().mean().item() for pair in costly) / 3)
    assert 0 < own < 1
    assert own != both


def test_a_negative_trace_is_a_row_that_says_why_it_is_none(trained):
    run, train, data = trained
    traces = measurement.Traces((Estimate(-1.0, 0.2, 9, "hutchinson"),) * 3, (Estimate(1.0, 1.8, 9, "hutchinson"),) * 3)
    rows = {
        row.name: row
        for row in helpers.comparison.isotropic_rows(
            run, omniscient.Runs(run.models, train, CLIPPED), traces, data["val2"]
        )
    }
    for name in ("closed form", "logarithmic form", "Neu et al., without sensitivity"):
        assert rows[name].value != rows[name].value
        assert "negative" in rows[name].warnings[0]
    assert not any("trace error" in warning for warning in rows["end point"].warnings)
    noisy = rows["end point, difference of traces"]  # pooled: 1.8 / sqrt(3) against 2
    assert any("trace error" in warning for warning in noisy.warnings)


def test_runs_have_probes_of_their_own_so_that_the_error_of_their_mean_is_right():
    """Eight equal networks would agree on a wrong number if they shared their probes, and call it certain."""
    model = network(nn.Tanh, width=12)
    train = [sample(30, seed=seed) for seed in range(8)]
    runs = omniscient.Runs([deepcopy(model) for _ in train], train, CLIPPED)
    held_out = sample(30, seed=9)
    probing = {"most_probes": 4, "rtol": 1e-9, "method": "hutchinson"}
    means = [measurement.Traces.of(runs, held_out, seed=seed, **probing).mean_held_out for seed in range(30)]
    spread = torch.tensor([one.value for one in means]).std().item()
    reported = sum(one.standard_error for one in means) / len(means)
    assert 0.6 * spread < reported < 1.5 * spread
    exact = curvature.trace(model, CLIPPED, held_out, method="exact").value
    assert sum(one.value for one in means) / len(means) == pytest.approx(exact, abs=4 * spread / 30**0.5)


def test_what_lies_above_the_range_is_said_to_say_nothing(trained):
    run, train, data = trained
    far = replace(run, step_dispersion=1e9 * run.step_dispersion)
    rows = {row.name: row for row in helpers.bounds(far, **data, train=train, loss=CLIPPED, lambdas=[3.0])}
    assert rows["closed form"].value > 2 * CLIPPED.R
    assert rows["closed form"].warnings[-1].startswith("above the range")
    assert not any("above the range" in reason for reason in rows["end point"].warnings)
    assert helpers.comparison.vacuous(0.99, 0.5) == []
    assert len(helpers.comparison.vacuous(1.0, 0.5)) == 1


def test_runs_with_noise_of_their_own_have_their_own_bound(trained):
    run, train, data = trained
    incoherence = torch.tensor([[0.2], [0.25], [0.3]]).expand(3, 40)
    table = helpers.bounds(run, **data, train=train, lambdas=[3.0], incoherence=incoherence)
    row = table["Langevin, leave one out"]
    assert row.value == pytest.approx(langevin.leave_one_out(incoherence, n=40, R=0.5)) == 0.5 / 40 * 0.5
    assert row.standard_error == pytest.approx(row.value / 2 * (0.05 / 0.25) / 3**0.5)
    assert row.needs == "none"
    assert row.name in table._repr_html_()


def test_the_forms_of_the_table_hold_the_same_rows(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda lines: lines))
    lines = table.frame()
    assert [line["name"] for line in lines] == [row.name for row in table]
    assert lines[0]["value"] == table["closed form"].value
    assert "result" not in lines[0]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"a frame needs pandas.*pip install pandas"):
        table.frame()
    assert [row["name"] for row in table.to_dict()["bounds"]] == [row.name for row in table]
    assert table.to_dict()["bounds"][0]["result"]["sigma"] == table["closed form"].sigma
    html = table._repr_html_()
    assert html.startswith('<table class="results lined"')
    for row in table:
        assert row.name in html
        assert repr(float(row.value)) in html
    assert "gap, measured" in repr(table)


def test_overlap_with_the_test_sample_is_refused(trained):
    run, train, data = trained
    with pytest.raises(ValueError, match="share"):
        helpers.bounds(run, **data | {"test": data["val2"]}, train=train, loss=CLIPPED)
    with pytest.raises(ValueError, match="one split a model"):
        helpers.bounds(run, **data, train=train[:2], loss=CLIPPED)
    with pytest.raises(ValueError, match="k >= 2"):
        helpers.bounds(replace(run, models=run.models[:1]), **data, train=train[:1], loss=CLIPPED)


ROOT = Path(__file__).resolve().parents[1]
RECIPE = re.compile(r"```python\n(.*?helpers\.bounds.*?)```", flags=re.DOTALL)


def recipe_of_the_package_page():
    cells = json.loads((ROOT / "book" / "api.ipynb").read_text(encoding="utf-8"))["cells"]
    (recipe,) = [text for text in ("".join(c["source"]) for c in cells) if text.startswith("import helpers\n")]
    return recipe


def test_the_recipe_of_the_landing_page_is_that_of_the_read_me():
    cells = json.loads((ROOT / "book" / "intro.ipynb").read_text(encoding="utf-8"))["cells"]
    landing = "\n".join("".join(cell["source"]) for cell in cells)
    (there,), (here,) = (RECIPE.findall(text) for text in (landing, (ROOT / "README.md").read_text(encoding="utf-8")))
    assert ast.dump(ast.parse(there)) == ast.dump(ast.parse(here))  # with lines as long as each page is wide


def test_the_recipe_of_the_package_page_computes_what_the_read_me_s_does():
    """It keeps the table, of which it goes on to speak, where the others print it; all else is the same."""
    (read_me,) = RECIPE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    *before, printed = ast.parse(read_me).body
    *there, kept, shown = ast.parse(recipe_of_the_package_page()).body
    assert [ast.dump(line) for line in there] == [ast.dump(line) for line in before]
    assert ast.dump(kept.value) == ast.dump(printed.value.args[0])
    assert ast.unparse(shown) == ast.unparse(kept.targets[0]) == "bounds"


def test_the_recipe_in_double_precision_prints_the_same_table(capsys):
    (single,) = RECIPE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    printed = []
    for recipe in (single, single.replace("16, 10)", "16, 10).double()")):
        exec(recipe, {})
        printed.append(re.sub(r"\s+", " ", capsys.readouterr().out))
    assert single.count("16, 10)") == 1
    assert printed[0] == printed[1]


@pytest.mark.parametrize("page", ["read me", "package"])
def test_the_recipe_of_a_page_runs(page, capsys):
    read_me = (ROOT / "README.md").read_text(encoding="utf-8")
    exec(RECIPE.findall(read_me)[0] if page == "read me" else f"{recipe_of_the_package_page()}\nprint(bounds)", {})
    printed = capsys.readouterr().out
    for name in ("gap, measured", "closed form", "omniscient, lambda 10", "counted", "self-certified, lambda 1000"):
        assert name in printed


def regression(n, seed):
    drawn = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=drawn, dtype=torch.float64)
    return x, x.sum(1, keepdim=True) + 0.1 * torch.randn(n, 1, generator=drawn, dtype=torch.float64)


def test_regression_has_every_bound_but_those_on_errors():
    def make_model():
        return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1)).double()

    *train, val, val2, test = (regression(40, seed) for seed in range(5))
    loss = HalfSquaredError(R=2.0)
    run = training.train_ensemble(make_model, train, epochs=2, batch_size=10, lr=0.05, loss=loss, seed=0)
    found = helpers.bounds(run, val, val2, test, train=train, loss=loss, lambdas=[3.0])
    assert found.error_gap is found.train_errors is None
    assert "counted" not in [row.name for row in found]
    assert found["closed form"].value > 0
    assert found.to_dict()["error_gap"] is None
    assert "0-1 error" not in repr(found)
    with pytest.raises(ValueError, match="not one class an example; give loss="):
        helpers.bounds(run, val, val2, test, train=train)


def test_the_clip_is_that_of_all_classes_and_not_of_the_test_sample_s(trained):
    run, train, data = trained
    test = data["test"]
    few = test.take((test.targets < test.targets.max()).nonzero()[:, 0])
    without = (few.inputs, few.targets)  # its own largest class is not the last
    found = helpers.bounds(run, data["val"], data["val2"], without, train=train, lambdas=[3.0])
    assert found.R == CLIPPED.R


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 99}, "one entry for each of the 99 steps"),
        ({"step_dispersion": torch.ones(3)}, r"got \(3,\)"),
        ({"step_dispersion": [1.0, 1.0]}, "must be a tensor, one entry"),
    ],
)
def test_a_run_put_together_by_hand_must_fit(trained, changes, message):
    run, train, data = trained
    with pytest.raises(ValueError, match=message):
        helpers.bounds(replace(run, **changes), **data, train=train)


def test_what_is_no_run_or_no_incoherence_of_these_runs_is_refused(trained):
    run, train, data = trained
    with pytest.raises(ValueError, match=r"run must be a training\.Run, of models and their record, got list"):
        helpers.bounds(run.models, **data, train=train)
    with pytest.raises(ValueError, match=r"a row for each of the 3 runs and a column for each of their 40 examples"):
        helpers.bounds(run, **data, train=train, incoherence=torch.ones(2, 40))


WIDE = Split(torch.zeros(40, 7).double(), sample(40).targets, 3, "wide")
FAR = Split(sample(40, seed=9).inputs, sample(40).targets + 3, 6, "far")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val": None}, "^val: examples must be"),
        ({"val2": ([], [])}, "^val2: a split needs at least one example"),
        ({"val2": "val"}, r"^val and val2 share 40 examples"),
        ({"val": "train"}, r"^train\[1\] and val share 40 examples"),
        ({"train": None}, "^train must be a list with one data.Split for each run, got one NoneType"),
        ({"train": sample(40)}, "^train must be a list with one data.Split for each run, got one Split"),
        ({"train": [1, 2, 3]}, r"^train\[0\]: examples must be"),
        ({"test": WIDE}, r"^test: the model does not take these inputs, torch.float64 \(4, 7\)"),
        ({"val": FAR}, "^val: targets hold the class 5"),
        ({"solver": 3}, r"^solver must be an omniscient\.Solver, got int"),
        ({"incoherence": [1.0]}, "^incoherence must hold .* got shape \\(1,\\)"),
    ],
)
def test_a_refusal_names_the_argument(trained, changes, message):
    run, train, data = trained
    changes = {name: {"val": data["val"], "train": train[1]}.get(one, one) if isinstance(one, str) else one
               for name, one in changes.items()}  # fmt: skip
    with pytest.raises(ValueError, match=message):
        helpers.bounds(run, **{**data, "train": train, "loss": CLIPPED, "lambdas": [3.0]} | changes)


def test_bounds_that_need_least_come_first_and_the_table_says_what_its_numbers_are(table):
    ranks = [comparison.BY_NEED.index(row.needs) for row in table]
    assert ranks == sorted(ranks)
    assert "k = 3 runs of n = 40 examples" in table.table()._repr_html_()
    assert f"2R = {2 * CLIPPED.R:.3g}" in table.table()._repr_html_()


def test_a_certificate_that_is_a_hold_out_estimate_says_so(trained):
    run, train, data = trained
    found = helpers.bounds(run, **data, train=train, loss=CLIPPED, lambdas=[1e6])
    assert any("rise of the training loss" in words for words in found["self-certified, lambda 1e+06"].warnings)


def test_traces_are_as_accurate_as_the_solver_asks(trained, monkeypatch):
    """The value holds a cube root of the trace: three times its relative error may stand there."""
    run, train, data = trained
    asked = []

    class Noted:
        @staticmethod
        def of(*_, **settings):
            asked.append(settings)
            raise InterruptedError

    monkeypatch.setattr(comparison, "Traces", Noted)
    solver = omniscient.Solver(value_rtol=0.02, most_probes=7, seed=5)
    with pytest.raises(InterruptedError):
        helpers.bounds(*(run, *data.values()), train=train, loss=CLIPPED, lambdas=LAMBDAS, solver=solver)
    assert asked == [{"rtol": pytest.approx(0.06), "most_probes": 7, "seed": 5}]


def test_a_small_trace_is_a_trace_and_half_is_not_more_than_half(trained):
    run, train, _ = trained
    runs = omniscient.Runs(run.models, train, CLIPPED)
    assert measurement.IsotropicBounds.of(run, runs, 0.0, 0.1).closed_form is not None
    assert measurement.IsotropicBounds.of(run, runs, 0.5, 0.1).logarithmic is not None
    assert measurement.IsotropicBounds.of(run, runs, -1e-9, 0.1).closed_form is None
    fields = dict.fromkeys(omniscient.Row.__dataclass_fields__, 0.0)
    row = omniscient.Row(**fields | {"value": 2.0, "penalty": 1.0, "converged": True, "negative_curvature": False})
    words = "more than half of it is read off held-out losses"
    assert row.holdout_share == comparison.MOST_READ_OFF
    assert words not in comparison._omniscient(row, 1.0).warnings
    assert words in comparison._omniscient(replace(row, penalty=1.01), 1.0).warnings
    rises = "more than half of it is the rise of the training loss, to that of the other runs' networks"
    assert rises not in comparison._self_certified(row, 1.0).warnings
    assert rises in comparison._self_certified(replace(row, penalty=1.01), 1.0).warnings


def test_gradients_that_are_all_zero_cost_nothing():
    row = comparison._langevin(torch.zeros(3, 5), 10)
    assert (row.value, row.standard_error) == (0.0, 0.0)
