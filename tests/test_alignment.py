"""Alignment against dense matrices and the online Gaussian model; escape against its exact mean and its theorem."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers import alignment, curvature, flatness, stability
from helpers.data import Split
from helpers.losses import HalfSquaredError

anytime = settings(deadline=None)  # a busy machine is not a failure


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def dense(J: torch.Tensor, e: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Sigma, G and the loss, from the definitions."""
    gradients = e[:, None] * J
    centred = gradients - gradients.mean(0)
    return centred.T @ centred / len(e), J.T @ J / len(e), e.square().mean().item() / 2


# --- alignment ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d"), [(6, 8), (8, 6), (2, 30)])
def test_kernel_form_is_the_dense_one(n, d):
    J, e = normal(n, d), normal(n, seed=1)
    Sigma, G, loss = dense(J, e)
    found = alignment.regression_alignment(J, e)
    expected = alignment.alignment(Sigma, G, loss)
    assert (found.alpha, found.beta, found.mu) == pytest.approx((expected.alpha, expected.beta, expected.mu), abs=1e-12)
    assert expected.alpha == pytest.approx((torch.trace(Sigma @ G) / (G.norm() * Sigma.norm())).item(), abs=1e-12)
    assert expected.beta == pytest.approx((Sigma.norm() / (2 * loss * G.norm())).item(), abs=1e-12)
    assert expected.mu == pytest.approx((torch.trace(Sigma @ G) / (2 * loss * G.norm() ** 2)).item(), abs=1e-12)


def test_decoupled_noise_has_alignment_one():
    G = dense(normal(9, 4), normal(9))[1]
    found = alignment.alignment(2 * 0.3 * G, G, 0.3)
    assert (found.alpha, found.beta, found.mu) == pytest.approx((1, 1, 1), abs=1e-12)


@anytime
@given(st.floats(-3, 3).filter(lambda c: abs(c) > 1e-3), st.floats(0.01, 100))
def test_mu_does_not_depend_on_the_scale_of_residuals_or_features(c, scale):
    J, e = normal(5, 3), normal(5, seed=2)
    expected = alignment.regression_alignment(J, e).mu
    assert alignment.regression_alignment(scale * J, c * e).mu == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_online_linear_regression_has_alignment_above_one(seed):
    # x ~ N(0, S), e = x . delta: Sigma = 2 L S + S delta delta^T S, so mu = 1 + delta^T S^3 delta / (2 L
    # ||S||^2)
    A, delta = normal(4, 4, seed=seed), normal(4, seed=seed + 100)
    S = A @ A.T
    loss = 0.5 * (delta @ S @ delta).item()
    Sigma = 2 * loss * S + torch.outer(S @ delta, S @ delta)
    expected = 1 + (delta @ S @ S @ S @ delta / (2 * loss * S.norm() ** 2)).item()
    assert alignment.alignment(Sigma, S, loss).mu == pytest.approx(expected, rel=1e-10)
    assert expected >= 1  # Proposition 1


@pytest.mark.parametrize("seed", range(5))
def test_deep_linear_networks_have_alignment_above_one(seed):
    # f(x) = v(w) . x with v of depth 3: grad f = D^T x with D = dv/dw, so G = D^T S D and, for x ~ N(0, S) and
    # residuals x . delta, Sigma = D^T (2 L S + S delta delta^T S) D: Proposition 1 at any depth
    layers = [normal(*shape, seed=10 * seed + i) for i, shape in enumerate([(5, 4), (3, 5), (1, 3)])]
    slopes = torch.func.jacrev(lambda a, b, c: (c @ b @ a)[0], argnums=(0, 1, 2))(*layers)
    D = torch.cat([slope.flatten(1) for slope in slopes], dim=1)
    A, delta = normal(4, 4, seed=seed + 50), normal(4, seed=seed + 100)
    S = A @ A.T
    loss = 0.5 * (delta @ S @ delta).item()
    Sigma = D.T @ (2 * loss * S + torch.outer(S @ delta, S @ delta)) @ D
    G = D.T @ S @ D
    excess = torch.linalg.norm(D @ D.T @ S @ delta @ A).item() ** 2  # |A^T D D^T S delta|^2
    found = alignment.alignment(Sigma, G, loss).mu
    assert found == pytest.approx(1 + excess / (2 * loss * G.norm().item() ** 2), rel=1e-9)
    assert found >= 1


@pytest.mark.parametrize("d", [2, 3, 4, 8, 12])
def test_random_features_have_alignment_of_at_least_order_one_over_d(d):
    # Proposition 2: ReLU features of directions on the sphere of radius sqrt(d), inputs on the unit sphere; the
    # smallest mu over all weights, for targets within reach of the features
    rows, inputs = normal(40, d), normal(800, d, seed=1)
    rows, inputs = d**0.5 * rows / rows.norm(dim=1, keepdim=True), inputs / inputs.norm(dim=1, keepdim=True)
    assert d * alignment.smallest_alignment(torch.relu(inputs @ rows.T)) > 0.3


def test_many_gaussian_examples_approach_the_online_value():
    scales = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    J, delta = normal(200_000, 3) * scales, torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
    S, e = torch.diag(scales**2), J @ delta
    loss = 0.5 * (delta @ S @ delta).item()
    expected = 1 + (delta @ S**3 @ delta / (2 * loss * S.norm() ** 2)).item()
    # the dense form: K would be 200,000 x 200,000
    assert alignment.alignment(*dense(J, e)).mu == pytest.approx(expected, rel=0.03)


def test_model_alignment_is_that_of_its_jacobian():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double().eval()
    x, y = normal(7, 3), normal(7, seed=1)
    split = Split(x, y, 0, "noise")
    rows = []
    for i in range(7):
        grads = torch.autograd.grad(model(x[i : i + 1]).squeeze(), model.parameters())
        rows.append(torch.cat([g.reshape(-1) for g in grads]))
    e = model(x).squeeze(1).detach() - y
    expected = alignment.regression_alignment(torch.stack(rows), e)
    found = alignment.model_alignment(model, split)
    assert (found.alpha, found.beta, found.mu) == pytest.approx((expected.alpha, expected.beta, expected.mu), abs=1e-12)
    # and the G in it is the Gauss-Newton matrix of the half squared error
    G = curvature.gauss_newton(model, HalfSquaredError(), split)
    assert torch.allclose(torch.stack(rows).T @ torch.stack(rows) / 7, G, atol=1e-12)


def test_targets_may_be_a_column():
    """As regression data come: (n, 1) is one target an example, and is not spread over all pairs of examples."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double().eval()
    x, y = normal(7, 3), normal(7, seed=1)
    row, column, pairs = (Split(x, targets, 0, "made up") for targets in (y, y[:, None], y[:, None].expand(7, 2)))
    assert alignment.model_alignment(model, column) == alignment.model_alignment(model, row)
    one, other = (flatness.squared_error_hessian(model, split) for split in (column, row))
    torch.testing.assert_close(one.residual, other.residual, rtol=0, atol=0)
    for measure in (alignment.model_alignment, flatness.squared_error_hessian):
        with pytest.raises(ValueError, match=r"target.*have shape|targets \(7, 2\)"):
            measure(model, pairs)


# --- mu_0 and gamma -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d"), [(6, 8), (8, 5)])
def test_smallest_alignment_is_a_minimum_that_is_reached(n, d):
    J = normal(n, d)
    smallest = alignment.smallest_alignment(J)
    sampled = [alignment.regression_alignment(J, J @ normal(d, seed=s)).mu for s in range(200)]
    assert min(sampled) >= smallest > 0
    x = normal(d, seed=3).requires_grad_()

    def mu() -> torch.Tensor:
        e = J @ x
        gradients = e[:, None] * J
        G = J.T @ J / n
        Sigma = gradients.T @ gradients / n - torch.outer(gradients.mean(0), gradients.mean(0))
        return torch.sum(Sigma * G) / (e.square().mean() * G.norm() ** 2)

    optimiser = torch.optim.LBFGS([x], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-12)
    optimiser.step(lambda: (optimiser.zero_grad(), value := mu(), value.backward())[1])
    assert mu().item() == pytest.approx(smallest, rel=1e-5)


def test_identical_examples_have_no_alignment():
    J = torch.ones(4, 1, dtype=torch.float64) * normal(1, 3)
    assert alignment.smallest_alignment(J) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_uniform_gradients_suffice(seed):
    J, e = normal(6, 4, seed=seed), normal(6, seed=seed + 50)
    _, G, loss = dense(J, e)
    with_mean = (e[:, None] * J).T @ (e[:, None] * J) / 6
    strengths = torch.stack([row @ G @ row for row in J])
    assert alignment.uniformity(J) == pytest.approx((strengths.min() / strengths.mean()).item(), abs=1e-12)
    assert alignment.alignment(with_mean, G, loss).mu >= alignment.uniformity(J) - 1e-12


@pytest.mark.parametrize("seed", range(5))
def test_errors_need_not_be_uniform(seed):
    """Orthonormal gradients have one strength in the metric G: mu is 1 for a single error that is not 0, too.

    Uniform errors suffice as well, whatever the gradients: then the noise with its mean is 2 L G by definition.
    """
    J, one_error = torch.linalg.qr(normal(6, 6, seed=seed))[0], torch.eye(6, dtype=torch.float64)[0]
    uneven, signs = normal(6, 4, seed=seed), normal(6, seed=seed).sign()
    for jacobian, errors in ((J, one_error), (J, normal(6, seed=seed)), (uneven, signs)):
        _, G, loss = dense(jacobian, errors)
        with_mean = (errors[:, None] * jacobian).T @ (errors[:, None] * jacobian) / 6
        assert alignment.alignment(with_mean, G, loss).mu == pytest.approx(1, abs=1e-12)


# --- bounds and escape --------------------------------------------------------------------------------------


def test_bounds_by_hand():
    assert alignment.frobenius_bound(0.1, batch_size=4, mu0=0.25) == pytest.approx(40)
    assert alignment.isotropic_trace_bound(0.1, batch_size=4, d=100) == pytest.approx(200)
    assert alignment.escape_rate(40.0, 0.1, batch_size=4, mu0=0.25) == pytest.approx(1)
    assert alignment.escape_rate(80.0, 0.1, batch_size=4, mu0=0.25) == pytest.approx(4)


@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_no_stable_minimum_breaks_the_frobenius_bound(B, seed):
    J = normal(5, 6, seed=seed)
    mu0, frobenius = alignment.smallest_alignment(J), (J.T @ J / 5).norm().item()
    hessians = torch.einsum("ia,ib->iab", J, J)
    for lr in torch.logspace(-2, 1, 25).tolist():
        radius = stability.second_moment_radius(hessians, lr, batch_size=B, replacement=True)
        rate = alignment.escape_rate(frobenius, lr, batch_size=B, mu0=mu0)
        assert radius >= rate - 1e-9
        if frobenius > alignment.frobenius_bound(lr, batch_size=B, mu0=mu0):
            assert rate > 1
            assert radius > 1


def test_isotropic_noise_needs_the_trace_bound():
    # E L_{t+1} >= (lr^2 / 2B) Tr(H Sigma) with Sigma = 2 L (Tr H / d) I is above L exactly when Tr H > sqrt(d
    # B) / lr
    H = torch.diag(torch.tensor([3.0, 1.0, 0.5], dtype=torch.float64))
    lr, B, loss = 0.3, 2, 0.7
    Sigma = 2 * loss * H.trace() / 3 * torch.eye(3, dtype=torch.float64)
    growth = lr**2 / (2 * B) * torch.trace(H @ Sigma).item() / loss
    bound = alignment.isotropic_trace_bound(lr, batch_size=B, d=3)
    assert growth == pytest.approx((H.trace().item() / bound) ** 2, rel=1e-12)


@pytest.mark.parametrize("B", [1, 2])
def test_expected_losses_are_the_moments_of_the_weights(B):
    J, start, lr = normal(4, 5), normal(5, seed=1), 0.6
    operator = stability.second_moment_operator(torch.einsum("ia,ib->iab", J, J), lr, batch_size=B, replacement=True)
    losses = alignment.expected_losses(J, start, lr=lr, batch_size=B, steps=4)
    M = torch.outer(start, start)
    for loss in losses:
        assert loss.item() == pytest.approx(0.5 * torch.sum(J.T @ J / 4 * M).item(), rel=1e-10)
        M = (operator @ M.reshape(-1)).reshape(5, 5)


@pytest.mark.parametrize("lr", [0.25, 0.7, 1.5])
def test_losses_grow_at_least_at_the_escape_rate(lr):
    J, start = normal(6, 8), normal(8, seed=1)
    mu0 = alignment.smallest_alignment(J)
    rate = alignment.escape_rate((J.T @ J / 6).norm().item(), lr, batch_size=1, mu0=mu0)
    losses = alignment.expected_losses(J, start, lr=lr, batch_size=1, steps=12)
    assert (losses[1:] >= rate * losses[:-1]).all()
    # one step: the (lr^2 / 2B) Tr(H Sigma) of the theorem, plus what gradient descent leaves
    Sigma, H, _ = dense(J, J @ start)
    rest = start - lr * H @ start
    one = 0.5 * (rest @ H @ rest + lr**2 * torch.trace(H @ Sigma)).item()
    assert losses[1].item() == pytest.approx(one, rel=1e-10)


def test_escape_simulates_the_expected_losses():
    J, start = normal(6, 8) / 2, normal(8, seed=1)
    run = dict(lr=0.3, batch_size=2, steps=5)
    exact = alignment.expected_losses(J, start, **run)
    simulated = alignment.escape(J, start, paths=20_000, seed=0, **run)
    assert simulated.losses.shape == (6, 20_000)
    assert torch.allclose(simulated.losses[0], exact[0], rtol=1e-14)
    assert ((simulated.mean - exact).abs()[1:] < 4 * simulated.standard_error[1:]).all()


def test_standard_error_of_the_escape_is_right():
    J, start = normal(6, 8) / 2, normal(8, seed=1)
    runs = [alignment.escape(J, start, lr=0.3, batch_size=2, steps=2, paths=100, seed=s) for s in range(200)]
    means = torch.stack([run.mean[-1] for run in runs])
    errors = torch.stack([run.standard_error[-1] for run in runs])
    assert errors.square().mean().sqrt().item() == pytest.approx(means.std().item(), rel=0.2)
    exact = alignment.expected_losses(J, start, lr=0.3, batch_size=2, steps=2)[-1]
    assert abs(means.mean() - exact) < 4 * means.std() / 200**0.5


def test_a_seed_gives_the_same_paths():
    J, start = normal(4, 3), normal(3)
    run = dict(lr=0.3, batch_size=2, steps=3, paths=5)
    first, again, other = (alignment.escape(J, start, seed=seed, **run).losses for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# --- bad input ----------------------------------------------------------------------------------------------


def test_refusals():
    J, e = normal(4, 3), normal(4)
    with pytest.raises(ValueError, match="at an exact interpolation there is no noise"):
        alignment.regression_alignment(J, torch.zeros(4, dtype=torch.float64))
    with pytest.raises(ValueError, match="one row an example"):
        alignment.regression_alignment(J, e[:3])
    two_outputs = nn.Linear(3, 2).double().eval()
    with pytest.raises(ValueError, match="one output an example"):
        alignment.model_alignment(two_outputs, Split(J, e, 0, "noise"))
    with pytest.raises(ValueError, match="mu0 must be"):
        alignment.frobenius_bound(0.1, batch_size=1, mu0=0.0)
    with pytest.raises(ValueError, match="batch_size must be"):
        alignment.escape_rate(1.0, 0.1, batch_size=0, mu0=0.1)
    with pytest.raises(ValueError, match="paths must be a whole number of at least 2"):
        alignment.escape(J, e[:3], lr=0.1, batch_size=1, steps=1, paths=1, seed=0)
    with pytest.raises(ValueError, match="a path overflowed within 400 steps"):
        alignment.escape(J, e[:3], lr=100.0, batch_size=1, steps=400, paths=2, seed=0)


# --- growth in the long run ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d", "lr", "batch_size"), [(6, 4, 0.5, 1), (6, 4, 0.9, 3), (5, 3, 0.1, 2)])
def test_growth_is_the_radius_of_the_second_moment_operator(n, d, lr, batch_size):
    J = normal(n, d)
    hessians = torch.einsum("ia,ib->iab", J, J)
    exact = stability.second_moment_radius(hessians, lr, batch_size=batch_size, replacement=True)
    assert alignment.growth_factor(J, lr=lr, batch_size=batch_size) == pytest.approx(exact, rel=1e-8)


def test_expected_losses_grow_like_the_growth_factor_in_the_end():
    J, start = normal(5, 9), normal(9, seed=1)
    losses = alignment.expected_losses(J, start, lr=0.6, batch_size=1, steps=80)
    growth = alignment.growth_factor(J, lr=0.6, batch_size=1)
    assert growth > 1
    assert (losses[-1] / losses[-2]).item() == pytest.approx(growth, rel=1e-6)
    frobenius = (J.T @ J / 5).norm().item()
    assert alignment.escape_rate(frobenius, 0.6, batch_size=1, mu0=alignment.smallest_alignment(J)) <= growth


def test_one_example_grows_by_the_square_of_its_factor():
    J = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    assert alignment.growth_factor(J, lr=0.5, batch_size=1) == pytest.approx((1 - 0.5 * 5) ** 2)


def test_growth_under_gaussian_noise_is_that_of_its_dense_operator():
    J, lr, B = normal(6, 4), 0.4, 2
    H = J.T @ J / 6
    h, V = torch.linalg.eigh(H)
    for v in (h, torch.full_like(h, h.mean().item())):
        noise = V @ torch.diag(v) @ V.T
        step = torch.eye(4, dtype=torch.float64) - lr * H
        # M -> (I - lr H) M (I - lr H) + (lr^2 / B) Tr(H M) noise, with 2 E L = Tr(H M)
        operator = torch.kron(step, step) + lr**2 / B * torch.outer(noise.reshape(-1), H.reshape(-1))
        exact = torch.linalg.eigvals(operator).abs().max().item()
        assert alignment.gaussian_growth_factor(h, v, lr=lr, batch_size=B) == pytest.approx(exact, rel=1e-9)


def test_gaussian_growth_wants_a_variance_for_each_curvature():
    with pytest.raises(ValueError, match="one variance for each curvature"):
        alignment.gaussian_growth_factor(torch.ones(3), torch.ones(2), lr=0.1, batch_size=1)


def test_a_model_is_aligned_on_whatever_is_a_sample():
    torch.manual_seed(0)
    model, x, y = nn.Linear(3, 1).double().eval(), torch.randn(9, 3).double(), torch.randn(9).double()
    expected = alignment.model_alignment(model, Split(x, y, 0, "numbers"))
    pairs = torch.utils.data.TensorDataset(x, y)
    for held in ((x, y), pairs, torch.utils.data.DataLoader(pairs, 4)):
        assert alignment.model_alignment(model, held) == expected
    with pytest.raises(ValueError, match=r"split: examples must be a data.Split, a Dataset"):
        alignment.model_alignment(model, "numbers")
