"""Where is the trace of the Hessian that of the Gauss-Newton matrix? Where every weight enters the outputs affinely."""

import torch
from torch import nn

from helpers._generators import generator_from
from helpers.curvature.contracts import check_model, on_model
from helpers.curvature.keys import Verdicts
from helpers.curvature.precision import precise
from helpers.curvature.routes import PlainOperations, has_second_derivative
from helpers.curvature.trials import places, tried
from helpers.data import Split, as_split
from helpers.models import flat, outputs, trainable

_verdicts = Verdicts[tuple[bool, str]]()


@precise
def is_piecewise_affine(model: nn.Module, split: Split, *, seed: int = 0) -> tuple[bool, str]:
    """Whether each weight tensor enters the outputs piecewise affinely, by a randomised check; and a reason.

    If the outputs f are affine in one weight tensor P (all others fixed), then the P-block of the Hessian of <r, f>
    vanishes for every constant r. The check takes a random r and a random direction within each tensor, and looks
    at that block of the product: zero for ReLU networks with convolutions, residuals and BatchNorm in evaluation
    mode, not zero upstream of a smooth activation, or for a tensor that is used twice. All tensors are tried, once
    an architecture and layout of inputs, on some examples where the model is and at a place with noise
    (``trials``), so a wrong "yes" has probability zero where the examples reach every weight on every branch of the
    model. A "yes" counts only where two backward passes are seen to give the second derivative: one that PyTorch
    cannot see looks like zero.
    """
    check_model(model)
    split = as_split(split)
    verdict = _verdicts.of(model, split.inputs)
    if verdict is None:
        verdict = tried(lambda some: _verdict(model, on_model(model, some, slice(None)), seed), model, split)
        _verdicts.note(model, split.inputs, verdict)
    return verdict


def _verdict(model: nn.Module, few: Split, seed: int) -> tuple[bool, str]:
    with PlainOperations():
        verdict = min((_block_vanishes(*place, seed) for place in places(model, few)), key=lambda one: one[0])
    return _UNKNOWN if verdict[0] and not has_second_derivative(model, few) else verdict


_UNKNOWN = False, "an operation of the model has no second derivative to check affinity with"


def _block_vanishes(model: nn.Module, few: Split, seed: int) -> tuple[bool, str]:
    parameters = trainable(model)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    generator = generator_from(seed)
    z = outputs(model, few.inputs)
    r = torch.randn(z.shape, generator=generator).to(z)
    try:
        slopes = torch.autograd.grad((r * z).sum(), parameters, create_graph=True, materialize_grads=True)
        for name, tensor, slope in zip(names, parameters, slopes, strict=True):
            direction = torch.randn(tensor.shape, generator=generator).to(tensor)
            along = (slope * direction).sum()
            if not along.requires_grad:
                continue
            products = torch.autograd.grad(along, parameters, retain_graph=True, materialize_grads=True)
            block = next(product for product, p in zip(products, parameters, strict=True) if p is tensor)
            if block.norm() > 100 * torch.finfo(block.dtype).eps * (flat(products).norm() + slope.norm()):
                return False, f"the outputs are not affine in {name!r}, so Tr H differs from the Gauss-Newton trace"
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return _UNKNOWN
    return True, "the outputs are piecewise affine in every weight tensor, so Tr H equals the Gauss-Newton trace"
