import math
import warnings
from dataclasses import fields
from functools import cache

import numpy as np
import pytest
import torch
from golden import Linear
from hypothesis import given, settings
from hypothesis import strategies as st
from instances import network, sample

from helpers import curvature, data, losses, models, omniscient, training, wang_mao
from helpers.omniscient import rows as perturbed
from helpers.omniscient.surrogate import Solver, solve_dense

LOSS = losses.ClippedCrossEntropy.per_class(3)
LAMBDAS = [0.1, 1.0, 10.0, 1e3, 1e9]


@pytest.fixture(scope="module")
def linear():
    return Linear()


@cache
def trained():
    """Four small networks on disjoint samples, val, val2 and test."""
    *train, val, val2, test = data.partition(sample(400, seed=3), [30] * 4 + [60, 60, 120], seed=0)
    run = training.train_ensemble(
        lambda: models.mlp(5, 6, 3).double(), train, epochs=60, batch_size=10, lr=0.1, momentum=0.9, seed=0
    )
    return run.models, train, val, val2, test


@cache
def rows(**changes):
    ensemble, train, val, val2, _ = trained()
    return omniscient.estimate(ensemble, train, val, val2, **{"loss": LOSS, "lambdas": tuple(LAMBDAS), **changes})


# --- The exact linear instance: every term has a closed form --------------------------------------

KEYS = {
    "value": "bound",
    "penalty": "penalty",
    "information": "trajectory_plus_flatness",
    "trajectory": "trajectory_at_sigma_star",
    "flatness": "flatness_at_sigma_star",
    "M": "M",
    "trace_term": "trace_term",
    "A": "A",
    "B": "B",
    "sigma": "sigma_star",
}


def assert_golden(rows, expected, rel):
    for row, want in zip(rows, expected.values(), strict=True):
        for name, key in KEYS.items():
            assert getattr(row, name) == pytest.approx(want[key], rel=rel, abs=1e-14), (row.lam, name)
        assert row.delta_norm == pytest.approx(np.mean(want["delta_norm"]), rel=rel)
        assert row.converged


@pytest.mark.parametrize(("method", "rel"), [("exact", 1e-10), ("krylov", 1e-10)])
@pytest.mark.parametrize("part", ["exact_population", "finite_val_val2"])
def test_the_golden_linear_instance(linear, part, method, rel):
    expected = linear.expected["linear"][part]
    val, val2 = (linear.population,) * 2 if part == "exact_population" else (linear.val, linear.val2)
    lambdas = [row["lam"] for row in expected.values()]
    found = omniscient.estimate(
        linear.models, linear.train, val, val2,
        loss=losses.HalfSquaredError(linear.R), lambdas=lambdas, steps=linear.steps, method=method, rtol=1e-14,
    )  # fmt: skip
    assert_golden(found, expected, rel)


def test_the_golden_self_certified_rows(linear):
    expected = linear.expected["linear"]["self_certified"]
    loss = losses.HalfSquaredError(linear.R)
    lambdas = [row["lam"] for row in expected.values()]
    found = omniscient.self_certified(linear.models, linear.train, loss=loss, lambdas=lambdas, steps=linear.steps)
    assert_golden(found, expected, 1e-10)
    train_loss = np.mean(linear.expected["linear"]["train_loss"])
    assert [row.certificate for row in found] == pytest.approx([train_loss + row.value for row in found], rel=1e-12)
    assert all(np.isnan(row.holdout_gap) for row in found)


def test_C_and_the_limit_of_large_lambda(linear):
    loss = losses.HalfSquaredError(linear.R)
    population = linear.population
    W = torch.stack([models.weights(model) for model in linear.models])
    (row,) = omniscient.estimate(linear.models, linear.train, population, population, loss=loss, lambdas=[1e12])
    assert pytest.approx(np.mean(linear.expected["linear"]["C"]), rel=1e-12) == row.C
    moved = omniscient.evaluate(
        linear.models, linear.train, population, omniscient.leave_one_out(W) - W, loss=loss, steps=linear.steps
    )
    assert moved.information == pytest.approx(0, abs=1e-8)  # the cube root of rounding
    assert row.value == pytest.approx(moved.value, rel=1e-5)


@pytest.mark.parametrize("centre", [omniscient.leave_one_out, omniscient.split_half])
def test_at_large_lambda_the_runs_are_moved_to_the_centre_that_was_asked_for(linear, centre):
    loss, population = losses.HalfSquaredError(linear.R), linear.population
    W = torch.stack([models.weights(model) for model in linear.models])
    (row,) = omniscient.estimate(
        linear.models, linear.train, population, population, loss=loss, lambdas=[1e12], centre=centre
    )
    assert row.delta_norm == pytest.approx((W - centre(W)).norm(dim=1).mean().item(), rel=1e-6)


def test_the_first_order_expansion_at_large_lambda(linear):
    """Delta = -nu + (H nu - (g_emp - g_pop)) / (2 lambda C) + O(lambda^-2)."""
    model, train = linear.models[0], linear.train[0]
    W = torch.stack([models.weights(m) for m in linear.models])
    nu = W[0] - omniscient.leave_one_out(W)[0]
    H, loss = curvature.hessian(model, losses.HalfSquaredError(), train), losses.HalfSquaredError()
    slope = curvature.gradient(model, loss, train) - curvature.gradient(model, loss, linear.population)
    for c in (1e4, 1e7):
        e = solve_dense(H, H @ nu - slope, [c]).solutions[0]
        assert torch.linalg.norm(e - (H @ nu - slope) / c) < 20 / c**2


# --- What the theorem says, on a network ----------------------------------------------------------


def test_the_value_is_the_same_for_every_number_of_steps():
    once, often = rows(), rows(steps=1234)
    for a, b in zip(once, often, strict=True):
        assert b.value == pytest.approx(a.value, rel=1e-13)
        assert b.information == pytest.approx(a.information, rel=1e-13)
        assert b.noise_to_weight == pytest.approx(a.noise_to_weight, rel=1e-12)
        assert b.sigma == pytest.approx(a.sigma / 1234**0.5, rel=1e-12)


def test_a_row_adds_up():
    for row in rows():
        assert row.value == pytest.approx(row.information + row.penalty, rel=1e-14)
        assert row.information == pytest.approx(row.trajectory + row.flatness, rel=1e-14)
        assert row.trajectory == pytest.approx(2 * row.flatness, rel=1e-12)
        assert row.information == pytest.approx(1.5 * (LOSS.R**2 / 30 * row.M * row.trace_term) ** (1 / 3), rel=1e-12)
        assert 0 <= row.holdout_share <= 1


def by_hand(lam):
    """One row, straight from its definition with dense matrices."""
    ensemble, train, val, val2, _ = trained()
    W = torch.stack([models.weights(model) for model in ensemble])
    penalties, squares, traces = [], [], []
    for i, (model, own) in enumerate(zip(ensemble, train, strict=True)):
        centre = W[[j for j in range(4) if j != i]].mean(0)
        H = curvature.hessian(model, LOSS, own)
        C = 1.5 * (LOSS.R**2 / 30 * H.trace().abs().item()) ** (1 / 3)
        slope = curvature.gradient(model, LOSS, own) - curvature.gradient(model, LOSS, val)
        shift = 2 * lam * C
        delta = torch.linalg.solve(H + shift * torch.eye(len(H), dtype=H.dtype), -shift * (W[i] - centre) - slope)
        before = [curvature.values(model, LOSS, split).mean().item() for split in (own, val2)]
        with models.at(model, W[i] + delta):
            after = [curvature.values(model, LOSS, split).mean().item() for split in (own, val2)]
            traces.append(sum(s * curvature.hessian(model, LOSS, d).trace().item() for s, d in ((1, own), (-1, val2))))
        penalties.append(abs((after[0] - before[0]) - (after[1] - before[1])))
        squares.append((W[i] + delta - centre).square().sum().item())
    return np.mean(penalties), np.mean(squares), np.mean(np.abs(traces))


@pytest.mark.parametrize("lam", [1.0, 10.0])
def test_the_slow_obvious_twin_agrees(lam):
    penalty, M, trace_term = by_hand(lam)
    row = rows()[LAMBDAS.index(lam)]
    assert row.penalty == pytest.approx(penalty, rel=1e-8)
    assert pytest.approx(M, rel=1e-8) == row.M
    assert row.trace_term == pytest.approx(trace_term, rel=1e-8)


def test_krylov_agrees_with_the_dense_solve():
    for exact, krylov in zip(rows(method="exact"), rows(method="krylov", rtol=1e-12), strict=True):
        if not exact.negative_curvature:
            assert krylov.value == pytest.approx(exact.value, rel=1e-6)
            assert krylov.converged


def test_as_lambda_grows_the_bound_becomes_a_hold_out_estimate():
    last = rows()[-1]
    ensemble, train, _, val2, _ = trained()
    W = torch.stack([models.weights(model) for model in ensemble])
    limit = omniscient.evaluate(ensemble, train, val2, omniscient.leave_one_out(W) - W, loss=LOSS)
    assert last.value == pytest.approx(limit.value, rel=1e-5)
    assert limit.information == pytest.approx(0, abs=1e-8)  # the cube root of rounding
    assert limit.holdout_share == pytest.approx(1)


def test_zero_perturbation_is_the_isotropic_terminal_bound():
    """M is k/(k-1) times the unbiased variance under leave-one-out."""
    ensemble, train, _, val2, _ = trained()
    W = torch.stack([models.weights(model) for model in ensemble])
    row = omniscient.evaluate(ensemble, train, val2, 0 * W, loss=LOSS)
    assert row.penalty == pytest.approx(0, abs=1e-14)
    assert pytest.approx(4 / 3 * W.var(0).sum().item(), rel=1e-12) == row.M
    terminal = wang_mao.terminal(ensemble, row.trace_term, n=30, steps=1, R=LOSS.R)
    assert row.value == pytest.approx((4 / 3) ** (1 / 3) * terminal.value, rel=1e-12)


def test_data_roles_matter():
    """Swapping val and val2 changes the numbers; val enters through Delta only."""
    ensemble, train, val, val2, _ = trained()
    swapped = omniscient.estimate(ensemble, train, val2, val, loss=LOSS, lambdas=[1.0])[0]
    row = rows()[LAMBDAS.index(1.0)]
    assert swapped.value != pytest.approx(row.value, rel=1e-6)
    pairs = zip(ensemble, train, strict=True)
    gaps = [(curvature.values(m, LOSS, val2).mean() - curvature.values(m, LOSS, s).mean()).item() for m, s in pairs]
    assert row.holdout_gap == pytest.approx(np.mean(gaps), rel=1e-12)


@given(factor=st.floats(0.1, 10))
@settings(max_examples=10, deadline=None)
def test_information_scales_with_R_as_its_two_thirds_power_at_fixed_perturbation(factor):
    ensemble, train, _, val2, _ = trained()

    class Scaled(losses.ClippedCrossEntropy):
        @property
        def R(self):
            return factor * super().R

    W = torch.stack([models.weights(model) for model in ensemble])
    plain = omniscient.evaluate(ensemble, train, val2, -0.5 * W, loss=LOSS)
    scaled = omniscient.evaluate(ensemble, train, val2, -0.5 * W, loss=Scaled(LOSS.clip))
    assert scaled.information == pytest.approx(factor ** (2 / 3) * plain.information, rel=1e-10)
    assert scaled.penalty == plain.penalty


def test_order_of_examples_and_of_runs_does_not_matter():
    ensemble, train, val, val2, _ = trained()
    turned = [split.take(torch.randperm(len(split))) for split in train]
    again = omniscient.estimate(ensemble[::-1], turned[::-1], val, val2, loss=LOSS, lambdas=LAMBDAS)
    for a, b in zip(rows(), again, strict=True):
        assert b.value == pytest.approx(a.value, rel=1e-9)


def test_clipped_share_counts_examples_at_the_moved_weights():
    ensemble, train, _, val2, _ = trained()
    W = torch.stack([models.weights(model) for model in ensemble])
    far = omniscient.evaluate(ensemble, train, val2, 1e3 * W, loss=LOSS)
    expected = []
    for model, own in zip(ensemble, train, strict=True):
        with models.at(model, 1001 * models.weights(model)):
            both = torch.cat([curvature.values(model, LOSS, own), curvature.values(model, LOSS, val2)])
            expected.append((both >= LOSS.clip).double().mean().item())
    assert far.clipped_share == pytest.approx(np.mean(expected), rel=1e-12)
    assert far.clipped_share > 0.1


# --- Centres --------------------------------------------------------------------------------------


def test_leave_one_out_plain_and_split_half_second_moments():
    """k/(k-1) and (k-1)/k of the variance, and the identity between them."""
    W = torch.randn(6, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    variance = W.var(0).sum().item()
    loo, plain, half = (
        W - centre(W) for centre in (omniscient.leave_one_out, omniscient.plain_mean, omniscient.split_half)
    )
    assert loo.square().sum(1).mean().item() == pytest.approx(6 / 5 * variance, rel=1e-12)
    assert plain.square().sum(1).mean().item() == pytest.approx(5 / 6 * variance, rel=1e-12)
    torch.testing.assert_close(loo, 6 / 5 * plain)
    torch.testing.assert_close(half[0], W[0] - W[3:].mean(0))
    torch.testing.assert_close(half[5], W[5] - W[:3].mean(0))
    with pytest.raises(ValueError, match="even number of runs"):
        omniscient.split_half(W[:5])


@pytest.mark.parametrize("k", [2, 4, 6])
def test_split_half_takes_the_mean_of_the_other_half(k):
    W = torch.randn(k, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
    centres = omniscient.split_half(W)
    for i in range(k):
        others = W[k // 2 :] if i < k // 2 else W[: k // 2]
        assert torch.allclose(centres[i], others.mean(0))
    with pytest.raises(ValueError, match="even number of runs"):
        omniscient.split_half(W[: k - 1])


def test_plain_mean_under_reports_a_perturbation_chosen_against_it():
    """Delta = -0.9 nu, k = 4, tr Cov = 0.05. Conditional variances are exact, not sampled."""
    k, variance, theta = 4, 0.05, 0.9
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(40_000, k, generator=generator, dtype=torch.float64) * variance**0.5
    others = (W.sum(1, keepdim=True) - W) / (k - 1)
    loo = W - theta * (W - others) - others
    biased = W - theta * (W - W.mean(1, keepdim=True)) - W.mean(1, keepdim=True)
    # given the other runs, W_i - theta nu_i is (1 - theta) W_i + const, or (1 - theta + theta / k) W_i + const
    assert loo.square().mean().item() == pytest.approx((1 - theta) ** 2 * variance * k / (k - 1), rel=0.03)
    assert loo.square().mean().item() >= (1 - theta) ** 2 * variance
    assert biased.square().mean().item() < 0.1 * (1 - theta + theta / k) ** 2 * variance


def test_majorise_minimise_lambda_is_the_tangent_of_the_cube_root():
    for M in (1e-6, 0.3, 40.0):
        slope = (np.cbrt(M * (1 + 1e-6)) - np.cbrt(M * (1 - 1e-6))) / (2e-6 * M)
        assert omniscient.majorise_minimise_lambda(M) == pytest.approx(slope, rel=1e-6)
    with pytest.raises(ValueError, match="positive and finite"):
        omniscient.majorise_minimise_lambda(0)


# --- Uncertainty, the gap, refusals ---------------------------------------------------------------


def test_standard_error_is_the_delta_method():
    """Against a numerical derivative of the value in the runs' own M, trace and penalty."""
    row = rows()[LAMBDAS.index(10.0)]
    singles = []
    ensemble, train, val, val2, _ = trained()
    W = torch.stack([models.weights(model) for model in ensemble])
    for i in range(4):
        path = omniscient.solve_path(
            ensemble[i], train[i], omniscient.leave_one_out(W)[i], curvature.gradient(ensemble[i], LOSS, val),
            loss=LOSS, lambdas=[10.0], solver=Solver(),
        )  # fmt: skip
        (point,) = perturbed.measure_run(
            ensemble[i], train[i], val2, omniscient.leave_one_out(W)[i], path, LOSS, Solver()
        )
        singles.append((point.penalty, point.squared_offset, point.trace_term))
    table = np.array(singles)

    def value(means):
        return means[0] + 1.5 * (LOSS.R**2 / 30 * means[1] * means[2]) ** (1 / 3)

    means = table.mean(0)
    assert row.value == pytest.approx(value(means), rel=1e-10)
    slopes = [
        (value(means * (1 + 1e-6 * e)) - value(means * (1 - 1e-6 * e))) / (2e-6 * m)
        for e, m in zip(np.eye(3), means, strict=True)
    ]
    spread = (table @ np.array(slopes)).std(ddof=1) / 2
    assert row.standard_error == pytest.approx(spread, rel=1e-5)


def test_the_gap_is_test_minus_training_loss_with_both_errors():
    ensemble, train, _, _, test = trained()
    gap = omniscient.gap(ensemble, train, test, loss=LOSS)
    pairs = zip(ensemble, train, strict=True)
    gaps = [(curvature.values(m, LOSS, test).mean() - curvature.values(m, LOSS, s).mean()).item() for m, s in pairs]
    mean_losses = torch.stack([curvature.values(m, LOSS, test) for m in ensemble]).mean(0)
    assert gap.value == pytest.approx(np.mean(gaps), rel=1e-12)
    assert gap.standard_error == pytest.approx(
        np.sqrt(np.var(gaps, ddof=1) / 4 + mean_losses.var().item() / 120), rel=1e-10
    )
    assert gap.probes == 4


def test_the_gap_names_the_samples_that_overlap():
    ensemble, train, *_ = trained()
    with pytest.raises(ValueError, match=r"train\[1\] and test share"):
        omniscient.gap(ensemble, train, train[1], loss=LOSS)


def test_rows_hold_plain_numbers():
    for row in rows():
        for field in fields(row):
            assert type(getattr(row, field.name)) in (float, bool), field.name


def test_models_are_left_as_they_were_found():
    ensemble, train, val, val2, _ = trained()
    before = [models.weights(model) for model in ensemble]
    omniscient.estimate(ensemble, train, val, val2, loss=LOSS, lambdas=[1.0])
    assert all(torch.equal(models.weights(m), w) for m, w in zip(ensemble, before, strict=True))
    assert not any(model.training for model in ensemble)


def refused(message, **changes):
    ensemble, train, val, val2, _ = trained()
    arguments = {
        "models": ensemble,
        "train": train,
        "val": val,
        "val2": val2,
        "loss": LOSS,
        "lambdas": [1.0],
        **changes,
    }
    with pytest.raises(ValueError, match=message):
        omniscient.estimate(**arguments)


def test_bad_input_gets_one_clear_sentence():
    ensemble, train, val, _, _ = trained()
    refused("needs k >= 2 independent runs", models=ensemble[:1], train=train[:1])
    refused("4 models but 3 training splits", train=train[:3])
    refused("share 60 examples", val2=val)
    refused("share 30 examples", val=train[2])
    for lam in (0.0, -1.0, float("nan"), float("inf")):
        refused("lambdas must be positive and finite", lambdas=[1.0, lam])
    refused("lambdas must be positive and finite", lambdas=[])
    refused("no method 'magic'", method="magic")
    refused("steps must be a whole number of at least 1", steps=0)
    refused("training mode", models=[network(width=6).train(), *ensemble[1:]])
    refused("different numbers of weights", models=[network(width=5), *ensemble[1:]])
    broken = network(width=6)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    refused("not finite: it diverged", models=[broken, *ensemble[1:]])


def test_zero_curvature_is_refused_with_the_way_out():
    ensemble, train, val, val2, _ = trained()
    hopeless = losses.ClippedCrossEntropy(1e-9)
    with pytest.raises(ValueError, match=r"C = 0 and the surrogate is singular; .* omniscient.evaluate"):
        omniscient.estimate(ensemble, train, val, val2, loss=hopeless, lambdas=[1.0])
    with pytest.raises(ValueError, match="one perturbation a run"):
        omniscient.evaluate(ensemble, train, val2, torch.zeros(4, 3), loss=LOSS)


def test_the_trace_in_C_is_as_accurate_as_a_cube_root_allows(monkeypatch):
    asked = []

    def spy(*arguments, rtol, **settings):
        asked.append(rtol)
        return curvature.trace(*arguments, rtol=rtol, **settings)

    monkeypatch.setattr("helpers.omniscient.surrogate.trace", spy)
    ensemble, train, val, val2, _ = trained()
    omniscient.estimate(ensemble, train, val, val2, loss=LOSS, lambdas=[1.0], method="krylov", value_rtol=0.1)
    assert asked == pytest.approx([3 * 0.1] * len(asked))
    assert asked


def test_steps_are_one_unless_given():
    assert rows()[0].sigma == rows(steps=1)[0].sigma
    (certified,) = omniscient.self_certified(*trained()[:2], loss=LOSS, lambdas=1.0)
    assert certified.sigma == omniscient.self_certified(*trained()[:2], loss=LOSS, lambdas=1.0, steps=1)[0].sigma


def test_the_gap_of_one_run_has_no_error_and_says_nothing():
    ensemble, train, _, val2, _ = trained()
    with warnings.catch_warnings(action="error"):
        assert math.isnan(omniscient.gap(ensemble[:1], train[:1], val2, loss=LOSS).standard_error)


def test_the_gap_of_runs_without_a_mistake_is_not_known_without_error():
    def never_wrong(outputs, targets):
        return torch.zeros(len(outputs), dtype=outputs.dtype)

    ensemble, train, _, val2, _ = trained()
    gap = omniscient.gap(ensemble, train, val2, loss=never_wrong)
    assert gap.value == 0
    assert math.isnan(gap.standard_error)


def test_two_test_examples_are_enough_for_an_error():
    ensemble, train, _, val2, _ = trained()
    assert math.isfinite(omniscient.gap(ensemble, train, val2.take(slice(2)), loss=LOSS).standard_error)


# --- Models, samples and centres in other forms -----------------------------------------------------------------------


def test_models_and_samples_come_in_whatever_hands_them_out():
    ensemble, train, val, val2, test = trained()
    settings = {"loss": LOSS, "lambdas": 10.0}
    (expected,) = omniscient.estimate(ensemble, train, val, val2, **settings)
    mixed = [
        train[0],
        (train[1].inputs, train[1].targets),
        torch.utils.data.TensorDataset(*astuple(train[2])),
        train[3],
    ]
    for models_, samples in (
        ((model for model in ensemble), (split for split in train)),
        (torch.nn.ModuleList(ensemble), tuple(train)),
        (ensemble, mixed),
    ):
        (row,) = omniscient.estimate(models_, samples, val, val2, **settings)
        assert row == expected
    found = omniscient.gap((model for model in ensemble), (split for split in train), test, loss=LOSS)
    assert found == omniscient.gap(ensemble, train, test, loss=LOSS)


def astuple(split):
    return split.inputs, split.targets


MODELS = {
    "one": (lambda ensemble: torch.nn.Sequential(*ensemble), "models must be a list of the k .* got one Sequential"),
    "none": (lambda ensemble: None, "models must be a list of the k trained models, got one NoneType"),
    "mixed": (lambda ensemble: [*ensemble[:3], "model"], r"models\[3\] must be a torch\.nn\.Module, got a str"),
    "types": (
        lambda ensemble: [*ensemble[:3], models.mlp(5, 6, 3).float().eval()],
        "weights of different types or on different devices; convert them to one",
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_what_are_no_models_is_refused(kind):
    ensemble, train, val, val2, _ = trained()
    make, message = MODELS[kind]
    with pytest.raises(ValueError, match=message):
        omniscient.estimate(make(ensemble), train, val, val2, loss=LOSS, lambdas=1.0)


CENTRES = {
    "one row": (lambda W: W.mean(0, keepdim=True), r"of shape \(4, 57\), got shape \(1, 57\)"),
    "a vector": (lambda W: W.mean(0), r"of shape \(4, 57\), got shape \(57,\)"),
    "an array": (lambda W: W.numpy(), r"of shape \(4, 57\), got a ndarray"),
    "not finite": (lambda W: W / 0, "centre must give a finite tensor"),
    "no function": (torch.zeros(4, 57), "centre must be a function of the weights .* got a Tensor"),
}


@pytest.mark.parametrize("kind", CENTRES)
def test_a_centre_gives_every_run_its_row(kind):
    """One row for all would be spread over the runs in silence, and hold each run's own sample."""
    ensemble, train, val, val2, _ = trained()
    centre, message = CENTRES[kind]
    settings = {"loss": LOSS, "centre": centre}
    for call in (
        lambda: omniscient.estimate(ensemble, train, val, val2, lambdas=1.0, **settings),
        lambda: omniscient.self_certified(ensemble, train, lambdas=1.0, **settings),
        lambda: omniscient.evaluate(ensemble, train, val2, torch.zeros(4, 57).double(), **settings),
    ):
        with pytest.raises(ValueError, match=message):
            call()
