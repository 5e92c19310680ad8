"""Stability factors against enumeration of all batches, and the exact condition against the sufficient one."""

import math
from itertools import combinations, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import stability

anytime = settings(deadline=None)  # a busy machine is not a failure

rates = st.floats(0.01, 3)


def spread_hessians(k: int = 4, h: float = 1.2) -> torch.Tensor:
    """h I +- h (u_0 u_j^T + u_j u_0^T), j = 1..k: positive semi-definite, one noisy plane for each pair."""
    eye = torch.eye(k + 1, dtype=torch.float64)
    swaps = [torch.outer(eye[0], eye[j]) + torch.outer(eye[j], eye[0]) for j in range(1, k + 1)]
    return torch.stack([h * (eye + sign * swap) for swap in swaps for sign in (-1, 1)])


def random_hessians(n: int, d: int, seed: int = 0) -> torch.Tensor:
    factors = torch.randn(n, d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return factors @ factors.mT / d


# --- gradient descent ---------------------------------------------------------------------------------------


def test_gradient_descent_sits_on_the_edge_at_two_over_lr():
    assert stability.edge_of_stability(0.05) == pytest.approx(40)  # slides, EoS table: 40 at lr 0.05
    spectrum = torch.tensor([0.0, 3.0, stability.edge_of_stability(0.05)], dtype=torch.float64)
    assert stability.gd_factor(spectrum, 0.05) == pytest.approx(1)
    assert stability.gd_factor(1.1 * spectrum, 0.05) == pytest.approx(1.2)
    assert stability.gd_factor(-spectrum, 0.05) == pytest.approx(3)


def test_gd_factor_is_the_norm_of_the_step():
    H = random_hessians(1, 6)[0]
    expected = torch.linalg.matrix_norm(torch.eye(6, dtype=torch.float64) - 0.3 * H, 2).item()
    assert stability.gd_factor(torch.linalg.eigvalsh(H), 0.3) == pytest.approx(expected, abs=1e-12)


def test_small_steps_leave_a_saddle_and_keep_a_minimum():
    """L = (x^2 - 1)^2 / 4 + y^2 / 2: two minima at x = +-1 and a saddle between them, curvatures (2, 1) and (-1, 1)."""
    lr, start = 0.01, torch.tensor([[1e-3, 0.3], [-1e-3, 0.3], [0.9, 0.3], [2.0, -2.0]], dtype=torch.float64)
    assert stability.gd_factor(torch.tensor([-1.0, 1.0]), lr) > 1 >= stability.gd_factor(torch.tensor([2.0, 1.0]), lr)
    x, y = start.T
    for step in range(3000):
        if step == 100:  # linear so near the saddle: the distance in x grows by 1 + lr a step
            assert x[0].item() == pytest.approx(1e-3 * (1 + lr) ** 100, rel=1e-3)
        x, y = x - lr * x * (x**2 - 1), y - lr * y
    torch.testing.assert_close(x, torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
    assert y.abs().max() < 1e-9


# --- one dimension ------------------------------------------------------------------------------------------


@anytime
@given(st.lists(st.floats(0, 5), min_size=1, max_size=5), rates, st.data())
def test_sgd_factor_is_the_mean_over_all_batches(curvatures, lr, data):
    n = len(curvatures)
    B = data.draw(st.integers(1, n))
    a, s = stability.sharpness_and_non_uniformity(curvatures)
    for batches, size in [(list(combinations(curvatures, B)), n), (list(product(curvatures, repeat=B)), math.inf)]:
        enumerated = sum((1 - lr * sum(batch) / B) ** 2 for batch in batches) / len(batches)
        assert stability.sgd_factor(a, s, lr, batch_size=B, n=size) == pytest.approx(enumerated, rel=1e-10, abs=1e-10)


def test_the_two_pairs_of_the_slides():
    # factor 0.4869 (stable) for the pair with the halves, 1.7476 (unstable) for the plotted one
    for pair, expected in [(stability.HALVED_PAIR, 0.4869), (stability.PLOTTED_PAIR, 1.7476)]:
        a, s = stability.sharpness_and_non_uniformity([one for _, one in pair])
        assert stability.sgd_factor(a, s, 0.7) == pytest.approx(expected, abs=1e-12)
    # the slides call the second function of the first pair unstable by itself; it contracts
    assert stability.gd_factor(torch.tensor([1.9]), 0.7) == pytest.approx(0.33, abs=1e-6)


def test_paths_stay_with_the_first_pair_and_leave_with_the_second():
    runs = dict(lr=0.7, start=1 - 1e-5, steps=200, paths=100, seed=0)
    stays = stability.valley_paths(stability.HALVED_PAIR, **runs)
    leaves = stability.valley_paths(stability.PLOTTED_PAIR, **runs)
    assert stays.shape == (201, 100)
    assert (stays[-1] - 1).abs().max() < 1e-5
    assert (leaves[-1] - 1).abs().min() > 0.5


def test_valley_paths_follow_the_factor_on_average():
    paths, start = 4000, 1 - 1e-5
    x = stability.valley_paths(stability.HALVED_PAIR, lr=0.7, start=start, steps=3, paths=paths, seed=1)
    ratio = (x[3] - 1) ** 2 / (start - 1) ** 2
    assert abs(ratio.mean() - 0.4869**3) < 4 * ratio.std() / paths**0.5


def test_valleys_have_the_curvatures_they_say():
    near = torch.tensor([0.0, 1e-3, 1.0, 1.001], dtype=torch.float64)
    assert torch.allclose(stability.valley(near, 2.0, 3.8), torch.tensor([0, 1e-6, 0, 1.9e-6], dtype=torch.float64))
    x = torch.tensor([-0.4, 0.1, 0.9, 1.3], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(stability.valley(x, 2.0, 3.8).sum(), x)
    assert torch.allclose(stability.valley_slope(x.detach(), 2.0, 3.8), slope)


def test_lyapunov_exponent_of_the_pairs():
    assert stability.lyapunov_exponent([0.2, 3.8], 0.7) == pytest.approx(0.5 * math.log(0.86 * 1.66), abs=1e-14)
    assert stability.lyapunov_exponent([0.2, 3.8], 0.7) > 0  # escapes on almost every path
    assert stability.lyapunov_exponent([0.0, 1.0], 1.0) == -math.inf


@anytime
@given(st.lists(st.floats(0, 5), min_size=1, max_size=6), rates)
def test_paths_grow_no_faster_than_second_moments(curvatures, lr):
    a, s = stability.sharpness_and_non_uniformity(curvatures)
    factor = stability.sgd_factor(a, s, lr)
    assert math.exp(2 * stability.lyapunov_exponent(curvatures, lr)) <= factor * (1 + 1e-9) + 1e-12


# --- the selection diagram ----------------------------------------------------------------------------------


@anytime
@given(st.floats(0, 1), rates, st.integers(1, 9))
def test_on_the_boundary_the_factor_is_one(share, lr, B):
    a = share * stability.edge_of_stability(lr)
    s = stability.stable_non_uniformity(a, lr, batch_size=B, n=10)
    assert stability.sgd_factor(a, s, lr, batch_size=B, n=10) == pytest.approx(1, abs=1e-9)
    region = stability.selection_region(lr, batch_size=B, n=10)
    assert a <= region.sharpness
    assert s <= region.non_uniformity * (1 + 1e-9)


@anytime
@given(rates, st.integers(1, 9))
def test_the_batch_size_moves_the_limit_of_the_non_uniformity_and_not_that_of_the_sharpness(lr, B):
    edge, even = stability.edge_of_stability(lr), {"batch_size": B, "n": 10}
    assert stability.sgd_factor(0.99 * edge, 0.0, lr, **even) < 1 < stability.sgd_factor(1.01 * edge, 0.0, lr, **even)
    a, s = edge / 2, 1.01 * stability.stable_non_uniformity(edge / 2, lr, **even)
    assert stability.sgd_factor(a, s, lr, batch_size=B + 1, n=10) < 1 < stability.sgd_factor(a, s, lr, **even)


def test_selection_region_by_hand():
    region = stability.selection_region(0.1, batch_size=4, n=10)
    assert region.sharpness == pytest.approx(20)
    assert region.non_uniformity == pytest.approx(10 * math.sqrt(4 * 9 / 6))  # (1/lr) sqrt(B (n-1) / (n-B))
    assert stability.stable_non_uniformity(10, 0.1, batch_size=4, n=10) == pytest.approx(region.non_uniformity)
    assert stability.selection_region(0.1, batch_size=4).non_uniformity == pytest.approx(20)  # sqrt(B) / lr
    assert stability.selection_region(0.1, batch_size=10, n=10).non_uniformity == math.inf
    assert stability.stable_non_uniformity(10, 0.1, batch_size=10, n=10) == math.inf


# --- d dimensions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("B", [1, 2, 4])
def test_operator_is_the_mean_over_all_batches(B, replacement):
    H, lr = random_hessians(4, 3), 0.4
    M = random_hessians(1, 3, seed=1)[0]
    batches = list(product(range(4), repeat=B)) if replacement else list(combinations(range(4), B))
    steps = [torch.eye(3, dtype=torch.float64) - lr * H[list(batch)].mean(0) for batch in batches]
    expected = torch.stack([step @ M @ step for step in steps]).mean(0)
    operator = stability.second_moment_operator(H, lr, batch_size=B, replacement=replacement)
    assert torch.allclose((operator @ M.reshape(-1)).reshape(3, 3), expected, atol=1e-10, rtol=0)
    # sufficient_factor bounds what one step can do to a squared length
    one_step = torch.stack([step @ step for step in steps]).mean(0)
    sufficient = stability.sufficient_factor(H, lr, batch_size=B, replacement=replacement)
    assert sufficient == pytest.approx(torch.linalg.eigvalsh(one_step)[-1].item(), abs=1e-10)
    radius = stability.second_moment_radius(H, lr, batch_size=B, replacement=replacement)
    assert radius == pytest.approx(torch.linalg.eigvals(operator).abs().max().item(), abs=1e-10)


@pytest.mark.parametrize("seed", range(30))
def test_radius_is_at_most_the_sufficient_factor_and_at_least_that_of_the_mean(seed):
    H, lr = random_hessians(5, 4, seed), 0.05 + 0.1 * seed
    radius = stability.second_moment_radius(H, lr, batch_size=2)
    assert radius <= stability.sufficient_factor(H, lr, batch_size=2) + 1e-10
    assert radius >= stability.gd_factor(torch.linalg.eigvalsh(H.mean(0)), lr) ** 2 - 1e-10


def test_one_dimension_is_the_scalar_factor():
    a = torch.tensor([0.1, 1.9, 0.7], dtype=torch.float64)
    expected = stability.sgd_factor(*stability.sharpness_and_non_uniformity(a), 0.7, batch_size=2, n=3)
    H = a.reshape(3, 1, 1)
    assert stability.second_moment_radius(H, 0.7, batch_size=2) == pytest.approx(expected, abs=1e-12)
    assert stability.sufficient_factor(H, 0.7, batch_size=2) == pytest.approx(expected, abs=1e-12)


def test_the_matrix_condition_of_the_slides_is_not_necessary():
    # by hand: (I - H)^2 = 0.04 I, Sigma = 1.44 (u_0 u_0^T + (1/4) sum_j u_j u_j^T); the operator swaps the
    # two blocks
    H = spread_hessians()
    assert torch.linalg.eigvalsh(H).min() >= -1e-12
    assert stability.sufficient_factor(H, 1.0) == pytest.approx(1.48, abs=1e-12)
    assert stability.second_moment_radius(H, 1.0) == pytest.approx(0.04 + 1.44 / math.sqrt(4), abs=1e-12)
    # nor is the bound on s that the slides draw from it: here s = 1.2 > 1 = (1/lr) sqrt(B (n-1) / (n-B))
    Sigma = (H @ H).mean(0) - H.mean(0) @ H.mean(0)
    assert torch.linalg.eigvalsh(Sigma)[-1].sqrt() > stability.selection_region(1.0, batch_size=1, n=8).non_uniformity


def test_second_moments_shrink_at_the_rate_of_the_radius():
    H = spread_hessians()
    operator = stability.second_moment_operator(H, 1.0)
    M = torch.eye(5, dtype=torch.float64).reshape(-1)
    for _ in range(400):
        M = operator @ M
    after = operator @ M
    assert (after.norm() / M.norm()).item() == pytest.approx(0.76, abs=1e-9)


# --- bad input ----------------------------------------------------------------------------------------------


def test_refusals():
    H = random_hessians(3, 2)
    with pytest.raises(ValueError, match="lr must be"):
        stability.edge_of_stability(0.0)
    with pytest.raises(ValueError, match="non_uniformity must be"):
        stability.sgd_factor(1.0, -0.1, 0.1)
    with pytest.raises(ValueError, match="cannot be drawn without replacement from n = 4"):
        stability.sgd_factor(1.0, 0.1, 0.1, batch_size=5, n=4)
    with pytest.raises(ValueError, match="unstable whatever the noise"):
        stability.stable_non_uniformity(21.0, 0.1, batch_size=1)
    with pytest.raises(ValueError, match="one symmetric Hessian for each example"):
        stability.second_moment_radius(H[0], 0.1)
    with pytest.raises(ValueError, match="one symmetric Hessian for each example"):
        stability.sufficient_factor(H + torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=torch.float64), 0.1)
    with pytest.raises(ValueError, match="keep d at 48 or below"):
        stability.second_moment_operator(torch.eye(49).expand(2, 49, 49), 0.1)


def test_sharpness_of_an_interpolating_minimum_is_that_of_its_hessians():
    for n, d in ((6, 9), (9, 4)):
        J = torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(d))
        hessians = torch.einsum("ia,ib->iab", J, J)
        H = hessians.mean(0)
        Sigma = (hessians @ hessians).mean(0) - H @ H
        a, s = stability.interpolating_sharpness(J)
        assert a == pytest.approx(torch.linalg.eigvalsh(H)[-1].item(), rel=1e-10)
        assert s == pytest.approx(torch.linalg.eigvalsh(Sigma)[-1].sqrt().item(), rel=1e-10)


def test_identical_examples_are_uniform():
    a, s = stability.interpolating_sharpness(torch.tensor([[3.0, 4.0]] * 5, dtype=torch.float64))
    assert (a, s) == pytest.approx((25, 0), abs=1e-6)


def test_a_sample_of_ten_and_a_half_examples_is_refused():
    with pytest.raises(ValueError, match=r"n must be a whole number of at least 1, got 10\.5"):
        stability.noise_share(4, 10.5)


@pytest.mark.parametrize("seed", range(10))
def test_gradient_descent_bounds_the_frobenius_norm_with_the_number_of_examples(seed):
    """Where GD is stable ||H||_F <= sqrt(rank) lambda_1 <= 2 sqrt(n) / lr, met by equal eigenvalues."""
    n, d, lr = 5, 9, 0.3
    J = torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    for jacobian in (J, torch.linalg.qr(J.T)[0].T):
        H = jacobian.T @ jacobian / n
        H = H * stability.edge_of_stability(lr) / torch.linalg.eigvalsh(H)[-1]
        assert stability.gd_factor(torch.linalg.eigvalsh(H), lr) == pytest.approx(1)
        assert H.norm().item() <= 2 * n**0.5 / lr + 1e-9
    assert H.norm().item() == pytest.approx(2 * n**0.5 / lr)


def bowl(H, C):
    """Examples of one Hessian whose gradients at the minimum have covariance C: plus and minus of each axis of C."""
    values, vectors = torch.linalg.eigh(C)
    axes = vectors * (values * len(C)).sqrt()
    gradients = torch.cat([axes.T, -axes.T])
    return H.expand(len(gradients), *H.shape), gradients


@pytest.mark.parametrize(("lr", "B"), [(0.01, 1), (0.15, 3), (0.19, 1)])
def test_a_bowl_with_even_examples_has_the_covariance_of_the_closed_form(lr, B):
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    h = torch.tensor([10.0, 3.0, 0.5], dtype=torch.float64)
    C = torch.tensor([[4.0, 1.0, 0.0], [1.0, 2.0, 0.3], [0.0, 0.3, 1.0]], dtype=torch.float64)
    examples = bowl(turn @ torch.diag(h) @ turn.T, turn @ C @ turn.T)
    sums, products_ = h[:, None] + h, h[:, None] * h
    for covariance, exact in (
        (stability.sgd_covariance, lr / B * C / (sums - lr * products_)),
        (stability.diffusion_covariance, lr / B * C / sums),
    ):
        found = turn.T @ covariance(*examples, lr, batch_size=B, replacement=True) @ turn
        torch.testing.assert_close(found, exact)


def test_in_one_dimension_uneven_examples_widen_what_stays():
    a, g = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([1.0, 1.0, -2.0])
    examples = a.double()[:, None, None], g.double()[:, None]
    mean, s = stability.sharpness_and_non_uniformity(a)
    factor = stability.sgd_factor(mean, s, 0.1, batch_size=2, n=3)
    found = stability.sgd_covariance(*examples, 0.1, batch_size=2).item()
    assert math.isclose(found, 0.1**2 * 2 / 4 / (1 - factor))
    slow = stability.diffusion_covariance(*examples, 0.1, batch_size=2).item()
    assert math.isclose(slow, 0.1 / 4 * 2 / (2 * mean - 0.1 / 4 * s**2))


def test_the_covariance_is_that_of_a_long_run():
    rng = torch.Generator().manual_seed(0)
    J, g = (torch.randn(6, 2, generator=rng, dtype=torch.float64) for _ in range(2))
    g, H_i = g - g.mean(0), J[:, :, None] * J[:, None, :]
    exact = stability.sgd_covariance(H_i, g, 0.2, batch_size=2, replacement=True)
    x = torch.zeros(20_000, 2, dtype=torch.float64)
    for _ in range(300):
        drawn = torch.randint(6, (len(x), 2), generator=rng)
        x = x - 0.2 * (torch.einsum("pbij,pj->pi", H_i[drawn], x) / 2 + g[drawn].mean(1))
    torch.testing.assert_close(x.T @ x / len(x), exact, rtol=0.06, atol=0.01)


def test_only_the_diffusion_knows_rate_and_batch_by_their_ratio():
    examples = bowl(torch.diag(torch.tensor([10.0, 1.0], dtype=torch.float64)), torch.eye(2, dtype=torch.float64))
    one, two = (
        [f(*examples, lr, batch_size=B, replacement=True) for lr, B in ((0.02, 1), (0.16, 8))]
        for f in (stability.diffusion_covariance, stability.sgd_covariance)
    )
    torch.testing.assert_close(*one)
    assert two[1][0, 0] > 4 * two[0][0, 0]


def test_what_does_not_come_to_rest_has_no_covariance():
    examples = bowl(torch.eye(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"SGD does not come to rest at lr = 2\.0"):
        stability.sgd_covariance(*examples, 2.0)
    stability.diffusion_covariance(*examples, 2.0)  # it has no edge
    uneven = torch.tensor([0.1, 3.9], dtype=torch.float64)[:, None, None], examples[1][:2, :1] * 0
    with pytest.raises(ValueError, match="diffusion does not come to rest"):
        stability.diffusion_covariance(*uneven, 1.2, replacement=True)
    with pytest.raises(ValueError, match="mean zero"):
        stability.sgd_covariance(examples[0], examples[1] + 1, 0.1)
    with pytest.raises(ValueError, match=r"gradients must be of shape \(4, 2\)"):
        stability.sgd_covariance(examples[0], examples[1][:3], 0.1)


@pytest.mark.parametrize("covariance", [stability.sgd_covariance, stability.diffusion_covariance])
def test_single_precision_has_a_covariance_too(covariance):
    rng = torch.Generator().manual_seed(0)
    J, g = (torch.randn(50, 3, generator=rng, dtype=torch.float64) for _ in range(2))
    H_i, g = J[:, :, None] * J[:, None, :], g - g.mean(0)
    exact = covariance(H_i, g, 0.1, batch_size=5)
    single = g.float() - g.float().mean(0)  # zero as far as single precision can say it
    found = covariance(H_i.float(), single, 0.1, batch_size=5)
    torch.testing.assert_close(found, exact.float(), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="mean zero"):
        covariance(H_i.float(), single + 1e-4, 0.1, batch_size=5)


@pytest.mark.parametrize("covariance", [stability.sgd_covariance, stability.diffusion_covariance])
def test_the_sentence_of_a_refusal_names_what_helps(covariance):
    H_i, g = bowl(torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64)), torch.eye(2, dtype=torch.float64))
    with pytest.raises(ValueError, match="gradients must be finite"):
        covariance(H_i, g * torch.nan, 0.1)
    flat = torch.diag(torch.tensor([2.0, 0.0], dtype=torch.float64)).expand(4, 2, 2)
    for lr in (0.1, 1e-3):  # no learning rate helps
        with pytest.raises(ValueError, match="project on the span of H"):
            covariance(flat, g, lr)
    with pytest.raises(ValueError, match="replacement=True"):
        covariance(H_i, g, 0.1, batch_size=5)
    covariance(H_i, g, 0.1, batch_size=5, replacement=True)
