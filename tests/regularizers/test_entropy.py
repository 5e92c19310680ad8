"""Entropy-SGD against the walk written out, and against the local entropy of a quadratic."""

import math

import pytest
import torch
from optimisers import START, H, closure_of, gradient, quadratic, wavy

from helpers.regularizers import EntropySGD

ONE = torch.eye(2, dtype=torch.float64)


def stepped(loss, **settings):
    """What the base is handed by one step from START: the gradient of minus the local entropy, estimated."""
    w = START.clone().requires_grad_()
    EntropySGD(torch.optim.SGD([w], lr=0.0), **settings).step(closure_of(w, loss))
    assert torch.equal(w.detach(), START)
    return w.grad.clone()


def test_the_walk_is_the_one_of_the_source():
    gamma, rate, noise, alpha, steps = 0.7, 0.02, 0.3, 0.6, 4
    generator, y, mean = torch.Generator().manual_seed(9), START.clone(), START.clone()
    for _ in range(steps):
        normal = torch.randn(2, dtype=torch.float64, generator=generator)
        y = y - rate * (gradient(wavy, y) - gamma * (START - y)) + math.sqrt(rate) * noise * normal
        mean = (1 - alpha) * mean + alpha * y
    found = stepped(wavy, gamma=gamma, steps=steps, rate=rate, noise=noise, alpha=alpha, seed=9)
    assert torch.allclose(found, gamma * (START - mean), atol=1e-13)


def test_a_long_quiet_walk_gives_the_gradient_of_the_local_entropy_of_a_quadratic():
    """There F(w) = w^T H (I + H / gamma)^{-1} w / 2 and a constant: curvature h counts as h / (1 + h / gamma)."""
    for gamma in (0.3, 3.0, 300.0):
        found = stepped(quadratic, gamma=gamma, steps=4000, rate=0.5 / (gamma + 4), noise=0.0, alpha=0.75)
        assert torch.allclose(found, H @ torch.linalg.inv(ONE + H / gamma) @ START, atol=1e-9)


def test_a_short_quiet_walk_on_a_quadratic_in_closed_form():
    """y_l - y* = A^l (w - y*) with A = ONE - rate (H + gamma I) and y* = gamma (H + gamma I)^{-1} w."""
    gamma, rate, alpha, steps = 0.5, 0.05, 0.75, 5
    A, goal = ONE - rate * (H + gamma * ONE), gamma * torch.linalg.inv(H + gamma * ONE) @ START
    walk = [goal + torch.linalg.matrix_power(A, step) @ (START - goal) for step in range(steps + 1)]
    shares = [(1 - alpha) ** steps, *(alpha * (1 - alpha) ** (steps - step) for step in range(1, steps + 1))]
    mean = sum(share * y for share, y in zip(shares, walk, strict=True))
    assert sum(shares) == pytest.approx(1)
    found = stepped(quadratic, gamma=gamma, steps=steps, rate=rate, noise=0.0, alpha=alpha)
    assert torch.allclose(found, gamma * (START - mean), atol=1e-13)


def test_the_noise_leaves_the_mean_where_it_is_and_has_the_size_of_the_walk():
    """20,000 copies of one weight, one step each: y_1 = w - rate h w + sqrt(rate) noise xi, and the base sees
    gamma alpha (w - y_1)."""
    copies, h, gamma, rate, noise, alpha = 20_000, 2.0, 0.5, 0.04, 0.6, 0.75
    w = torch.full((copies,), 1.3, dtype=torch.float64, requires_grad=True)
    optimizer = EntropySGD([w], torch.optim.SGD, gamma, steps=1, rate=rate, noise=noise, alpha=alpha, seed=1, lr=0.0)
    optimizer.step(closure_of(w, lambda w: h / 2 * w.square().sum()))
    seen, spread = w.grad, gamma * alpha * math.sqrt(rate) * noise
    assert abs(seen.mean().item() - gamma * alpha * rate * h * 1.3) < 4 * spread / copies**0.5
    assert seen.std().item() == pytest.approx(spread, rel=0.03)


def test_one_quiet_step_is_the_base_at_another_rate():
    gamma, rate, alpha = 0.5, 0.1, 0.75
    w, plain = START.clone().requires_grad_(), START.clone().requires_grad_()
    walker = EntropySGD(torch.optim.SGD([w], lr=0.4), gamma, steps=1, rate=rate, noise=0.0, alpha=alpha)
    base = torch.optim.SGD([plain], lr=0.4 * gamma * alpha * rate)
    for _ in range(3):
        walker.step(closure_of(w, wavy))
        base.zero_grad()
        wavy(plain).backward()
        base.step()
    assert torch.allclose(w, plain, atol=1e-13)


def test_every_call_of_the_closure_may_bring_another_batch():
    batches, seen = [(w, i) for i, w in enumerate((1.0, -2.0, 5.0))], []
    w = START.clone().requires_grad_()
    queue = iter(batches)

    def closure():
        factor, name = next(queue)
        seen.append(name)
        loss = factor * w.sum()
        loss.backward()
        return loss

    optimizer = EntropySGD([w], torch.optim.SGD, 2.0, steps=3, rate=0.1, noise=0.0, alpha=1.0, lr=0.0)
    loss = optimizer.step(closure)
    assert seen == [0, 1, 2]
    assert loss.item() == START.sum().item()
    y = 0.0  # of y - w, with alpha = 1 the base sees gamma (w - y)
    for factor, _ in batches:
        y -= 0.1 * (factor + 2.0 * y)
    assert torch.allclose(w.grad, torch.full((2,), -2.0 * y, dtype=torch.float64), atol=1e-13)


def test_a_gradient_that_is_missing_on_the_way_is_zero_there():
    a, b = (torch.tensor(1.0, dtype=torch.float64).requires_grad_() for _ in range(2))
    calls = []

    def closure():
        calls.append(1)
        loss = b + (a if len(calls) == 1 else 0)
        loss.backward()
        return loss

    EntropySGD([a, b], torch.optim.SGD, 1.0, steps=2, rate=0.1, noise=0.0, alpha=1.0, lr=0.0).step(closure)
    assert a.grad.item() == pytest.approx(0.1 - 0.1 * 0.1)  # y: -0.1, then back by 0.1 * 1 * 0.1
    assert b.grad.item() == pytest.approx(0.1 + 0.1 - 0.1 * 0.1)
