"""The trace of the Hessian of the mean loss, with its standard error.

Three ways. *Exact*: the diagonal of the dense Hessian, for small d. *Gauss-Newton*: where every scalar weight enters
the outputs piecewise affinely, the diagonal of the Hessian equals that of the Gauss-Newton matrix almost everywhere,
and one forward and one backward pass with random signs on the outputs sample its trace. *Hutchinson*: v^T H v for
random signs v, one Hessian-vector product a sample, for any network.

Both random estimators draw independent signs for every batch. The noise of one sample comes from cross terms between
coordinates (Hutchinson) or between examples of a batch (Gauss-Newton), so independent draws average it out as they go,
and the spread within each batch gives a standard error with many degrees of freedom after two passes.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers.curvature.products import Estimate, batches, derivative, flat, hessian, inner
from helpers.data import Split
from helpers.losses import Loss, Sketchable
from helpers.models import trainable

EXACT_LIMIT = 700
SKETCH_BATCH = 16  # examples that share signs: more would add cross terms, fewer waste the processor
MOST_PASSES = 300
DEGREES_OF_FREEDOM = 10


def trace(
    model: nn.Module, loss: Loss, split: Split, *, method: str = "auto", rtol: float = 0.05, seed: int = 0
) -> Estimate:
    """Trace of the Hessian of the mean loss over the split.

    Args:
        method: "exact", "gauss-newton", "hutchinson", or "auto": exact for d up to 700, else Gauss-Newton where
            ``is_piecewise_affine`` finds it valid, else Hutchinson.
        rtol: the random estimators stop once the standard error is within this share of the value, or after 300
            passes; the standard error returned says what was reached.
        seed: of the random signs.

    Raises:
        ValueError: if the method is unknown or does not apply to this loss, or rtol is not positive.
    """
    if rtol <= 0:
        raise ValueError(f"rtol must be positive, got {rtol}")
    reason = ""
    if method == "auto":
        method, reason = _choose(model, loss, split, seed)
    if method == "exact":
        return Estimate(hessian(model, loss, split).trace().item(), 0.0, 0, "exact", reason)
    samplers: dict[str, Callable[..., float]] = {"gauss-newton": _sketch, "hutchinson": _hutchinson}
    if method not in samplers:
        raise ValueError(f"there is no trace method {method!r}; choose auto, exact, gauss-newton or hutchinson")
    if method == "gauss-newton" and not isinstance(loss, Sketchable):
        raise ValueError(f"{type(loss).__name__} has no Gauss-Newton sketch; use method='hutchinson'")
    value, error, probes = _sample(samplers[method], model, loss, split, rtol, seed)
    return Estimate(value, error, probes, method, reason)


def _choose(model: nn.Module, loss: Loss, split: Split, seed: int) -> tuple[str, str]:
    d = sum(p.numel() for p in trainable(model))
    if d <= EXACT_LIMIT:
        return "exact", f"d = {d} is small"
    if not isinstance(loss, Sketchable):
        return "hutchinson", f"{type(loss).__name__} has no Gauss-Newton sketch"
    affine, reason = is_piecewise_affine(model, split, seed=seed)
    return ("gauss-newton" if affine else "hutchinson"), reason


def _sample(
    sampler: Callable[..., float], model: nn.Module, loss: Loss, split: Split, rtol: float, seed: int
) -> tuple[float, float, int]:
    """Passes over all batches until the standard error is small enough: value, standard error, passes."""
    generator = torch.Generator(trainable(model)[0].device).manual_seed(seed)
    rows: list[list[float]] = []
    while True:
        rows.append([sampler(model, loss, batch, generator) for batch in batches(model, split, SKETCH_BATCH)])
        if (len(rows) - 1) * len(rows[0]) < DEGREES_OF_FREEDOM:  # the spread itself is too uncertain to stop on
            continue
        samples = torch.tensor(rows, dtype=torch.float64) / len(split)  # (passes, batches)
        value = samples.sum(1).mean().item()
        # batches are independent given the weights, so the variances of their means add up
        error = (samples.var(0).sum() / len(rows)).sqrt().item()
        if error <= rtol * abs(value) or len(rows) >= MOST_PASSES:
            return value, error, len(rows)


def _signs(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, shape, generator=generator, device=like.device).to(like.dtype) * 2 - 1


def _sketch(model: nn.Module, loss: Sketchable, batch: Split, generator: torch.Generator) -> float:
    """|grad sum_i s_i|^2, unbiased for the sum of the examples' Gauss-Newton traces (losses.Sketchable)."""
    outputs = model(batch.inputs)
    outputs = outputs.reshape(len(outputs), -1)
    signs = _signs(tuple(outputs.shape), outputs, generator)
    return derivative(loss.sketch(outputs, batch.targets, signs).sum(), trainable(model)).square().sum().item()


def _hutchinson(model: nn.Module, loss: Loss, batch: Split, generator: torch.Generator) -> float:
    """v^T H v for the Hessian H of the batch's summed loss and random signs v."""
    parameters = trainable(model)
    value = loss(model(batch.inputs), batch.targets).sum()
    slopes = torch.autograd.grad(value, parameters, create_graph=True, materialize_grads=True)
    signs = [_signs(tuple(p.shape), p, generator) for p in parameters]
    return torch.dot(derivative(inner(slopes, signs), parameters), flat(signs)).item()


def is_piecewise_affine(
    model: nn.Module, split: Split, *, examples: int = 8, tensors: int = 8, seed: int = 0
) -> tuple[bool, str]:
    """Whether each weight tensor enters the outputs piecewise affinely, by a randomised check; and a reason.

    If the outputs f are affine in one weight tensor P (all others fixed), then the P-block of the Hessian of <r, f>
    vanishes for every constant r. The check takes random r and random directions within single tensors, and looks at
    that block of the product: zero for ReLU networks with convolutions, residuals and BatchNorm in evaluation mode,
    not zero upstream of a smooth activation, or for a tensor that is used twice. It tries the first weight tensors of
    the model, upstream of everything else, and random others; a "yes" is therefore evidence, a "no" is proof.
    """
    parameters = trainable(model)
    generator = torch.Generator().manual_seed(seed)
    first = list(range(min(tensors // 2, len(parameters))))
    others = [i for i in torch.randperm(len(parameters), generator=generator).tolist() if i not in first]
    batch = next(batches(model, split, examples))
    outputs = model(batch.inputs)
    r = torch.randn(outputs.shape, generator=generator).to(outputs)
    slopes = torch.autograd.grad((r * outputs).sum(), parameters, create_graph=True, materialize_grads=True)
    for chosen in [*first, *others][:tensors]:
        tensor, slope = parameters[chosen], slopes[chosen]
        direction = torch.randn(tensor.shape, generator=generator).to(tensor)
        along = (slope * direction).sum()
        if not along.requires_grad:
            continue
        products = torch.autograd.grad(along, parameters, retain_graph=True, materialize_grads=True)
        own, all_of_it = products[chosen].norm(), flat(products).norm()
        if own > 100 * torch.finfo(own.dtype).eps * (all_of_it + slope.norm()):
            name = next(name for name, p in model.named_parameters() if p is tensor)
            return (
                False,
                f"the outputs are not affine in {name!r}, so Tr H differs from the Gauss-Newton trace",
            )
    return (
        True,
        "the outputs are piecewise affine in every weight tensor tried, so Tr H equals the Gauss-Newton trace",
    )
