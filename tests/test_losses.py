from math import log

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from helpers.losses import ClippedCrossEntropy, HalfSquaredError, ZeroOneError, clipped_share

LOGITS = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 6
TARGETS = torch.randint(3, (40,), generator=torch.Generator().manual_seed(1))


def test_clip_of_the_source_gives_R():  # Peng et al.: clip 12 log 10
    loss = ClippedCrossEntropy.per_class(10)
    assert loss.clip == pytest.approx(27.6310211, abs=1e-7)
    assert pytest.approx(13.8155106, abs=1e-7) == loss.R


@given(clip=st.floats(0.1, 20))
def test_values_lie_between_zero_and_the_clip_and_below_it_are_cross_entropy(clip):
    values = ClippedCrossEntropy(clip)(LOGITS, TARGETS)
    plain = F.cross_entropy(LOGITS, TARGETS, reduction="none")
    assert torch.equal(values, plain.clamp(max=clip))
    assert clipped_share(values, ClippedCrossEntropy(clip)) == (plain >= clip).double().mean()


def test_a_clipped_example_has_no_gradient():
    logits = LOGITS.clone().requires_grad_()
    loss = ClippedCrossEntropy(2.0)
    values = loss(logits, TARGETS)
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    clipped = values >= 2.0
    assert 0 < clipped.sum() < len(values)
    assert (gradient[clipped] == 0).all()
    assert (gradient[~clipped].abs().sum(1) > 0).all()


def test_nan_stays_nan():
    logits = torch.tensor([[float("nan"), 0.0], [1.0, 0.0]])
    assert ClippedCrossEntropy(3.0)(logits, torch.tensor([0, 0])).isnan().tolist() == [True, False]


@pytest.mark.parametrize("loss", [ClippedCrossEntropy(2.0), HalfSquaredError()])
def test_sketch_averages_to_the_hessian_in_the_outputs(loss):
    """Over all sign patterns, the sketch's gradients have exactly the Hessian of the loss as second moment."""
    outputs = 1 if isinstance(loss, HalfSquaredError) else 3
    for logits, target in zip(LOGITS[:12, :outputs], TARGETS[:12], strict=True):
        moment = torch.zeros(outputs, outputs, dtype=torch.float64)
        for pattern in torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * outputs).reshape(-1, outputs).double():
            x = logits.clone().requires_grad_()
            (g,) = torch.autograd.grad(loss.sketch(x[None], target[None], pattern[None]).sum(), x)
            moment += torch.outer(g, g) / 2**outputs
        exact = torch.func.hessian(lambda x, t=target: loss(x[None], t[None]).sum())(logits)
        torch.testing.assert_close(moment, exact, rtol=0, atol=1e-12)


def test_zero_one_error_counts_mistakes():
    assert ZeroOneError()(torch.eye(3), torch.tensor([0, 1, 0])).tolist() == [0, 0, 1]
    assert ZeroOneError().R == 0.5
    assert clipped_share(torch.ones(4), ZeroOneError()) == 0


@pytest.mark.parametrize("clip", [0, -1, float("nan"), float("inf")])
def test_a_clip_that_is_not_positive_is_refused(clip):
    with pytest.raises(ValueError, match="positive finite number of nats"):
        ClippedCrossEntropy(clip)


def test_a_constant_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="R must be a positive finite number"):
        HalfSquaredError(0.0)


def test_half_squared_error_takes_both_output_shapes():
    targets = torch.tensor([1.0, -1.0])
    assert HalfSquaredError()(torch.tensor([[2.0], [1.0]]), targets).tolist() == [0.5, 2.0]
    assert HalfSquaredError()(torch.tensor([2.0, 1.0]), targets).tolist() == [0.5, 2.0]
    assert log(10) * 12 == ClippedCrossEntropy.per_class(10).clip


def test_the_squared_error_compares_outputs_of_one_shape():
    z = torch.arange(12.0).reshape(2, 2, 3)
    assert HalfSquaredError()(z, z).tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"outputs have shape \(2, 2, 3\), targets \(2, 3, 2\)"):
        HalfSquaredError()(z, z.reshape(2, 3, 2))
