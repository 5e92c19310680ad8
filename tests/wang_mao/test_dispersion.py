"""The four dispersions: enumeration of batches, naive loops, and SGD whose dispersion is known."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import wang_mao
from helpers.wang_mao import dispersion
from helpers.wang_mao.information import LinearChain

FAST = {"max_examples": 30, "deadline": None}


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def linear_runs(chain, runs, seed):
    """Weights (runs, T + 1, 1) of independent runs of the chain, each on its own sample."""
    sample = chain.s * normal(runs, chain.n, seed=seed)
    means = sample.view(runs, -1, chain.batch).mean(2).repeat(1, chain.epochs)
    path = [torch.zeros(runs, dtype=torch.float64)]
    for mean in means.unbind(1):
        path.append(path[-1] - chain.lr * (path[-1] - mean))
    return torch.stack(path, 1)[:, :, None]


# --- Across runs --------------------------------------------------------------------------------------------


def test_cross_run_is_the_variance_of_the_update():
    paths = normal(4, 6, 3)
    expected = []
    for t in range(1, 6):
        updates = [path[t] - path[t - 1] for path in paths]
        mean = sum(updates) / 4
        expected.append(sum(float((update - mean).square().sum()) for update in updates) / 3)
    assert dispersion.cross_run_dispersion(paths).tolist() == pytest.approx(expected, abs=1e-12)


def test_cross_run_is_an_unbiased_estimate_of_what_lemma_5_asks_for():
    chain, groups, k = LinearChain(), 400, 4
    paths = linear_runs(chain, groups * k, seed=3).view(groups, k, chain.steps + 1, 1)
    estimates = torch.stack([dispersion.cross_run_dispersion(group) for group in paths])
    errors = estimates.std(0) / groups**0.5
    assert bool(((estimates.mean(0) - torch.tensor(chain.dispersions)).abs() < 4 * errors).all())


@settings(**FAST)
@given(st.permutations(range(4)), st.floats(0.1, 10), st.integers(0, 1000))
def test_cross_run_ignores_the_order_of_runs_and_a_common_drift(order, scale, seed):
    paths, drift = normal(4, 5, 2, seed=seed), normal(5, 2, seed=seed + 1)
    value = dispersion.cross_run_dispersion(paths)
    moved = dispersion.cross_run_dispersion(scale * paths[list(order)] + drift)
    assert moved.tolist() == pytest.approx((scale**2 * value).tolist())


def test_full_batches_have_a_cross_run_dispersion_and_no_single_run_dispersion():
    chain = LinearChain(batch=6)
    assert min(dispersion.cross_run_dispersion(linear_runs(chain, 4, seed=0)).tolist()) > 0
    gradients = normal(5, 3)
    assert dispersion.single_run_dispersion(gradients, gradients, 0.1).tolist() == [0.0] * 5
    examples = normal(2, 6, 3)
    assert dispersion.expected_single_run_dispersion(examples, 0.1, batch_size=6).tolist() == [0.0] * 2
    assert dispersion.within_batch_dispersion(examples, 0.1, n=6).tolist() == [0.0] * 2


# --- One run ------------------------------------------------------------------------------------------------


def batches(examples, b):
    return [list(batch) for batch in itertools.combinations(range(examples.shape[1]), b)]


@pytest.mark.parametrize("b", [1, 2, 3, 5, 6])
def test_the_expected_single_run_dispersion_by_enumeration(b):
    examples, lr = normal(2, 6, 3), [0.1, 0.4]
    single = [
        dispersion.single_run_dispersion(examples[:, batch].mean(1), examples.mean(1), lr)
        for batch in batches(examples, b)
    ]
    expected = torch.stack(single).mean(0).tolist()
    found = dispersion.expected_single_run_dispersion(examples, lr, batch_size=b).tolist()
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("b", [2, 3, 5])
def test_the_within_batch_dispersion_is_unbiased(b):
    examples = normal(2, 6, 3, seed=1)
    within = [dispersion.within_batch_dispersion(examples[:, batch], 0.3, n=6) for batch in batches(examples, b)]
    expected = dispersion.expected_single_run_dispersion(examples, 0.3, batch_size=b).tolist()
    assert torch.stack(within).mean(0).tolist() == pytest.approx(expected, abs=1e-12)


def test_single_run_and_uncentred_are_squared_norms():
    batch, full, lr = normal(3, 4), normal(3, 4, seed=1), [0.1, 0.2, 0.3]
    single = [rate**2 * float((g - m).square().sum()) for rate, g, m in zip(lr, batch, full, strict=True)]
    plain = [rate**2 * float(g.square().sum()) for rate, g in zip(lr, batch, strict=True)]
    assert dispersion.single_run_dispersion(batch, full, lr).tolist() == pytest.approx(single, abs=1e-14)
    assert dispersion.uncentred_dispersion(batch, lr).tolist() == pytest.approx(plain, abs=1e-14)


def test_the_four_differ_on_one_problem_and_only_the_first_is_right():
    chain = LinearChain()
    runs = linear_runs(chain, 4000, seed=5)[:, :, 0]
    gradients = -runs.diff(dim=1) / chain.lr
    uncentred = dispersion.uncentred_dispersion(gradients.T, chain.lr) / len(runs)  # mean over runs, a step a row
    # E||g||^2 is the variance here, where the mean gradient is 0: at W_0 = E Z.
    assert uncentred.tolist() == pytest.approx(chain.dispersions, rel=0.15)
    means = runs[:, :-1] - gradients
    full = runs[:, :-1] - means[:, :3].mean(1, keepdim=True)
    single = dispersion.single_run_dispersion(gradients.T, full.T, chain.lr) / len(runs)
    # Three batches of two: the variance of a batch mean around the sample mean, (1/2 - 1/6) lr^2.
    assert single.tolist() == pytest.approx([chain.lr**2 / 3] * 6, rel=0.1)
    assert all(a < b for a, b in zip(single.tolist(), chain.dispersions, strict=True))


@settings(**FAST)
@given(st.permutations(range(6)), st.floats(0.1, 10))
def test_the_order_of_examples_does_not_matter_and_lr_enters_squared(order, factor):
    examples = normal(2, 6, 3)
    for function in (
        lambda x, lr: dispersion.expected_single_run_dispersion(x, lr, batch_size=2),
        lambda x, lr: dispersion.within_batch_dispersion(x, lr, n=60),
    ):
        value = function(examples, 0.1)
        assert function(examples[:, list(order)], factor * 0.1).tolist() == pytest.approx((factor**2 * value).tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype):
    examples = normal(2, 4, 3, dtype=dtype)
    for value in (
        dispersion.cross_run_dispersion(examples),
        dispersion.single_run_dispersion(examples[0], examples[1], 0.1),
        dispersion.expected_single_run_dispersion(examples, 0.1, batch_size=2),
        dispersion.within_batch_dispersion(examples, 0.1, n=9),
        dispersion.uncentred_dispersion(examples[0], 0.1),
    ):
        assert value.dtype == dtype
        assert value.ndim == 1


# --- What is refused ----------------------------------------------------------------------------------------

BROKEN = torch.full((2, 3, 4), float("nan"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dispersion.cross_run_dispersion(normal(1, 3, 4)), "needs at least two runs, got 1"),
        (lambda: dispersion.cross_run_dispersion(normal(2, 1, 4)), "at least one step"),
        (lambda: dispersion.cross_run_dispersion(normal(2, 3)), r"shape \(k, T \+ 1, d\)"),
        (lambda: dispersion.cross_run_dispersion(BROKEN), "not finite: the run diverged"),
        (lambda: dispersion.single_run_dispersion(normal(2, 3), normal(2, 4), 0.1), "the same shape"),
        (lambda: dispersion.uncentred_dispersion(normal(2, 3), [0.1]), "each of the 2 steps, got 1"),
        (lambda: dispersion.uncentred_dispersion(normal(2, 3), 0.0), "every entry of lr must be"),
        (lambda: dispersion.uncentred_dispersion(normal(0, 3), 0.1), "at least one step"),
        (lambda: dispersion.uncentred_dispersion(BROKEN[0], 0.1), "not finite"),
        (
            lambda: dispersion.expected_single_run_dispersion(normal(2, 3, 4), 0.1, batch_size=4),
            "must not exceed the number of examples, got 4 and 3",
        ),
        (lambda: dispersion.expected_single_run_dispersion(normal(2, 1, 4), 0.1, batch_size=1), "examples >= 2"),
        (lambda: dispersion.within_batch_dispersion(normal(2, 3, 4), 0.1, n=2), "cannot come from a sample of"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_module_is_offered_by_its_chapter():
    names = [name for name in vars(dispersion) if name.endswith("_dispersion")]
    assert len(names) == 5
    assert all(getattr(wang_mao, name) is getattr(dispersion, name) for name in names)
