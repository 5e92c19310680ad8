"""The same numbers from PyHessian and curvlinops, on the same weights and data."""

import curvlinops
import pytest
import torch
from instances import CLIPPED, images, network, residual_network, sample
from pyhessian import hessian as PyHessian
from torch import nn

from helpers import curvature, models

CASES = {"tanh": (network(nn.Tanh), sample()), "residual": (residual_network(), images())}


def mean_loss(outputs, targets):
    return CLIPPED(outputs, targets).mean()


def batches(split, size=4):
    return list(zip(split.inputs.split(size), split.targets.split(size), strict=True))


@pytest.fixture(params=CASES)
def case(request):
    model, split = CASES[request.param]
    generator = torch.Generator().manual_seed(0)
    yield model, split, torch.randn(len(models.weights(model)), dtype=torch.float64, generator=generator)
    model.zero_grad(set_to_none=True)  # PyHessian leaves graphs there


def test_pyhessian_multiplies_alike(case):
    model, split, v = case
    theirs = PyHessian(model, mean_loss, dataloader=batches(split), cuda=False)
    _, product = theirs.dataloader_hv_product(models.split_like(model, v))
    ours = curvature.hvp(model, CLIPPED, split, v)
    torch.testing.assert_close(torch.cat([p.detach().reshape(-1) for p in product]), ours, rtol=1e-9, atol=1e-11)


def test_curvlinops_multiplies_alike(case):
    model, split, v = case
    theirs = operator(model, split, curvlinops.HessianLinearOperator)
    torch.testing.assert_close(curvature.hvp(model, CLIPPED, split, v), theirs @ v, rtol=1e-9, atol=1e-11)
    block = torch.stack([v, v.flip(0)], dim=1)
    torch.testing.assert_close(curvature.hvp(model, CLIPPED, split, block), theirs @ block, rtol=1e-9, atol=1e-11)


def operator(model, split, kind, loss=None):
    return kind(
        model, loss or nn.CrossEntropyLoss(), list(model.parameters()), batches(split), check_deterministic=False
    )


def test_curvlinops_has_the_same_gauss_newton_matrix():
    model, split = CASES["tanh"]
    theirs = operator(model, split, curvlinops.GGNLinearOperator)
    dense = theirs @ torch.eye(theirs.shape[1], dtype=torch.float64)
    torch.testing.assert_close(curvature.gauss_newton(model, CLIPPED, split), dense, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_traces_agree_within_their_errors(name):
    torch.manual_seed(0)  # PyHessian draws from the global generator
    model, split = CASES[name]
    ours = curvature.trace(model, CLIPPED, split, method="hutchinson", rtol=0.1)
    probes = torch.tensor(PyHessian(model, mean_loss, dataloader=batches(split), cuda=False).trace(60, tol=0.0))
    model.zero_grad(set_to_none=True)
    error = (ours.standard_error**2 + probes.var().item() / 60) ** 0.5
    assert abs(ours.value - probes.mean().item()) < 4 * error
