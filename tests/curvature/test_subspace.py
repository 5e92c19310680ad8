"""Eigenvectors by blocks, against dense eigenvalues and closed forms."""

import pytest
import torch
from torch import nn

from helpers import curvature, data
from helpers.losses import ClippedCrossEntropy, HalfSquaredError

CLIPPED = ClippedCrossEntropy(30.0)


def quadratic(eigenvalues, repeat):
    """H = diag(eigenvalues) repeated for every output: half squares of a linear map on scaled unit vectors."""
    n = len(eigenvalues)
    inputs = torch.diag((n * torch.tensor(eigenvalues).double()).sqrt())
    split = data.Split(inputs, torch.zeros(n, repeat).double(), 0, "quadratic")
    return nn.Linear(n, repeat, bias=False).double().eval(), split


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_repeated_eigenvalues_come_as_often_as_they_are(count):
    """diag(1, 4, 9) / 3 twice: 3, 3, 4/3, 4/3, 1/3, 1/3."""
    model, split = quadratic([1 / 3, 4 / 3, 3.0], 2)
    found = curvature.eigenvectors(model, HalfSquaredError(), split, count=count, rtol=1e-9)
    expected = torch.tensor([3, 3, 4 / 3, 4 / 3, 1 / 3, 1 / 3]).double()[:count]
    torch.testing.assert_close(found.values, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.vectors @ found.vectors.T, torch.eye(count).double(), rtol=0, atol=1e-10)
    assert found.converged
    assert found.residuals.max() < 1e-8


def test_a_multiple_of_the_identity_is_seen_after_one_block():
    model, split = quadratic([2.0] * 4, 3)
    found = curvature.eigenvectors(model, HalfSquaredError(), split, count=5)
    torch.testing.assert_close(found.values, torch.full((5,), 2.0).double())
    assert found.products == 10


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_pairs_of_a_network_are_those_of_its_dense_hessian(dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).to(dtype).eval()
    split = data.Split(torch.randn(25, 5).to(dtype), torch.randint(3, (25,)), 3, "small")
    H = curvature.hessian(model, CLIPPED, split)
    tolerance = 1e-8 if dtype == torch.float64 else 1e-3
    found = curvature.eigenvectors(model, CLIPPED, split, count=4, rtol=tolerance)
    exact = torch.linalg.eigvalsh(H.double())
    largest = exact[-4:].flip(0)
    torch.testing.assert_close(found.values, largest, rtol=1e-6 if dtype == torch.float64 else 1e-4, atol=1e-6)
    left = (found.vectors @ H - found.values[:, None].to(dtype) * found.vectors).norm(dim=1).double()
    torch.testing.assert_close(found.residuals, left, rtol=1e-2, atol=1e-6 if dtype == torch.float32 else 1e-12)
    assert found.converged
    assert found.vectors.dtype == dtype
    assert found.values.dtype == found.residuals.dtype == torch.float64


def test_a_cap_is_admitted():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double().eval()
    split = data.Split(torch.randn(25, 5).double(), torch.randint(3, (25,)), 3, "small")
    found = curvature.eigenvectors(model, CLIPPED, split, count=2, rtol=1e-9, max_iterations=2)
    assert not found.converged
    assert found.residuals.max() > 1e-6
    assert found.products == 6


@pytest.mark.parametrize("count", [0, 7, 1.5])
def test_a_count_beyond_the_weights_is_refused(count):
    model, split = quadratic([1.0, 2.0, 3.0], 2)
    with pytest.raises(ValueError, match="count must"):
        curvature.eigenvectors(model, HalfSquaredError(), split, count=count)


def test_the_start_is_fixed_by_the_seed_alone():
    model, split = quadratic([1.0, 2.0, 3.0, 4.0], 3)
    found = []
    for state in (0, 1):
        torch.manual_seed(state)
        found.append(
            curvature.eigenvectors(model, HalfSquaredError(), split, count=2, max_iterations=1, seed=5).vectors
        )
    assert torch.equal(*found)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    curvature.eigenvectors(model, HalfSquaredError(), split, count=2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_a_space_is_exhausted_at_any_scale(scale):
    """Two distinct eigenvalues in six: the space of one start is exhausted after two products."""
    model, split = quadratic([scale, 4 * scale], 3)
    edge = curvature.extreme_eigenvalues(model, HalfSquaredError(), split)
    assert edge.counts_copies
    assert edge.largest.item() == pytest.approx(4 * scale, rel=1e-9)
    assert edge.smallest.item() == pytest.approx(scale, rel=1e-9)


def test_the_stopping_rule_does_not_depend_on_the_units_of_the_loss():
    values = [0.1, 0.4, 0.5, 1.0, 3.0, 3.1, 7.0, 9.0]
    counts = []
    for unit in (1e-4, 1.0, 1e4):
        model, split = quadratic([unit * value for value in values], 1)
        counts.append(curvature.eigenvectors(model, HalfSquaredError(), split, count=2, rtol=1e-3).products)
    assert counts[0] == counts[1] == counts[2]
