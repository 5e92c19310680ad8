import json
from copy import deepcopy
from itertools import pairwise
from math import log, log1p, sqrt

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import GOLDEN
from torch import nn

from helpers import curvature, data, langevin, models, xu_raginsky
from helpers.curvature import per_example
from helpers.data import Split
from helpers.langevin import certificates, streams
from helpers.langevin.gradients import Gradients
from helpers.losses import HalfSquaredError
from helpers.supersample import Supersample
from helpers.training import Diverged

cross_entropy = lambda logits, targets: F.cross_entropy(logits, targets, reduction="none")  # noqa: E731


def golden(case):
    path = GOLDEN / "langevin.json"
    if not path.is_file():
        pytest.skip("the golden files are not beside the project (../shared/golden); nothing to compare with")
    return json.loads(path.read_text())[case]


class Constant(nn.Module):
    """f(x) = w: the mean of the targets, by HalfSquaredError."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x):
        return self.w.expand(len(x))


def numbers(n, seed=0):
    z = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return Split(torch.zeros(n, 1, dtype=torch.float64), z, 0, "normal")


def images(n=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, 8, 8, generator=generator, dtype=torch.float64)
    return Split(x, torch.randint(3, (n,), generator=generator), 3, "noise")


def conv():
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3, stride=2), nn.Tanh(),
        nn.Flatten(), nn.Linear(4, 3),
    ).double()  # fmt: skip


# --- The exact case --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", range(3))
def test_the_mean_of_gaussian_data_has_the_golden_numbers(case):
    g = golden(case)
    exact = langevin.GaussianMean(g["n"], g["steps"], g["lr"], g["sigma"], g["s"])
    shifted = langevin.GaussianMean(g["n"], g["steps"], g["lr"], g["sigma"], g["s"], mean=1.0)
    gain = (g["lr"] / g["sigma"]) ** 2
    found = {
        "mi_end": exact.end,
        "mi_path": exact.path,
        "chain_population_centre": sum(log1p(gain * m) for m in exact.population_moments) / 2,
        "chain_zero_centre_mu1": sum(log1p(gain * m) for m in shifted.moments) / 2,
        "mi_one_given_rest": exact.one_given_rest,
        "leave_one_out_bound": exact.incoherence / (2 * g["n"] ** 2),
        "cmi_one_exact": exact.membership_exact,
        "cmi_chain_posterior": exact.membership_posterior,
        "cmi_chain_blind": exact.membership_blind,
    }
    assert found == pytest.approx({name: g[name] for name in found}, rel=1e-10, abs=1e-10)


CASES = [(6, 4, 0.3, 0.25), (20, 10, 0.2, 0.1), (50, 30, 0.1, 0.02), (2, 60, 0.5, 0.05), (10, 1, 1.0, 3.0)]


@pytest.mark.parametrize("case", CASES)
def test_every_inequality_holds_where_everything_is_exact(case):
    n, steps, lr, sigma = case
    exact = langevin.GaussianMean(n, steps, lr, sigma)
    settings = {"steps": steps, "lr": lr, "sigma": sigma, "d": 1, "n": n, "R": exact.s}
    population = langevin.whole_sample(exact.population_moments, **settings)
    zero = langevin.whole_sample(exact.moments, **settings)
    path, end = (xu_raginsky.bound(nats, n=n, R=exact.s) for nats in (exact.path, exact.end))
    more = 1 + 1e-12
    assert exact.gap <= end <= path * more <= min(population, zero) * more**2
    one = sqrt(2 * exact.s**2 * exact.one_given_rest)
    assert exact.gap <= one <= langevin.leave_one_out([exact.incoherence], n=n, R=exact.s)
    assert exact.membership_exact <= min(exact.membership_posterior, log(2))
    assert exact.membership_posterior <= exact.membership_blind * more
    assert exact.membership_blind == pytest.approx(exact.incoherence / (2 * n**2) * (n - 1) / n / 2)


def test_the_closed_gap_is_that_of_walks():
    """200,000 walks by the recursion of the weights, in one array."""
    exact = langevin.GaussianMean(4, 5, 0.3, 0.4, s=1.3, mean=0.7)
    rng = np.random.default_rng(0)
    z = exact.mean + exact.s * rng.normal(size=(200_000, 4))
    w, squares = np.zeros(len(z)), []
    for _ in range(exact.steps):
        g = w - z.mean(1)
        squares.append((g**2).mean())
        w = w - exact.lr * g + exact.sigma * rng.normal(size=len(z))
    fresh = exact.mean + exact.s * rng.normal(size=len(z))
    gaps = np.abs(w - fresh) - np.abs(w - z[:, 0])
    assert abs(gaps.mean() - exact.gap) < 4 * gaps.std() / sqrt(len(z))
    assert squares == pytest.approx(exact.moments, rel=0.02)


# --- Gradients without storing them ----------------------------------------------------------------------------------


def distances_to_others(model, loss, split):
    """|g_i - mean of the others' gradients|^2 for every example of a split, (n,): the slow twin of ``Batch.distances``.

    One backward pass an example, all gradients stored.
    """
    losses = loss(model(split.inputs), split.targets)
    rows = torch.stack(
        [models.flat(torch.autograd.grad(value, list(model.parameters()), retain_graph=True)) for value in losses]
    )
    others = (rows.sum(0) - rows) / (len(rows) - 1)
    return (rows - others).double().square().sum(1)


@pytest.mark.parametrize("make", [conv, lambda: models.mlp(128, 5, 3).double()], ids=["convolutions", "linear"])
def test_distances_are_those_of_stored_gradients(make):
    torch.manual_seed(0)
    model, split = make().eval(), images()
    gradients = Gradients(model, cross_entropy)
    found = gradients.of(split)
    assert gradients.squared_norms.rules_hold
    assert found.distances.tolist() == pytest.approx(
        distances_to_others(model, cross_entropy, split).tolist(), rel=1e-9
    )
    assert found.gradient.norm() > 0
    mean = torch.autograd.grad(cross_entropy(model(split.inputs), split.targets).mean(), list(model.parameters()))
    assert torch.allclose(found.gradient, models.flat(mean))


def test_a_wrong_rule_is_found_on_an_example_that_has_a_gradient(monkeypatch):
    """The first example has none: its prediction is right beyond rounding, and any rule agrees on zero."""
    torch.manual_seed(0)
    model, split = models.mlp(128, 5, 3).double().eval(), images()

    def loss(z, y):
        return cross_entropy(z, y) * torch.arange(len(z)).clamp(max=1)

    rule = per_example._RULES[nn.Linear]
    monkeypatch.setitem(per_example._RULES, nn.Linear, lambda *args: 7 * rule(*args))
    gradients = Gradients(model, loss)
    found = gradients.of(split).distances
    assert gradients.squared_norms.rules_hold is False
    assert found.tolist() == pytest.approx(distances_to_others(model, loss, split).tolist(), rel=1e-9)


def test_other_layers_take_one_backward_pass_an_example():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 4), nn.LayerNorm(4), nn.Linear(4, 3)).double().eval()
    gradients = Gradients(model, cross_entropy)
    found = gradients.of(images())
    assert not gradients.squared_norms.rules_hold
    expected = distances_to_others(model, cross_entropy, images())
    assert found.distances.tolist() == pytest.approx(expected.tolist(), rel=1e-9)


def test_pieces_of_a_batch_add_up(monkeypatch):
    torch.manual_seed(0)
    model, split = conv().eval(), images()
    whole = Gradients(model, cross_entropy).of(split)
    monkeypatch.setattr("helpers.langevin.gradients.ENTRIES", 5 * 128)
    pieces = Gradients(model, cross_entropy).of(split)
    assert torch.allclose(whole.distances, pieces.distances)
    assert torch.allclose(whole.gradient, pieces.gradient)
    assert torch.allclose(whole.losses, pieces.losses)


# --- The walk --------------------------------------------------------------------------------------------------------


def slow_walk(split, make, *, steps, lr, temperature, seed, batch_size=None):
    """The walk from the same noise, every gradient stored; returns weights and incoherence."""
    with torch.random.fork_rng():
        torch.manual_seed(streams.stream_seed("initial weights", seed))
        model = make().eval()
    noise, order = (streams.stream(purpose, seed) for purpose in ("noise", "orders"))
    n = len(split)
    b = batch_size or n
    sigma = sqrt(2 * lr * temperature)
    incoherence, queue = torch.zeros(n, dtype=torch.float64), []
    for _ in range(steps):
        if not queue:
            queue = (
                [list(range(n))] if b == n else torch.randperm(n, generator=order)[: n // b * b].view(-1, b).tolist()
            )
        rows = queue.pop(0)
        losses = cross_entropy(model(split.inputs[rows]), split.targets[rows])
        g = torch.stack(
            [models.flat(torch.autograd.grad(v, list(model.parameters()), retain_graph=True)) for v in losses]
        )
        for j, row in enumerate(rows):
            others = torch.cat([g[:j], g[j + 1 :]]).mean(0)
            incoherence[row] += (n / b) ** 2 * lr**2 / sigma**2 * (g[j] - others).square().sum()
        w = models.weights(model)
        xi = torch.randn(w.shape, generator=noise, dtype=w.dtype)
        models.set_weights(model, w - lr * g.mean(0) + sigma * xi)
    return models.weights(model), incoherence


@pytest.mark.parametrize("batch_size", [None, 5])
def test_a_walk_is_its_slow_twin(batch_size):
    settings = {"steps": 6, "lr": 0.2, "temperature": 1e-3, "seed": 3, "batch_size": batch_size}
    run = langevin.train(conv, images(), **settings)
    w, incoherence = slow_walk(images(), conv, **settings)
    assert torch.allclose(models.weights(run.model), w)
    assert torch.allclose(run.incoherence, incoherence)
    assert run.by_step.sum().item() == pytest.approx(incoherence.mean().item())
    assert run.sigma == pytest.approx(sqrt(2 * 0.2 * 1e-3))


def test_incoherence_of_the_mean_is_exact_whatever_the_noise():
    """Gradients w - z_i differ by z alone: T lr^2 / sigma^2 (z_i - mean of the others)^2."""
    split = numbers(9)
    run = langevin.train(Constant, split, steps=7, lr=0.3, temperature=0.05, seed=1, loss=HalfSquaredError())
    z = split.targets
    others = (z.sum() - z) / 8
    assert torch.allclose(run.incoherence, 7 * 0.3**2 / run.sigma**2 * (z - others) ** 2)


def test_moments_are_the_gradients_that_moved_it():
    split, held_out = numbers(9), numbers(30, seed=5)
    path = []
    run = langevin.train(
        Constant, split, steps=4, lr=0.3, temperature=0.05, seed=1, loss=HalfSquaredError(), held_out=held_out,
        observe=lambda t, model: path.append(model.w.item()),
    )  # fmt: skip
    expected = [(w - split.targets.mean().item()) ** 2 for w in path[:-1]]
    assert run.moments.tolist() == pytest.approx(expected)
    off = (held_out.targets.mean() - split.targets.mean()).item() ** 2
    assert run.held_out_moments.tolist() == pytest.approx([off] * 4)
    assert len(path) == 5
    assert run.losses[0].item() == pytest.approx((split.targets.square() / 2).mean().item())
    assert (
        langevin.train(
            Constant, split, steps=1, lr=0.3, temperature=1, seed=0, loss=HalfSquaredError()
        ).held_out_moments
        is None
    )


class Many(nn.Module):
    """500 independent means."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(500, dtype=torch.float64))

    def forward(self, x):
        return self.w.expand(len(x), 500)


@pytest.mark.parametrize("batch_size", [None, 4])
def test_the_noise_has_the_variance_of_the_temperature(batch_size):
    """Stationary variance of a mean: sigma^2 / (1 - (1 - lr)^2), here over coordinates."""
    ones = Split(torch.zeros(8, 1, dtype=torch.float64), torch.ones(8, 500, dtype=torch.float64), 0, "ones")
    run = langevin.train(
        Many, ones, steps=25, lr=0.5, temperature=0.2, seed=0, batch_size=batch_size, loss=HalfSquaredError()
    )
    w = run.model.w.detach()
    assert w.mean().item() == pytest.approx(1.0, abs=0.1)
    assert w.var().item() == pytest.approx(run.sigma**2 / (1 - 0.25), rel=0.25)
    assert run.incoherence.max() < 1e-10


def test_same_seed_same_walk_and_the_caller_s_generator_is_left():
    digits = data.load("digits").take(slice(40))
    before = torch.get_rng_state()
    settings = {"steps": 3, "lr": 0.1, "temperature": 1e-3}
    one, same, other = (
        langevin.train(lambda: models.mlp(64, 4, 10), digits, seed=seed, **settings) for seed in (7, 7, 8)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(models.weights(one.model), models.weights(same.model))
    assert torch.equal(one.incoherence, same.incoherence)
    assert not torch.equal(models.weights(one.model), models.weights(other.model))
    assert not one.model.training


def test_no_two_streams_are_one():
    """Of different purposes, of seeds that agree in the 32 bits that a generator reads, and of the data's own seed."""
    seeds = (0, 1, 2**32, 2**32 + 1, 2**40, 2**41)
    drawn = [torch.randn(8, generator=streams.stream(p, seed)).tolist() for p in streams.PURPOSES for seed in seeds]
    drawn += [torch.randn(8, generator=torch.Generator().manual_seed(seed)).tolist() for seed in seeds[:2]]
    assert len({tuple(row) for row in drawn}) == len(streams.PURPOSES) * len(seeds) + 2
    everything = torch.tensor(drawn)
    assert torch.corrcoef(everything)[~torch.eye(len(drawn), dtype=bool)].abs().max() < 0.99


def test_the_first_noise_does_not_follow_from_the_initial_weights():
    """One standard normal weight: W_0 and the first step's noise over seeds are uncorrelated, and both vary."""

    class Started(Constant):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(1, dtype=torch.float64))

    pairs = []
    for seed in range(60):
        path = []
        run = langevin.train(
            Started, numbers(4), steps=1, lr=0.1, temperature=1.0, seed=seed, loss=HalfSquaredError(),
            observe=lambda t, model, path=path: path.append(model.w.item()),
        )  # fmt: skip
        pairs.append((path[0], (path[1] - path[0] + 0.1 * (path[0] - numbers(4).targets.mean().item())) / run.sigma))
    start, xi = np.array(pairs).T
    assert 0.6 < start.std() < 1.4
    assert 0.6 < xi.std() < 1.4
    assert abs(np.corrcoef(start, xi)[0, 1]) < 0.4


# --- On a supersample ------------------------------------------------------------------------------------------------


def paired(make, split, loss, seed=0):
    pairs = Supersample(split)
    (coins,) = pairs.memberships(1, seed=4)
    settings = {"steps": 5, "lr": 0.3, "temperature": 0.02, "seed": seed, "loss": loss}
    return pairs, coins, settings, langevin.train_paired(make, pairs, coins, **settings)


def test_a_paired_walk_is_the_walk_on_its_sample():
    pairs, coins, settings, run = paired(conv, images(), cross_entropy)
    alone = langevin.train(conv, pairs.sample(coins), **settings)
    assert torch.allclose(models.weights(run.model), models.weights(alone.model))


def test_the_posterior_is_that_of_the_densities_of_the_path():
    """For the mean: both paths' Gaussian densities, step by step, in plain numbers."""
    split = numbers(8, seed=2)
    pairs, coins, settings, run = paired(Constant, split, HalfSquaredError())
    path = []
    langevin.train(Constant, pairs.sample(coins), **settings, observe=lambda t, model: path.append(model.w.item()))
    sigma, lr, n = sqrt(2 * 0.3 * 0.02), 0.3, 4
    own, ghosts = pairs.sample(coins).targets, pairs.ghosts(coins).targets
    for i in range(n):
        log_odds, information, blind = 0.0, 0.0, 0.0
        for before, after in pairwise(path):
            means = []
            for value in (own[i], ghosts[i]):
                z = own.clone()
                z[i] = value
                means.append(before - lr * (before - z.mean().item()))
            doubt = 1 / (1 + np.exp(log_odds))
            information += (means[0] - means[1]) ** 2 * doubt**2 / (2 * sigma**2)
            blind += (means[0] - means[1]) ** 2 / (8 * sigma**2)
            log_odds += ((after - means[1]) ** 2 - (after - means[0]) ** 2) / (2 * sigma**2)
        assert run.information[i].item() == pytest.approx(information, rel=1e-9)
        assert run.blind[i].item() == pytest.approx(blind, rel=1e-9)
        assert run.posterior[i].item() == pytest.approx(1 / (1 + np.exp(-log_odds)), rel=1e-9)
    assert run.by_step.sum().item() == pytest.approx(run.information.mean().item())


def test_the_running_posterior_averages_to_the_exact_number_and_saturates():
    exact = langevin.GaussianMean(4, 5, 0.3, sqrt(2 * 0.3 * 0.02))
    found = []
    for seed in range(80):
        pairs = Supersample(numbers(8, seed=100 + seed))
        (coins,) = pairs.memberships(1, seed=seed)
        run = langevin.train_paired(
            Constant, pairs, coins, steps=5, lr=0.3, temperature=0.02, seed=seed, loss=HalfSquaredError()
        )
        found.append(run.information.mean().item())
    assert abs(np.mean(found) - exact.membership_posterior) < 4 * np.std(found) / sqrt(80)
    long = langevin.train_paired(
        Constant, pairs, coins, steps=200, lr=0.3, temperature=1e-4, seed=0, loss=HalfSquaredError()
    )
    assert long.by_step[:40].sum() > 1e6 * long.by_step[-40:].sum()
    assert long.blind.min() > log(2) > 1 - long.posterior.min()


def words(n=24):
    generator = torch.Generator().manual_seed(0)
    return Split(torch.randint(7, (n, 4), generator=generator), torch.arange(n) % 3, 3, "words")


def floats(*shapes, n=24):
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(n, *shape, generator=generator, dtype=torch.float64) for shape in shapes)


class Parts(nn.Module):
    """Layers, and what is made of them."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.parts, self._forward = nn.ModuleDict(parts), forward

    def forward(self, *inputs, **named):
        return self._forward(self.parts, *inputs, **named)


def two():
    return Parts(lambda m, u, v: m["u"](u) + m["v"](v), u=nn.Linear(2, 3), v=nn.Linear(4, 3)).double()


def recurrent():
    return Parts(
        lambda m, x: m["top"](m["cell"](x)[0][:, -1]), cell=nn.GRU(2, 3, batch_first=True), top=nn.Linear(3, 3)
    )


def branched(m, x):
    return torch.stack([m["left"](row) if row[0] > 0 else m["right"](row).tanh() for row in x])


Y24 = torch.arange(24) % 3
STRANGE = {
    "words": (lambda: nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Linear(12, 3)).double(), words),
    "a dictionary": (two, lambda: Split(dict(zip("uv", floats((2,), (4,)), strict=True)), Y24, 3, "named")),
    "two inputs": (two, lambda: Split(floats((2,), (4,)), Y24, 3, "two")),
    "recurrent": (lambda: recurrent().double(), lambda: Split(*floats((5, 2)), Y24, 3, "sequences")),
    "branches": (
        lambda: Parts(branched, left=nn.Linear(5, 3), right=nn.Linear(5, 3)).double(),
        lambda: Split(*floats((5,)), Y24, 3, "vectors"),
    ),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_paired_walk_takes_what_a_walk_takes(name):
    make, split = STRANGE[name][0], STRANGE[name][1]()
    pairs, coins, settings, run = paired(make, split, cross_entropy)
    alone = langevin.train(make, pairs.sample(coins), **settings)
    torch.testing.assert_close(models.weights(run.model), models.weights(alone.model))
    held = []
    langevin.train(make, pairs.sample(coins), **settings, observe=lambda t, model: held.append(deepcopy(model)))
    mine, theirs = (
        curvature.per_example_gradients(held[0], cross_entropy, half)
        for half in (pairs.sample(coins), pairs.ghosts(coins))
    )
    first = langevin.train_paired(make, pairs, coins.tolist(), **settings | {"steps": 1})
    lr, sigma = 0.3, sqrt(2 * 0.3 * 0.02)
    expected = (lr / (12 * sigma)) ** 2 * (mine - theirs).square().sum(1) / 8
    torch.testing.assert_close(first.blind, expected)


# --- Certificates ----------------------------------------------------------------------------------------------------


def test_certificates_by_hand():
    assert langevin.leave_one_out([4.0, 16.0], n=2, R=0.5) == pytest.approx(0.5 / 2 * 3)
    assert langevin.leave_one_out(torch.tensor([[0.0, 16.0], [8.0, 16.0]]), n=2, R=1) == pytest.approx((2 + 4) / 4)
    assert langevin.membership([0.02, 10.0], R=0.5) == pytest.approx((0.2 + sqrt(2 * log(2))) / 2)
    nats = 3 / 2 * (log1p(4 * 2.0 / 3) + log1p(4 * 5.0 / 3))
    assert langevin.whole_sample([2.0, 5.0], steps=2, lr=0.2, sigma=0.1, d=3, n=10, R=0.5) == pytest.approx(
        xu_raginsky.bound(nats, n=10, R=0.5)
    )


def test_runs_are_averaged_inside_the_root_and_a_symmetric_learner_s_examples_too():
    rows = torch.tensor([[1.0, 9.0], [25.0, 1.0]])
    inside = langevin.leave_one_out(rows, n=2, R=1)
    outside = np.mean([langevin.leave_one_out(row, n=2, R=1) for row in rows])
    assert outside < inside < langevin.leave_one_out(langevin.expected(rows), n=2, R=1)
    assert langevin.expected(rows).tolist() == [9.0]
    assert langevin.leave_one_out(list(rows), n=2, R=1) == inside, "as the records of several walks come"
    assert langevin.expected(tuple(rows)).tolist() == [9.0]


def test_the_standard_error_is_a_jackknife_over_runs():
    rows = torch.tensor([[1.0, 4.0], [9.0, 16.0], [0.0, 1.0]])

    def bound(recorded):
        return langevin.leave_one_out(recorded, n=2, R=1)

    without = [bound(rows[[1, 2]]), bound(rows[[0, 2]]), bound(rows[[0, 1]])]
    assert certificates.standard_error(bound, rows) == pytest.approx(np.std(without) * sqrt(2))


# --- Refusals --------------------------------------------------------------------------------------------------------


def walk(**changes):
    settings = {"steps": 2, "lr": 0.1, "temperature": 1e-3, "seed": 0, "loss": HalfSquaredError()}
    return langevin.train(Constant, numbers(6), **settings | changes)


TRAINED, PAIRS = Constant(), Supersample(numbers(6))
WALK = {"steps": 1, "lr": 0.1, "temperature": 1.0, "seed": 0, "loss": HalfSquaredError()}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: walk(temperature=0.0), "temperature must be a finite number above zero"),
        (lambda: walk(steps=0), "steps must be a whole number"),
        (lambda: walk(lr=-1), "lr must be"),
        (lambda: walk(seed=-1), "seed must be a whole number"),
        (lambda: walk(batch_size=7), "batch_size must lie between 2 and 6"),
        (lambda: walk(batch_size=1), "batch_size must be a whole number of at least 2"),
        (lambda: walk(seed=None), "seed must be a whole number of at least 0, got None"),
        (lambda: walk(seed=1.5), "seed must be a whole number of at least 0, got 1.5"),
        (lambda: walk(temperature="0.01"), "temperature must be a number, got '0.01' of type str"),
        (lambda: walk(lr=None), "lr must be a number, got None"),
        (lambda: walk(steps="3"), "steps must be a number"),
        (lambda: walk(batch_size="3"), "batch_size must be a number"),
        (lambda: walk(temperature=1e-323, lr=1e-3), "is 0 in rounding; raise temperature"),
        (lambda: walk(temperature=1e-309), "the noise is too small to divide by .*; raise temperature"),
        (lambda: langevin.train(Constant(), numbers(6), steps=1, lr=0.1, temperature=1, seed=0), "such as lambda"),
        (lambda: langevin.train(lambda: TRAINED, numbers(6), steps=1, lr=0.1, temperature=1, seed=0), "got one twice"),
        (lambda: langevin.train(lambda: nn.Sequential(TRAINED), numbers(6), **WALK), "must make a new model"),
        (lambda: langevin.train_paired(lambda: TRAINED, PAIRS, torch.zeros(3), **WALK), "got one twice"),
        (lambda: langevin.leave_one_out([torch.ones(3), torch.ones(2)], n=3, R=1), "one row a run"),
        (lambda: langevin.leave_one_out([1.0], n=3, R=None), "R must be a number, got None"),
        (lambda: langevin.leave_one_out([1.0], n=None, R=1), "n must be a number, got None"),
        (lambda: langevin.membership([1.0], R=None), "R must be a number, got None"),
        (lambda: langevin.whole_sample([1.0], steps=1, lr=1, sigma=1, d=1, n=6, R=None), "R must be a number"),
        (lambda: langevin.GaussianMean(2, 1, 0.5, 0.1, mean=float("nan")), "mean must be a finite number, got nan"),
        (lambda: langevin.train_paired(Constant, numbers(6), None, steps=1, lr=0.1, temperature=1, seed=0), "Supersam"),
        (lambda: langevin.leave_one_out([1.0] * 40, n=1000, R=1), "n = 1000 entries a run, or one .* got 40"),
        (lambda: langevin.leave_one_out(torch.ones(5, 2), n=5, R=1), "got 2; a row is a run"),
        (lambda: langevin.leave_one_out(walk(), n=6, R=1), "got a Walk; give walk.incoherence"),
        (lambda: langevin.leave_one_out([-1.0, 1.0], n=2, R=1), "incoherence must not be negative, got -1"),
        (lambda: langevin.whole_sample(walk().held_out_moments, steps=2, lr=1, sigma=1, d=1, n=6, R=1), "held_out"),
        (lambda: langevin.whole_sample(walk().incoherence, steps=2, lr=1, sigma=1, d=1, n=6, R=1), "walk.moments"),
        (lambda: langevin.leave_one_out([], n=2, R=1), "one row a run, or one row"),
        (lambda: langevin.leave_one_out([1.0], n=0, R=1), "n must be a whole number"),
        (lambda: langevin.membership([float("inf")], R=1), "the walk diverged"),
        (lambda: langevin.whole_sample([1.0], steps=1, lr=0.1, sigma=0.0, d=1, n=1, R=1), "sigma"),
        (lambda: langevin.GaussianMean(1, 1, 0.1, 0.1), "n must be a whole number of at least 2"),
        (lambda: langevin.GaussianMean(2, 1, 1.5, 0.1), "lr must be at most 1"),
        (lambda: certificates.standard_error(max, [1.0]), "at least two rows"),
    ],
)
def test_refusals_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_network_that_mixes_its_batch_is_refused():
    def make():
        return nn.Sequential(nn.Flatten(), nn.Linear(128, 3), nn.BatchNorm1d(3, track_running_stats=False)).double()

    with pytest.raises(ValueError, match="depends on the rest of its batch"):
        langevin.train(make, images(), steps=1, lr=0.1, temperature=1.0, seed=0)


def test_a_seed_may_be_a_numpy_number_and_settings_may_be_tensors():
    one, same = walk(seed=np.int64(3), lr=torch.tensor(0.1, dtype=torch.float64)), walk(seed=3)
    assert torch.equal(one.model.w, same.model.w)


def test_dropout_is_off_as_the_docstring_says():
    def make():
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(128, 3)).double()

    def plain():
        return nn.Sequential(nn.Flatten(), nn.Identity(), nn.Linear(128, 3)).double()

    settings = {"steps": 2, "lr": 0.1, "temperature": 1e-3, "seed": 0}
    runs = [langevin.train(maker, images(), **settings) for maker in (make, plain)]
    assert torch.equal(*(models.weights(run.model) for run in runs))


def test_a_walk_that_leaves_the_finite_numbers_says_so():
    with pytest.raises((Diverged, ValueError), match="not finite"):
        walk(lr=1e200, steps=5)
