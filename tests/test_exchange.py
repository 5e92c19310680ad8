from math import log, sqrt

import numpy as np
import pytest
import torch
from instances import network, sample

from helpers import curvature, exchange, models, xu_raginsky
from helpers.losses import ClippedCrossEntropy, ZeroOneError
from helpers.wang_mao import information


def test_one_group_is_lemma_4():
    assert exchange.groupwise_information([2.5], [7], [0.3]) == pytest.approx(information.lemma_4([2.5], 0.3, d=7))


def test_groups_add_up_and_noise_in_proportion_is_one_group():
    """With sigma_g^2 proportional to M_g / d_g every weight carries the same information."""
    moments, sizes, level = [4.0, 0.5, 9.0], [10, 3, 40], 2.0
    sigmas = [level * sqrt(m / d) for m, d in zip(moments, sizes, strict=True)]
    assert exchange.groupwise_information(moments, sizes, sigmas) == pytest.approx(53 / 2 * log(1 + 1 / level**2))


def test_gaussian_channel_with_its_own_noise_in_each_group_reaches_it():
    """For Gaussian W with covariance s_g^2 I and noise sigma_g the sum is I(W + xi; W), by determinants."""
    s, sigma, sizes = [1.0, 0.2], [0.5, 0.7], [2, 3]
    total = np.diag([s[0] ** 2 + sigma[0] ** 2] * 2 + [s[1] ** 2 + sigma[1] ** 2] * 3)
    noise = np.diag([sigma[0] ** 2] * 2 + [sigma[1] ** 2] * 3)
    exact = (np.linalg.slogdet(total)[1] - np.linalg.slogdet(noise)[1]) / 2
    moments = [2 * s[0] ** 2, 3 * s[1] ** 2]
    assert exchange.groupwise_information(moments, sizes, sigma) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("arguments", [([1.0], [1, 2], [1.0]), ([-1.0], [1], [1.0]), ([1.0], [1], [0.0])])
def test_impossible_groups_are_refused(arguments):
    with pytest.raises(ValueError, match=r"give each group|must be"):
        exchange.groupwise_information(*arguments)


@pytest.mark.parametrize("tau", [0.05, 1.0, 20.0])
def test_one_published_mean_is_the_noisy_mean_of_chapter_1(tau):
    ours, known = exchange.PublishedMeans(n=7, d=1, seen=1), xu_raginsky.GaussianLocation(7, 1.0, tau)
    assert ours.gap(tau) == pytest.approx(known.gap, rel=1e-13)
    assert ours.information_term(tau) == pytest.approx(known.bound, rel=1e-13)


@pytest.mark.parametrize(("d", "seen"), [(3, 3), (5, 2)])
def test_the_gap_of_published_means_is_that_of_drawn_ones(d, seen):
    """The same noise on fresh and on old examples, and the same length of data: the difference has little noise."""
    n, tau, repeats = 4, 0.7, 400_000
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    sample, fresh, noise = draw(n, repeats, d), draw(repeats, d), tau * draw(repeats, d)
    w = sample.mean(0) + noise
    differences = (w - fresh)[:, :seen].norm(dim=1) - (w - sample)[:, :, :seen].norm(dim=2).mean(0)
    error = differences.std().item() / repeats**0.5
    assert error < 0.003
    assert abs(differences.mean().item() - exchange.PublishedMeans(n, d, seen).gap(tau)) < 4 * error


def test_published_means_that_the_loss_does_not_see_are_paid_for_all_the_same():
    one, many = (exchange.PublishedMeans(100, d, 1) for d in (1, 16))
    assert many.gap(0.3) == one.gap(0.3)
    assert many.information_term(0.3) == pytest.approx(4 * one.information_term(0.3))
    for wrong in ({"n": 0, "d": 1, "seen": 1}, {"n": 3, "d": 0, "seen": 1}, {"n": 3, "d": 2, "seen": 3}):
        with pytest.raises(ValueError, match=r"must be"):
            exchange.PublishedMeans(**wrong)
    with pytest.raises(ValueError, match="tau must be"):
        one.information_term(0.0)


def test_brier_score_by_hand_and_in_range():
    logits = torch.tensor([[0.0, log(3.0)], [50.0, -50.0]], dtype=torch.float64)
    found = exchange.BrierScore()(logits, torch.tensor([0, 1]))
    assert found.tolist() == pytest.approx([(0.75) ** 2 + 0.75**2, 2.0])
    assert exchange.BrierScore().R == 1


def test_the_shape_of_the_noise_does_not_see_its_own_run():
    W = torch.randn(5, 9, dtype=torch.float64)
    before = exchange.spread_of_others(W, 2, [4, 5])
    W[2] = 100.0
    assert exchange.spread_of_others(W, 2, [4, 5]) == before
    others = np.delete(W.numpy(), 2, axis=0)
    assert before == pytest.approx(
        [sqrt(others[:, :4].var(0, ddof=1).mean()), sqrt(others[:, 4:].var(0, ddof=1).mean())]
    )


def test_a_group_that_never_varies_gets_the_smallest_spread():
    W = torch.randn(4, 6, dtype=torch.float64)
    W[:, :2] = 1.0
    found = exchange.spread_of_others(W, 0, [2, 2, 2])
    assert found[0] == min(found[1:])
    with pytest.raises(ValueError, match="same weights"):
        exchange.spread_of_others(torch.ones(4, 6), 0, [6])
    with pytest.raises(ValueError, match="at least 3 runs"):
        exchange.spread_of_others(W[:2], 0, [6])


def test_group_moments_are_mean_squared_norms():
    vectors = torch.tensor([[3.0, 4.0, 1.0], [0.0, 0.0, 2.0]])
    assert exchange.group_moments(vectors, [2, 1]) == [12.5, 2.5]
    model = network()
    assert sum(exchange.group_sizes(model)) == len(models.weights(model))


def test_noisy_losses_at_zero_noise_are_those_of_the_network_and_leave_it_alone():
    model, split = network(), sample(20)
    before = models.weights(model)
    losses = [ClippedCrossEntropy(5.0), ZeroOneError()]
    found = exchange.noisy_losses(model, before, torch.zeros_like(before), [split], losses, draws=2, seed=0)
    expected = [loss(model(split.inputs), split.targets).mean().item() for loss in losses]
    assert found.shape == (2, 1, 2)
    assert found[0, 0].tolist() == pytest.approx(expected)
    assert torch.equal(models.weights(model), before)


def test_noisy_losses_follow_the_second_order_expansion():
    """E L(w + xi) - L(w) = (1/2) sum_j deviation_j^2 H_jj for small noise."""
    model, split = network(), sample(20)
    w, loss = models.weights(model), ClippedCrossEntropy(50.0)
    deviations = torch.full_like(w, 0.02)
    deviations[: len(w) // 2] = 0.04
    found = exchange.noisy_losses(model, w, deviations, [split], [loss], draws=4000, seed=1)[:, 0, 0]
    clean = loss(model(split.inputs), split.targets).mean().item()
    expected = (deviations.square() * curvature.hessian(model, loss, split).diag()).sum().item() / 2
    error = found.std().item() / sqrt(len(found))
    assert abs(found.mean().item() - clean - expected) < 4 * error + 0.05 * abs(expected)
    assert expected > 0


@pytest.mark.parametrize("seed", range(5))
def test_shaped_noise_costs_a_smooth_loss_the_trace_of_its_covariance(seed):
    """Remark 3 of Wang & Mao: at most beta Tr kappa / 2 for noise of covariance kappa, met by the Hessian beta I."""
    rng = torch.Generator().manual_seed(seed)
    A, sigmas = torch.randn(6, 6, dtype=torch.float64, generator=rng), torch.tensor([0.1, 1.0], dtype=torch.float64)
    deviations = sigmas.repeat_interleave(3)
    noise = deviations * torch.randn(4000, 6, dtype=torch.float64, generator=rng)
    beta = torch.linalg.eigvalsh(A @ A.T)[-1]
    most = beta * deviations.square().sum() / 2
    for H, least in ((A @ A.T, 0.0), (beta * torch.eye(6, dtype=torch.float64), most)):
        costs = ((noise @ H) * noise).sum(1) / 2
        error = 4 * costs.std() / 4000**0.5
        assert least - error <= costs.mean() <= most + error
    shaped = exchange.groupwise_information([0.01, 1.0], [3, 3], sigmas.tolist())
    assert shaped < exchange.groupwise_information([0.01, 1.0], [3, 3], [0.1, 0.1])
