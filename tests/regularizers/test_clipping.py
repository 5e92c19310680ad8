"""Clipping by the history of gradient norms, against the rules written out."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optimisers import START, H, closure_of, quadratic

from helpers.regularizers import DynamicClipping, LaggedClipping

anytime = settings(deadline=None)  # a busy machine is not a failure


def norms_seen(optimizer_of, norms: list[float]) -> list[float]:
    """Norms that the base sees when these are the norms of the gradients."""
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = optimizer_of(torch.optim.SGD([w], lr=1.0))
    seen = []
    for norm in norms:
        w.grad = norm * torch.tensor([0.6, -0.8], dtype=torch.float64)
        before = w.detach().clone()
        optimizer.step()
        step = before - w.detach()
        assert torch.allclose(step / step.norm(), torch.tensor([0.6, -0.8], dtype=torch.float64))
        seen.append(step.norm().item())
    return seen


def test_dynamic_clipping_is_algorithm_1():
    norms = [5.0, 3.0, 4.0, 2.0, 6.0, 2.0]
    seen = norms_seen(lambda base: DynamicClipping(base, 0.1, 1), norms)
    assert seen == pytest.approx([5, 3, 0.3, 2, 0.2, 2], abs=1e-12)  # G: inf, 3, 3, 2, 2, 2
    seen = norms_seen(lambda base: DynamicClipping(base, 0.1, 1, 2.5), norms)
    assert seen == pytest.approx([5, 0.25, 0.25, 2, 0.2, 2], abs=1e-12)  # G: 2.5, 2.5, 2.5, 2, 2, 2
    seen = norms_seen(lambda base: DynamicClipping(base, 0.1, 0), norms)
    assert seen == pytest.approx([5, 3, 0.3, 2, 0.2, 2], abs=1e-12)


def test_lagged_clipping_is_the_rule_of_the_text():
    seen = norms_seen(lambda base: LaggedClipping(base, 0.1, 2), [5.0, 3.0, 4.0, 2.0, 6.0, 7.0, 5.0])
    assert seen == pytest.approx([5, 3, 4, 2, 0.4, 0.2, 5], abs=1e-12)
    # against the norm before clipping: 2 is compared with 4, not with the 0.1 that is left of it
    seen = norms_seen(lambda base: LaggedClipping(base, 0.1, 1), [1.0, 4.0, 2.0])
    assert seen == pytest.approx([1, 0.1, 2], abs=1e-12)


@anytime
@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=12), st.floats(0.05, 1), st.integers(0, 4))
def test_clipped_norms_never_exceed_the_running_minimum(norms, alpha, start):
    seen = norms_seen(lambda base: DynamicClipping(base, alpha, start), norms)
    smallest = math.inf
    for t, (norm, left) in enumerate(zip(norms, seen, strict=True), 1):
        if t <= start:
            assert left == pytest.approx(norm)
            continue
        assert left == pytest.approx(norm if norm <= smallest else alpha * smallest)
        smallest = min(smallest, norm)


def test_clipping_with_a_closure_returns_its_loss():
    w = START.clone().requires_grad_()
    loss = DynamicClipping(torch.optim.SGD([w], lr=0.1), 0.1, 0).step(closure_of(w, quadratic))
    assert loss.item() == pytest.approx(quadratic(START).item())
    assert torch.allclose(w.detach(), START - 0.1 * H @ START)
