"""The convex construction: exact values, descent against its closed form, quadrature against simulation."""

import itertools
import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from golden import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial.hermite_e import hermegauss
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.stats import binom, chi2, linregress, norm

from helpers import convex
from helpers.convex import Construction, log_log_slope

SIZES = (16, 64, 256, 1024, 4096)
constructions = st.builds(Construction, n=st.integers(1, 200), d=st.integers(1, 200))


# --- What is exact ------------------------------------------------------------------------------------------


def best_with_lemma_4(case):
    """The isotropic bound with the information of Lemma 4, at the best tau."""

    def value(log_tau):
        tau = math.exp(log_tau)
        return math.sqrt(2 * case.lemma_4_information(tau) / case.n) + 2 * case.hinge(tau)

    middle = -math.log(case.d + 1) / 2
    return minimize_scalar(value, bounds=(middle - 3, middle + 2), method="bounded", options={"xatol": 1e-9}).fun


def test_the_exact_columns():
    # with d = n
    cases = [Construction(n, n) for n in SIZES]
    assert [case.gap for case in cases] == [0.03125, 0.015625, 0.0078125, 0.00390625, 0.001953125]
    assert [case.omniscient for case in cases] == [case.gap for case in cases]
    information = [35.899023038499, 182.338772184740, 899.083349867997, 4296.315355212704, 20012.511143991993]
    assert [case.mutual_information for case in cases] == pytest.approx(information, abs=1e-7)
    bounds = [2.118343192170, 2.387066532540, 2.650299732265, 2.896763871659, 3.125977280312]
    assert [case.xu_raginsky for case in cases] == pytest.approx(bounds, abs=1e-10)


def test_the_golden_rows():
    if not (GOLDEN / "linear.json").is_file():
        pytest.skip("the golden files are not beside the project (../shared/golden); nothing to compare with")
    for row in json.loads((GOLDEN / "linear.json").read_text())["clb"]["rows"]:
        case = Construction(row["n"], row["d"])
        assert case.gap == pytest.approx(row["gen_exact"], abs=1e-10)
        assert case.mean_squared_norm == pytest.approx(row["E_W_sq"], abs=1e-12)
        assert case.mutual_information == pytest.approx(row["mutual_information_nats"], rel=1e-10)
        assert case.xu_raginsky == pytest.approx(row["xu_raginsky"], abs=1e-10)
        # The file's quadrature of the hinge is good to 4e-5 only; see the tests of the hinge below.
        assert case.isotropic().value == pytest.approx(row["isotropic_separate_residual"], abs=1e-4)
        lemma_4 = row["isotropic_lemma4_separate_residual"]["value"]
        assert best_with_lemma_4(case) == pytest.approx(lemma_4, abs=1e-4)


@pytest.mark.parametrize(("n", "d"), [(1, 1), (2, 1), (2, 2), (3, 2), (4, 1)])
@pytest.mark.parametrize("differ", [False, True])
def test_a_pairs_loss_difference_by_enumeration(n, d, differ):
    """All pairs and all other examples, against the transform; the mean over both kinds of pair is the gap."""
    case, scale = Construction(n, d), np.array([1.0] + [d**-0.5] * d)
    signs = [np.array(row) for row in itertools.product((-1, 1), repeat=d + 1)]
    counted = Counter()
    for trained, ghost in itertools.product(signs, repeat=2):
        if bool(trained[0] != ghost[0]) != differ:
            continue
        for others in itertools.product(signs, repeat=n - 1):
            w = case.closed_form(torch.tensor(np.array([trained, *others]) * scale)).numpy()
            counted[round(8 * d * math.sqrt(n) * (w @ ((trained - ghost) * scale)) / 2)] += 1
    law = case.loss_difference(signs_differ=differ)
    total = counted.total()
    expected = [counted[round(8 * d * math.sqrt(n) * value)] / total for value in law.values]
    assert law.probabilities == pytest.approx(expected, abs=1e-14)
    assert sum(expected) == pytest.approx(1)  # no value beyond the law's


@pytest.mark.parametrize("n", [1, 3, 16, 200])
def test_the_mean_loss_difference_is_the_gap(n):
    case = Construction(n, 5)
    both = [case.loss_difference(signs_differ=differ).gap for differ in (False, True)]
    assert sum(both) / 2 == pytest.approx(case.gap, abs=1e-12)


def test_the_individual_sample_bound_by_enumeration():
    """I(W; Z_1) for d = 1: W holds two counts, so the information is that of two counts about their signs."""
    case, seen, given = Construction(3, 1), Counter(), Counter()
    for row in itertools.product((-1, 1), repeat=6):
        counts = (sum(row[:3]), sum(row[3:]))
        seen[counts] += 1 / 64
        given[counts, row[0], row[3]] += 1 / 64
    nats = sum(p * math.log(4 * p / seen[counts]) for (counts, *_), p in given.items())
    assert case.individual_sample == pytest.approx(math.sqrt(2 * nats), rel=1e-12)
    assert Construction(1, 1).individual_sample == pytest.approx(math.sqrt(2 * 2 * math.log(2)))


def test_the_supersample_bound_is_above_the_gap_and_levels_off():
    cases = [Construction(n, n) for n in SIZES[:4]]
    bounds = [case.supersample for case in cases]
    for case, bound in zip(cases, bounds, strict=True):
        assert case.gap < bound.by_spread < bound.by_range
    assert [b.by_range for b in bounds] == pytest.approx([0.7378, 0.6109, 0.5581, 0.5404], abs=1e-3)


@pytest.mark.parametrize(("n", "d"), [(1, 1), (2, 2), (3, 2), (4, 1)])
def test_gap_norm_and_information_by_enumeration(n, d):
    case, gaps, norms, seen = Construction(n, d), [], [], {}
    signs = itertools.product((-1.0, 1.0), repeat=n * (1 + d))
    for row in signs:
        sample = torch.tensor(row, dtype=torch.float64).view(n, 1 + d)
        sample[:, 1:] /= math.sqrt(d)
        w = case.closed_form(sample)
        gaps.append(float(convex.population_risk(w) - convex.losses(w, sample).mean()))
        norms.append(float(w @ w))
        key = tuple((w.round(decimals=9) + 0.0).tolist())
        seen[key] = seen.get(key, 0) + 1
    assert np.mean(gaps) == pytest.approx(case.gap, abs=1e-12)
    assert np.mean(norms) == pytest.approx(case.mean_squared_norm, abs=1e-12)
    shares = np.array(list(seen.values())) / len(gaps)
    assert -float(shares @ np.log(shares)) == pytest.approx(case.mutual_information, abs=1e-9)


def test_the_loss_is_convex_lipschitz_and_sub_gaussian():
    rng, d = np.random.default_rng(0), 3
    case = Construction(50, d)
    for seed in range(20):
        sample = case.sample(seed)
        directions = torch.from_numpy(rng.standard_normal((2, 1 + d)))
        v, w = (2 * rng.uniform() * direction / direction.norm() for direction in directions)
        middle, lv, lw = (convex.losses(u, sample) for u in ((v + w) / 2, v, w))
        assert bool((middle <= (lv + lw) / 2 + 1e-12).all())
        assert bool(((lv - lw).abs() <= (1 + 1 / math.sqrt(2)) * (v - w).norm() + 1e-12).all())
        for rho in (0.3, 2.0, 10.0):  # independent signs: log-mgf in closed form
            scale = torch.cat([w[:1], w[1:] / math.sqrt(d)]) / 2
            assert float(torch.cosh(rho * scale).log().sum()) <= convex.R**2 * rho**2 / 2 + 1e-12
    tight = 1e-3  # attained at w = (2, 0): log cosh(rho) / (rho^2 / 2) -> 1
    assert math.log(math.cosh(tight)) / (tight**2 / 2) == pytest.approx(convex.R**2, abs=1e-6)


# --- Descent ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d", "steps"), [(16, 16, 1), (16, 16, 7), (256, 8, 100), (5, 3, 10)])
def test_descent_ends_at_the_closed_form(n, d, steps):
    case = Construction(n, d)
    sample = case.sample(3)
    found, expected = case.gradient_descent(sample, steps=steps), case.closed_form(sample)
    assert float((found - expected).abs().max()) < 1e-14
    assert found.dtype == torch.float64


def test_descent_turns_aside_where_the_closed_form_leaves_the_ball():
    case = Construction(64, 2)
    sample = case.sample(0).abs()  # all signs equal, of probability 2^-192: the closed form has norm sqrt(2)
    with pytest.raises(ValueError, match="leaves the unit ball"):
        case.closed_form(sample)
    assert float(case.gradient_descent(sample, steps=400).norm()) == pytest.approx(1, abs=0.02)
    assert float(case.gradient_descent(sample, steps=1).norm()) == pytest.approx(math.sqrt(2), abs=1e-12)
    larger = Construction(1024, 2)  # one step of length 4 sqrt(2), back to the ball of radius 2
    assert float(larger.gradient_descent(larger.sample(0).abs(), steps=1).norm()) == pytest.approx(2, abs=1e-12)


def test_the_gap_of_simulated_runs():
    case = Construction(16, 16)
    gaps, drops = [], []
    for seed in range(400):
        sample = case.sample(seed)
        w = case.gradient_descent(sample, steps=3)
        gaps.append(float(convex.population_risk(w) - convex.losses(w, sample).mean()))
        drops.append(float(convex.losses(torch.zeros_like(w), sample).mean() - convex.losses(w, sample).mean()))
    assert abs(np.mean(gaps) - case.gap) < 4 * np.std(gaps) / math.sqrt(400)
    # Separate penalty of Delta = -W: L_mu does not change, L_S rises by as much as the gap.
    assert drops == pytest.approx(gaps, abs=1e-14)


def test_a_sample_holds_independent_signs():
    sample = Construction(4000, 4).sample(0)
    assert sample.shape == (4000, 5)
    assert sample[:, 0].unique().tolist() == [-1.0, 1.0]
    assert sample[:, 1:].unique().tolist() == [-0.5, 0.5]
    scale = torch.tensor([1.0] + [0.25] * 4).double()
    assert float((sample.T @ sample / 4000 - torch.diag(scale)).abs().max()) < 0.06
    assert not torch.equal(sample, Construction(4000, 4).sample(1))


# --- Isotropic noise ----------------------------------------------------------------------------------------


def test_the_isotropic_columns():
    # theory, section 7
    found = [Construction(n, n).isotropic() for n in SIZES]
    assert [ghost.value for ghost in found] == pytest.approx([0.2299, 0.1899, 0.1616, 0.1438, 0.1353], abs=1e-4)
    exact = [0.22993410222, 0.18992986464, 0.16157028958, 0.14377364246, 0.13534171866]
    assert [ghost.value for ghost in found] == pytest.approx(exact, abs=1e-10)
    lemma_4 = [best_with_lemma_4(Construction(n, n)) for n in SIZES]
    assert lemma_4 == pytest.approx([0.23718, 0.20771, 0.19338, 0.18677, 0.18420], abs=1e-4)
    for ghost in found:
        assert ghost.value == pytest.approx(ghost.information + ghost.residual, abs=1e-15)


def test_isotropic_noise_leaves_a_constant_however_many_examples():
    assert Construction(10**6, 10**6).isotropic().value == pytest.approx(0.1308, abs=1e-4)
    assert Construction(10**8, 10**8).isotropic().value == pytest.approx(0.1307, abs=1e-4)


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 3000))
def test_the_best_tau_is_a_minimum(n):
    case = Construction(n, n)
    best = case.isotropic()

    def value(tau):
        return math.sqrt(2 * case.gaussian_information(tau) / n) + 2 * case.hinge(tau)

    assert best.value == pytest.approx(value(best.tau), abs=1e-12)
    assert best.value < min(value(1.02 * best.tau), value(best.tau / 1.02))
    assert best.value <= min(value(factor / math.sqrt(n)) for factor in np.geomspace(0.02, 5, 25))
    assert best.value > case.gap
    assert best_with_lemma_4(case) >= best.value


def test_the_hinge_by_nested_quadrature():
    case, tau = Construction(16, 16), 0.2
    a, b = 1 / 64 + tau**2, 1 / (64 * 16) + tau**2

    def given_u(x):
        low = max((1 - a * x * x) / b, 0.0)
        height = lambda y: (min(math.sqrt(a * x * x + b * y), 2) - 1) * chi2.pdf(y, 16)  # noqa: E731
        return quad(height, low, low + 150, epsabs=1e-12, limit=200)[0]

    kink = 1 / math.sqrt(a)
    parts = [quad(lambda x: 2 * norm.pdf(x) * given_u(x), *ends, epsabs=1e-11)[0] for ends in ((0, kink), (kink, 9))]
    assert case.hinge(tau) == pytest.approx(sum(parts), abs=1e-10)


@pytest.mark.parametrize("scaled", [0.3, 0.8, 2.0, 8.0])
def test_the_hinge_has_converged_in_its_nodes(scaled, monkeypatch):
    values = []
    for nodes in (60, 150):
        monkeypatch.setattr(convex, "NODES", nodes)
        values.append([Construction(n, n).hinge(scaled / math.sqrt(n)) for n in (4, 256)])
    assert values[0] == pytest.approx(values[1], abs=1e-12)


def test_the_hinge_by_the_law_of_large_numbers():
    for scaled in (0.5, 0.9, 1.3):

        def height(u, scaled=scaled):
            length = math.sqrt(u * u / 64 + 1 / 64 + scaled**2)
            return min(max(length - 1, 0), 1) * 2 * norm.pdf(u)

        kinks = sorted(8 * math.sqrt(max(edge - 1 / 64 - scaled**2, 0)) for edge in (1, 4))
        ends = [0.0, *kinks, 40.0]
        expected = sum(quad(height, *pair)[0] for pair in itertools.pairwise(ends) if pair[0] < pair[1])
        assert Construction(10**8, 10**8).hinge(scaled / 10**4) == pytest.approx(expected, abs=1e-6)


def test_the_hinge_of_the_binomial_means():
    case, rng = Construction(16, 16), np.random.default_rng(0)
    tau = case.isotropic().tau
    w = (2 * rng.binomial(16, 0.5, (200_000, 17)) / 16 - 1) * math.sqrt(16) / 8
    w[:, 1:] /= 4
    lengths = np.linalg.norm(w + tau * rng.standard_normal(w.shape), axis=1)
    costs = np.clip(np.minimum(lengths, 2) - 1, 0, None)
    assert abs(costs.mean() - case.hinge(tau)) < 4 * costs.std() / math.sqrt(len(costs))
    assert lengths.max() < 2  # the projection does nothing


def test_the_projection_does_not_matter_at_the_best_tau():
    for n in SIZES:
        tau = Construction(n, n).isotropic().tau
        nodes, masses = hermegauss(80)
        left = (4 - (1 / 64 + tau**2) * nodes**2) / (1 / (64 * n) + tau**2)
        assert float(masses @ chi2.sf(left, n)) / masses.sum() < 1e-12


def noisy_sign_mean_information(n, scale, tau):
    """I(X; X + tau N) for X = scale * mean of n signs, by quadrature: what gaussian_information is not
    below."""
    x, mass = scale * (2 * np.arange(n + 1) / n - 1), binom.pmf(np.arange(n + 1), n, 0.5)
    nodes, weights = hermegauss(100)
    y = x[:, None] + tau * nodes
    mixture = (mass * norm.pdf(y[..., None], x, tau)).sum(-1)
    log_ratio = np.log(norm.pdf(y, x[:, None], tau) / mixture)
    return float(mass @ log_ratio @ weights) / weights.sum()


def test_the_gaussian_information_is_above_the_exact_one_and_close():
    for n in (4, 16, 64):
        case, tau = Construction(n, n), 0.8 / math.sqrt(n)
        exact = noisy_sign_mean_information(n, math.sqrt(n) / 8, tau)
        exact += n * noisy_sign_mean_information(n, 1 / 8, tau)
        assert exact <= case.gaussian_information(tau)
        assert case.gaussian_information(tau) <= 1.01 * exact


@given(constructions, st.floats(1e-3, 10))
def test_lemma_4_forgets_where_the_variance_is(case, tau):
    assert case.gaussian_information(tau) <= case.lemma_4_information(tau) * (1 + 1e-12)
    assert case.gaussian_information(2 * tau) <= case.gaussian_information(tau)
    coordinates = math.log1p(1 / (64 * tau**2)) + case.d * math.log1p(1 / (64 * case.d * tau**2))
    assert case.gaussian_information(tau) == pytest.approx(coordinates / 2, rel=1e-12)
    size = case.d + 1
    assert case.lemma_4_information(tau) == pytest.approx(size / 2 * math.log1p(1 / (32 * size * tau**2)), rel=1e-12)


# --- Rates --------------------------------------------------------------------------------------------------


def test_the_rates():
    cases = [Construction(n, n) for n in SIZES]
    gap = log_log_slope(SIZES, [case.gap for case in cases])
    assert gap.value == pytest.approx(-0.5, abs=1e-12)
    assert gap.standard_error < 1e-10
    assert log_log_slope(SIZES, [case.omniscient for case in cases]).value == pytest.approx(-0.5, abs=1e-12)
    growing = log_log_slope(SIZES, [case.xu_raginsky for case in cases])
    assert growing.value == pytest.approx(0.0700972610, abs=1e-9)
    constant = log_log_slope(SIZES, [case.isotropic().value for case in cases])
    assert constant.value == pytest.approx(-0.0965, abs=1e-4)
    assert constant.standard_error == pytest.approx(0.0108, abs=1e-4)


def test_the_slope_is_scipys():
    n, values = [1, 3, 10, 40, 100], [2.0, 1.1, 0.9, 0.2, 0.3]
    expected = linregress(np.log(n), np.log(values))
    found = log_log_slope(n, values)
    assert (found.value, found.standard_error) == pytest.approx((expected.slope, expected.stderr), abs=1e-12)
    assert found.probes == 5


# --- Uniform stability --------------------------------------------------------------------------------------


def logistic_sgd(examples, order, lr):
    w = torch.zeros(examples.shape[1], dtype=torch.float64)
    for i in order:
        w = w + lr * torch.sigmoid(-(w @ examples[i])) * examples[i]
    return w


def test_stability_bound_by_hand():
    bound = convex.uniform_stability_bound([0.5, 0.25, 0.25], n=4, lipschitz=3.0, smoothness=2.0)
    assert bound == pytest.approx(2 * 9 / 4, abs=1e-15)


def test_a_linear_loss_meets_the_stability_bound():
    # l(w; z) = <w, z>, |z| = 1: the replaced example moves every visit of its turn by 2 lr, and nothing brings w back
    n, epochs, lr = 5, 3, 0.4
    examples = torch.eye(n, dtype=torch.float64)
    twin = examples.clone()
    twin[2] *= -1
    order = list(range(n)) * epochs
    w, moved = (-lr * sample[order].sum(0) for sample in (examples, twin))
    worst = (w - moved).norm().item()  # sup over unit z of the difference of losses
    bound = convex.uniform_stability_bound([lr] * len(order), n=n, lipschitz=1.0, smoothness=1e-3)
    assert worst == pytest.approx(bound, abs=1e-15)


@pytest.mark.parametrize("lr", [0.5, 8.0])
def test_logistic_regression_is_as_stable_as_the_bound_says(lr):
    generator = torch.Generator().manual_seed(0)
    n, epochs, d = 20, 4, 3
    examples = torch.randn(n, d, generator=generator, dtype=torch.float64)
    examples /= examples.norm(dim=1, keepdim=True)
    changes = []
    for replaced in range(n):
        twin = examples.clone()
        twin[replaced] *= -1  # the worst replacement: the label flipped
        order = [i for _ in range(epochs) for i in torch.randperm(n, generator=generator).tolist()]
        w, moved = logistic_sgd(examples, order, lr), logistic_sgd(twin, order, lr)
        directions = torch.cat([examples, -examples])
        losses = [torch.nn.functional.softplus(-directions @ v) for v in (w, moved)]
        changes.append((losses[0] - losses[1]).abs().max().item())
    bound = convex.uniform_stability_bound([lr] * (n * epochs), n=n, lipschitz=1.0, smoothness=0.25)
    assert 0 < max(changes) <= bound


@pytest.mark.parametrize("p", [0.55, 0.7, 0.9])
@pytest.mark.parametrize("n", [1, 4, 16, 64, 256])
def test_gap_training_risk_and_excess_of_smooth_descent_fall_as_one_over_root_n(n, p):
    """Exact over all samples, for l(w; z) = log(1 + e^{-zw}) z = 1 or -1: 1-Lipschitz, beta = 1/4, w* = log odds."""
    best = math.log(p / (1 - p))
    steps = math.ceil(best * math.sqrt(n) / 4)
    lr = best * math.sqrt(n) / steps
    seen = np.arange(n + 1) / n
    w = np.zeros(n + 1)
    for _ in range(steps):
        w -= lr * (1 / (1 + np.exp(-w)) - seen)

    def risk(w, positive):
        return positive * np.logaddexp(0, -w) + (1 - positive) * np.logaddexp(0, w)

    weights = binom.pmf(np.arange(n + 1), n, p)
    own, fresh = weights @ risk(w, seen), weights @ risk(w, p)
    unit = best / math.sqrt(n)
    assert lr <= 4
    assert abs(fresh - own) <= 2 * unit
    assert own - risk(best, p) <= unit / 2
    assert 0 <= fresh - risk(best, p) <= 2.5 * unit


def test_without_convexity_steps_that_fall_as_one_over_t_keep_sgd_stable():
    """Hardt et al. (2016), 3.12, for l(w; z) = (1 + sin(w . x + b)) / 2 with |x| = 1: L = beta = 1/2, l in [0, 1].

    With lr_t <= c / t: (1 + 1/q) / (n - 1) (2 c L^2)^{1/(q+1)} T^{q/(q+1)}, q = beta c.
    """
    generator = torch.Generator().manual_seed(0)
    n, T, c, d = 40, 400, 1.0, 3
    q = 0.5 * c
    bound = (1 + 1 / q) / (n - 1) * (2 * c * 0.25) ** (1 / (q + 1)) * T ** (q / (q + 1))
    x = torch.nn.functional.normalize(torch.randn(n, d, generator=generator, dtype=torch.float64))
    shift = 6.28 * torch.rand(n, generator=generator, dtype=torch.float64)
    order = torch.stack([torch.randint(n, (T,), generator=generator) for _ in range(200)])
    w, twin = (torch.zeros(200, d, dtype=torch.float64) for _ in range(2))
    for t, i in enumerate(order.T, start=1):
        for v, flipped in ((w, 0.0), (twin, math.pi)):  # the twin's example 0 pulls the other way
            angle = (v * x[i]).sum(1) + shift[i] + flipped * (i == 0)
            v -= c / t * 0.5 * angle.cos()[:, None] * x[i]
    directions = torch.nn.functional.normalize(torch.randn(2000, d, generator=generator, dtype=torch.float64))
    phases = torch.linspace(0, 6.28, 24, dtype=torch.float64)[:, None, None]
    changes = ((w @ directions.T + phases).sin() - (twin @ directions.T + phases).sin()).abs() / 2
    measured = changes.mean(1).max().item()
    assert 0.01 < measured <= bound < 1


# --- What is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Construction(0, 1), "n must be a whole number of at least 1"),
        (lambda: Construction(1, 0), "d must be a whole number of at least 1"),
        (lambda: Construction(4, 4).hinge(0.0), "tau must be a finite number above zero"),
        (lambda: Construction(4, 4).gaussian_information(-1.0), "tau must be a finite number above zero"),
        (lambda: Construction(4, 4).lemma_4_information(math.inf), "tau must be a finite number above zero"),
        (lambda: Construction(4, 4).gradient_descent(torch.ones(4, 5), steps=0), "steps must be a whole number"),
        (lambda: Construction(16, 10_000).isotropic(), "no best tau"),
        (lambda: convex.uniform_stability_bound([], n=1, lipschitz=1, smoothness=1), "a learning rate for each step"),
        (lambda: convex.uniform_stability_bound([2.1], n=1, lipschitz=1, smoothness=1), "none above 2 / smoothness"),
        (lambda: convex.uniform_stability_bound([0.0], n=1, lipschitz=1, smoothness=1), "every learning rate must be"),
        (lambda: convex.uniform_stability_bound([1.0], n=0, lipschitz=1, smoothness=1), "n must be a whole number"),
        (lambda: log_log_slope([1, 2, 3], [1.0, 2.0]), "one value for each n, got 2 and 3"),
        (lambda: log_log_slope([1, 2, 2], [1.0, 2.0, 3.0]), "at least three different n"),
        (lambda: log_log_slope([1, 2, 3], [1.0, -2.0, 3.0]), "every value must be a finite number above zero"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
