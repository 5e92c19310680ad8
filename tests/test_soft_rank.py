"""Soft rank and TIC: ridge regression exactly, the orderings over random matrices, networks against dense forms."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers import curvature, models, soft_rank
from helpers.data import Split
from helpers.losses import ClippedCrossEntropy, HalfSquaredError

anytime = settings(deadline=None)  # a busy machine is not a failure

CROSS_ENTROPY = ClippedCrossEntropy(1e6)  # a clip that no example reaches


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def psd(d: int, rank: int | None = None, seed: int = 0) -> torch.Tensor:
    A = normal(d, rank or d, seed=seed)
    return A @ A.T / d


def network(*sizes: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = [m for p, q in pairwise(sizes) for m in (nn.Linear(p, q), nn.Tanh())]
    return nn.Sequential(*layers[:-1]).double().eval()


def labelled(n: int, d: int, classes: int, seed: int = 0) -> Split:
    g = torch.Generator().manual_seed(seed)
    return Split(normal(n, d, seed=seed), torch.randint(classes, (n,), generator=g), classes, "noise")


# --- the measures --------------------------------------------------------------------------------------------------


def test_soft_rank_by_hand():
    eigenvalues = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)
    assert soft_rank.soft_rank(eigenvalues, 1.0) == pytest.approx(0.5 + 0.75, abs=1e-14)


@pytest.mark.parametrize("lam", [1e-6, 0.1, 30.0])
def test_soft_rank_is_the_trace_of_its_definition(lam):
    F = psd(7, rank=4)
    expected = torch.trace(F @ torch.linalg.inv(F + lam * torch.eye(7, dtype=torch.float64))).item()
    assert soft_rank.soft_rank(torch.linalg.eigvalsh(F), lam) == pytest.approx(expected, abs=1e-8)


@anytime
@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=9), st.floats(1e-3, 1e3), st.floats(1.01, 10))
def test_soft_rank_counts(eigenvalues, lam, factor):
    e = torch.tensor(eigenvalues, dtype=torch.float64)
    rank = soft_rank.soft_rank(e, lam)
    assert 0 <= rank <= (e > 0).sum()
    assert soft_rank.soft_rank(e, factor * lam) <= rank
    assert soft_rank.soft_rank(factor * e, factor * lam) == pytest.approx(rank, rel=1e-12)


def test_without_penalty_tic_is_takeuchis():
    F, C = psd(5), psd(5, seed=1)
    assert soft_rank.tic(F, C) == pytest.approx(torch.trace(torch.linalg.inv(F) @ C).item(), rel=1e-9)


@anytime
@given(st.floats(1e-3, 1e2))
def test_information_identity_makes_tic_the_soft_rank(lam):
    F = psd(6, rank=4)
    assert soft_rank.tic(F, F, lam) == pytest.approx(soft_rank.soft_rank(torch.linalg.eigvalsh(F), lam), rel=1e-9)


def test_a_calibrated_model_satisfies_the_information_identity():
    # labels drawn from the model itself: averaging C_g over all labels with their probabilities gives F
    model, split = network(3, 4, 3), labelled(5, 3, 3)
    p = torch.softmax(model(split.inputs), 1).detach()
    expected = torch.zeros(models.weights(model).numel(), models.weights(model).numel(), dtype=torch.float64)
    for c in range(3):
        relabelled = Split(split.inputs, torch.full((5,), c), 3, "noise")
        g = curvature.per_example_gradients(model, CROSS_ENTROPY, relabelled)
        expected += torch.einsum("i,ia,ib->ab", p[:, c], g, g) / 5
    assert torch.allclose(curvature.gauss_newton(model, CROSS_ENTROPY, split), expected, atol=1e-12)


def test_predictions_carry_the_n():
    F, C = psd(5), psd(5, seed=1)
    gap = soft_rank.predict_gap(F, C, 0.3, n=50)
    assert gap.soft_rank == pytest.approx(soft_rank.soft_rank(torch.linalg.eigvalsh(F), 0.3) / 50)
    assert gap.tic == pytest.approx(soft_rank.tic(F, C, 0.3) / 50)
    assert gap.diagonal == pytest.approx(soft_rank.diagonal_soft_rank(F, 0.3) / 50)
    assert gap.trace_ratio == pytest.approx((C.trace() / F.trace()).item() / 50)


# --- where the predictions are exact ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lam", [0.01, 0.5, 4.0])
def test_optimism_of_ridge_regression_is_the_soft_rank(lam):
    # fixed design, y = X w + s noise, w_hat = argmin (1/2n)|y - Xw|^2 + (lam/2)|w|^2 = a linear smoother S y.
    # E (1/2n)|y' - S y|^2 - E (1/2n)|y - S y|^2 = (s^2/n) Tr S, from the moments of y and a fresh y'.
    n, d, s = 20, 6, 0.7
    X, w = normal(n, d), normal(d, seed=1)
    S = X @ torch.linalg.inv(X.T @ X + n * lam * torch.eye(d, dtype=torch.float64)) @ X.T
    eye, bias = torch.eye(n, dtype=torch.float64), (S - torch.eye(n, dtype=torch.float64)) @ (X @ w)
    fresh = (bias @ bias + s**2 * n + s**2 * torch.sum(S * S)) / (2 * n)
    fitted = (bias @ bias + s**2 * torch.sum((eye - S) ** 2)) / (2 * n)
    rank = soft_rank.soft_rank(torch.linalg.eigvalsh(X.T @ X / n), lam)
    assert (fresh - fitted).item() == pytest.approx(s**2 / n * rank, abs=1e-12)


@pytest.mark.parametrize("s", [1.0, 2.0])
def test_tic_and_not_the_rank_is_right_for_a_wrong_noise_level(s):
    # at noise s and d/n = 0.04, gap s^2 d/n: TIC 0.04 and 0.16, soft rank 0.04 and 0.04
    n, d = 200, 8
    X = normal(n, d)
    F = X.T @ X / n
    gap = soft_rank.predict_gap(F, s**2 * F, 1e-12, n=n)
    smoother = X @ torch.linalg.inv(X.T @ X) @ X.T
    exact = s**2 / n * smoother.trace().item()
    assert gap.tic == pytest.approx(exact, abs=1e-10)
    assert gap.tic == pytest.approx(0.04 * s**2, abs=1e-10)
    assert gap.soft_rank == pytest.approx(0.04, abs=1e-10)
    assert gap.trace_ratio == pytest.approx(s**2 / n, abs=1e-12)  # lacks the rank factor d


# --- cheaper than exact ---------------------------------------------------------------------------------------------


@anytime
@given(st.integers(0, 10_000), st.floats(1e-4, 1e2), st.sampled_from([(1, 1, 1, 1, 1, 1), (2, 4), (3, 1, 2), (6,)]))
def test_dropping_correlations_never_lowers_the_rank(seed, lam, sizes):
    F = psd(6, rank=1 + seed % 6, seed=seed)
    exact = soft_rank.soft_rank(torch.linalg.eigvalsh(F), lam)
    block = soft_rank.block_soft_rank(F, lam, sizes)
    diagonal = soft_rank.diagonal_soft_rank(F, lam)
    assert diagonal >= block - 1e-8
    assert block >= exact - 1e-8
    if sizes == (6,):
        assert block == pytest.approx(exact, abs=1e-9)
    if len(sizes) == 6:
        assert block == pytest.approx(diagonal, abs=1e-9)


def test_blocks_are_cut_where_the_sizes_say():
    F = torch.block_diag(psd(2), psd(3, seed=1), psd(1, seed=2))
    exact = soft_rank.soft_rank(torch.linalg.eigvalsh(F), 0.3)
    assert soft_rank.block_soft_rank(F, 0.3, [2, 3, 1]) == pytest.approx(exact, abs=1e-12)
    assert soft_rank.block_soft_rank(F, 0.3, [3, 3]) == pytest.approx(
        sum(soft_rank.soft_rank(torch.linalg.eigvalsh(F[i : i + 3, i : i + 3]), 0.3) for i in (0, 3)), abs=1e-12
    )


def test_layer_sizes_follow_the_weight_vector():
    model = network(3, 4, 2)
    model[2].bias.requires_grad_(False)
    assert soft_rank.layer_sizes(model) == [16, 8]
    assert sum(soft_rank.layer_sizes(model)) == len(models.weights(model))


def kronecker_soft_rank(factors, lam):
    """Soft rank of the block-diagonal matrix with one Kronecker product A x B for each layer, by its definition."""
    return soft_rank.soft_rank(torch.linalg.eigvalsh(torch.block_diag(*[torch.kron(A, B) for A, B in factors])), lam)


def test_factors_are_exact_for_linear_regression():
    torch.manual_seed(0)
    model = nn.Linear(4, 1).double().eval()
    split = Split(normal(300, 4), normal(300, seed=1), 0, "noise")  # two batches of unequal size
    [(A, B)] = soft_rank.kronecker_factors(model, HalfSquaredError(), split)
    F = curvature.gauss_newton(model, HalfSquaredError(), split)
    assert B.item() == pytest.approx(1)
    assert torch.allclose(torch.kron(B, A), F, atol=1e-12)
    assert kronecker_soft_rank([(A, B)], 0.1) == pytest.approx(
        soft_rank.soft_rank(torch.linalg.eigvalsh(F), 0.1), abs=1e-10
    )


def test_factors_of_one_example_are_exact():
    # one example: the mean of products is the product of means, so each block is the block of F
    model, split = network(3, 4, 3), labelled(1, 3, 3)
    F = curvature.gauss_newton(model, CROSS_ENTROPY, split)
    factors = soft_rank.kronecker_factors(model, CROSS_ENTROPY, split)
    ends, lam = [0, 16, 31], 0.05
    for (A, B), (start, end) in zip(factors, pairwise(ends), strict=True):
        block = torch.linalg.eigvalsh(F[start:end, start:end])
        assert torch.allclose(torch.linalg.eigvalsh(torch.kron(A, B)), block, atol=1e-12)
    expected = soft_rank.block_soft_rank(F, lam, soft_rank.layer_sizes(model))
    assert kronecker_soft_rank(factors, lam) == pytest.approx(expected, abs=1e-9)


def test_factors_are_curvlinops():
    from curvlinops import KFACLinearOperator

    model, split = network(3, 4, 3), labelled(9, 3, 3)
    operator = KFACLinearOperator(
        model,
        nn.CrossEntropyLoss(),
        list(model.parameters()),
        [(split.inputs, split.targets)],
        fisher_type="type-2",
        separate_weight_and_bias=False,
        check_deterministic=False,
    )
    theirs = operator @ torch.eye(len(models.weights(model)), dtype=torch.float64)
    ours = torch.block_diag(*[torch.kron(B, A) for A, B in soft_rank.kronecker_factors(model, CROSS_ENTROPY, split)])
    assert torch.allclose(torch.linalg.eigvalsh(theirs), torch.linalg.eigvalsh(ours), atol=1e-10)


def test_factors_leave_no_hook_behind():
    model, split = network(3, 4, 3), labelled(5, 3, 3)
    soft_rank.kronecker_factors(model, CROSS_ENTROPY, split)
    assert not any(module._forward_hooks for module in model.modules())


# --- bad input -----------------------------------------------------------------------------------------------------


def test_indefinite_matrices_are_refused():
    with pytest.raises(ValueError, match=r"eigenvalue -0\.5: .* has a pole at e = -lam; use the Gauss-Newton"):
        soft_rank.soft_rank(torch.tensor([-0.5, 1.0], dtype=torch.float64), 1.0)
    for stray in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="eigenvalues must be finite"):
            soft_rank.soft_rank(torch.tensor([stray, 1.0], dtype=torch.float64), 1.0)
    assert soft_rank.soft_rank(torch.tensor([1, 2]), 1.0) == pytest.approx(1 / 2 + 2 / 3)
    with pytest.raises(ValueError, match="indefinite"):
        soft_rank.diagonal_soft_rank(-torch.eye(2), 1.0)
    tiny = torch.tensor([-1e-16, 1.0], dtype=torch.float64)
    assert soft_rank.soft_rank(tiny, 1e-6) == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match="below the rounding of the eigenvalues"):
        soft_rank.soft_rank(tiny, 1e-16)


def test_refusals():
    F = psd(3, rank=1)
    with pytest.raises(ValueError, match="lam must be"):
        soft_rank.soft_rank(torch.ones(2), 0.0)
    with pytest.raises(ValueError, match="as one vector"):
        soft_rank.soft_rank(F, 1.0)
    with pytest.raises(ValueError, match="lam must be"):
        soft_rank.tic(F, F, -1.0)
    with pytest.raises(ValueError, match="not positive definite at lam"):
        soft_rank.tic(F - 0.1 * torch.eye(3), F, 0.0)
    with pytest.raises(ValueError, match="square and alike"):
        soft_rank.tic(F, psd(2), 1.0)
    with pytest.raises(ValueError, match="trace of F must be"):
        soft_rank.trace_ratio(torch.zeros(2, 2), torch.ones(2, 2))
    with pytest.raises(ValueError, match="n must be"):
        soft_rank.predict_gap(F, F, 1.0, n=0)
    with pytest.raises(ValueError, match="blocks add up to 2 weights, F has 3"):
        soft_rank.block_soft_rank(F, 1.0, [1, 1])
    convolution = nn.Sequential(nn.Conv1d(1, 1, 1), nn.Flatten(), nn.Linear(3, 2)).eval()
    with pytest.raises(ValueError, match=r"all in nn\.Linear layers"):
        soft_rank.kronecker_factors(convolution, CROSS_ENTROPY, labelled(2, 3, 2))
    shared = nn.Linear(3, 3).double()
    with pytest.raises(ValueError, match="run once an example"):
        soft_rank.kronecker_factors(nn.Sequential(shared, shared).eval(), CROSS_ENTROPY, labelled(2, 3, 3))


# --- what the summary of the source says without a proof; derived here --------------------------------------


@anytime
@given(st.floats(0.01, 100), st.floats(1e-3, 10), st.integers(0, 50))
def test_errors_that_know_nothing_of_the_curvature_make_tic_a_product(factor, lam, seed):
    """If the squared errors are uncorrelated with the outer products of gradients, C = c F with c = Tr C / Tr F."""
    F = psd(5, seed=seed)
    product = soft_rank.trace_ratio(F, factor * F) * soft_rank.soft_rank(torch.linalg.eigvalsh(F), lam)
    assert soft_rank.tic(F, factor * F, lam) == pytest.approx(product, rel=1e-9)


def test_errors_that_follow_the_curvature_make_the_product_too_small_or_too_large():
    """C = F E F has its noise along the sharp directions, C = F^-1 along the flat ones."""
    F = torch.diag(torch.tensor([10.0, 1.0, 0.1], dtype=torch.float64))
    for C, sign in ((F @ F, 1), (torch.linalg.inv(F), -1)):
        product = soft_rank.trace_ratio(F, C) * soft_rank.soft_rank(F.diagonal(), 0.5)
        assert sign * (product - soft_rank.tic(F, C, 0.5)) > 0


@anytime
@given(st.integers(0, 50))
def test_a_matrix_in_place_of_lambda_is_the_soft_rank_in_other_coordinates(seed):
    """Tr F (F + Lambda)^-1 is rank_1 of Lambda^-1/2 F Lambda^-1/2, and no rescaling of weights changes it."""
    F, Lam, A = psd(4, seed=seed), psd(4, seed=seed + 100) + torch.eye(4), torch.diag(normal(4, seed=seed).exp())
    by_definition = torch.linalg.solve((F + Lam).T, F.T).trace().item()
    values, vectors = torch.linalg.eigh(Lam)
    root = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    assert soft_rank.soft_rank(torch.linalg.eigvalsh(root @ F @ root), 1.0) == pytest.approx(by_definition, rel=1e-9)
    moved = torch.linalg.solve((A @ (F + Lam) @ A).T, (A @ F @ A).T).trace().item()
    assert moved == pytest.approx(by_definition, rel=1e-9)


@anytime
@given(st.integers(0, 50), st.floats(1e-3, 10))
def test_every_concave_trace_penalty_is_raised_by_dropping_correlations(seed, lam):
    """Peierls' inequality for log(1 + e / lam), as for e / (e + lam): the diagonal over-states both."""
    F = psd(5, seed=seed)
    exact = torch.log1p(torch.linalg.eigvalsh(F) / lam).sum()
    assert torch.log1p(F.diagonal() / lam).sum() >= exact - 1e-9
    assert soft_rank.diagonal_soft_rank(F, lam) >= soft_rank.soft_rank(torch.linalg.eigvalsh(F), lam) - 1e-9


# --- The contract of curvature ----------------------------------------------------------------------------------------


def test_kronecker_factors_ask_what_curvature_asks():
    split = labelled(8, 3, 2)
    odd = Split(split.inputs, torch.where(split.targets > 0, split.targets, -100), 2, "odd")
    plain = nn.CrossEntropyLoss(reduction="none")

    def made(*between):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), *between, nn.Linear(4, 2)).double()

    lost = made(nn.ReLU()).eval()
    with torch.no_grad():
        lost[0].weight[0, 0] = torch.nan
    for model, loss, examples, message in (
        (made(nn.Dropout()).train(), CROSS_ENTROPY, split, "the model is in training mode"),
        (made(nn.BatchNorm1d(4, affine=False)).train(), CROSS_ENTROPY, split, "the model is in training mode"),
        (lost, CROSS_ENTROPY, split, "the model's weights are not finite"),
        (made(nn.ReLU()).eval(), CROSS_ENTROPY, odd, "targets hold the class -100"),
        (made(nn.ReLU()).eval(), plain, odd, "targets hold -100, which the loss leaves out"),
        (made(nn.ReLU()).eval(), nn.CrossEntropyLoss(), split, "one value an example"),
    ):
        with pytest.raises(ValueError, match=message):
            soft_rank.kronecker_factors(model, loss, examples)
    expected = soft_rank.kronecker_factors(made(nn.ReLU()).eval(), CROSS_ENTROPY, split)
    with torch.no_grad():
        found = soft_rank.kronecker_factors(made(nn.ReLU()).eval(), CROSS_ENTROPY, (split.inputs, split.targets))
    for pair, same in zip(found, expected, strict=True):
        assert all(map(torch.equal, pair, same))
