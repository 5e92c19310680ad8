"""The trace of the Hessian of the mean loss, and the difference of two, with standard errors.

Three ways. *Exact*: the diagonal of the dense Hessian, for small d. *Gauss-Newton*: where every scalar weight enters
the outputs piecewise affinely, the diagonal of the Hessian equals that of the Gauss-Newton matrix almost everywhere,
and one forward and one backward pass with random signs on the outputs sample its trace; where many samples would be
needed, one backward pass for each example and class computes it without any noise. *Hutchinson*: v^T H v for random
signs v, one Hessian-vector product a sample, for any network.

Both random estimators draw independent signs for every batch. Their noise comes from cross terms: between classes and
between examples of a batch (Gauss-Newton), between coordinates (Hutchinson). Independent draws average it out as they
go, and the spread within each batch gives a standard error with many degrees of freedom after two samples.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil, inf, isfinite

import torch
from scipy.special import ndtri, stdtrit
from torch import Tensor, nn

from helpers.curvature.products import (
    BatchProduct,
    Estimate,
    batch_product,
    batches,
    flat,
    hessian,
    summed_product,
)
from helpers.data import Split
from helpers.losses import Loss, Sketchable
from helpers.models import trainable

EXACT_LIMIT = 700
HUTCHINSON_BATCH = 64
MOST_SAMPLES = 300
NORMAL_QUANTILE = float(ndtri(0.995))

Terms = Sequence[tuple[float, Split]]  # the splits whose traces are added up, each with its factor
Tolerance = Callable[[float], float]
Sweep = Callable[[], Tensor]  # new samples: (samples, batches), rows independent, each adding up to an estimate


def trace(
    model: nn.Module,
    loss: Loss,
    split: Split,
    *,
    method: str = "auto",
    rtol: float = 0.05,
    tolerance: Tolerance | None = None,
    most_probes: int = MOST_SAMPLES,
    seed: int = 0,
) -> Estimate:
    """Trace of the Hessian of the mean loss over the split.

    Args:
        method: "exact", "gauss-newton", "hutchinson", or "auto": exact for d up to 700, else Gauss-Newton where
            ``is_piecewise_affine`` finds it valid, else Hutchinson.
        rtol: the random estimators stop once the standard error is within this share of the value, or after
            ``most_probes`` samples; the standard error returned says what was reached (0 where Gauss-Newton was summed
            example by example, which is cheaper than many samples).
        tolerance: the standard error to stop at as a function of the value, where that is not ``rtol`` times it.
        most_probes: samples, of which the first two are always taken.
        seed: of the random signs.

    Raises:
        ValueError: if the method is unknown or does not apply to this loss, rtol is not positive, most_probes is below
            2, or the trace is not finite.
    """
    return _estimate(model, loss, [(1.0, split)], method, tolerance or _relative(rtol), most_probes, seed)


def trace_difference(
    model: nn.Module,
    loss: Loss,
    left: Split,
    right: Split,
    *,
    method: str = "auto",
    rtol: float = 0.05,
    tolerance: Tolerance | None = None,
    most_probes: int = MOST_SAMPLES,
    seed: int = 0,
) -> Estimate:
    """Trace over ``left`` minus trace over ``right``, stopped on the accuracy of the difference itself.

    Hutchinson probes are shared by a batch of one and a batch of the other, so what the two Hessians have in common
    leaves no noise. Arguments and errors as in ``trace``.
    """
    return _estimate(model, loss, [(1.0, left), (-1.0, right)], method, tolerance or _relative(rtol), most_probes, seed)


def choose_method(model: nn.Module, loss: Loss, split: Split, *, seed: int = 0) -> tuple[str, str]:
    """The trace method that "auto" stands for, and why. It depends on the architecture, not on the weights."""
    d = sum(p.numel() for p in trainable(model))
    if d <= EXACT_LIMIT:
        return "exact", f"d = {d} is small"
    if not isinstance(loss, Sketchable):
        return "hutchinson", f"{type(loss).__name__} has no Gauss-Newton sketch"
    affine, reason = is_piecewise_affine(model, split, seed=seed)
    return ("gauss-newton" if affine else "hutchinson"), reason


def _relative(rtol: float) -> Tolerance:
    if rtol <= 0:
        raise ValueError(f"rtol must be positive, got {rtol}")
    return lambda value: rtol * abs(value)


def _estimate(
    model: nn.Module, loss: Loss, terms: Terms, method: str, tolerance: Tolerance, most: int, seed: int
) -> Estimate:
    if most < 2:
        raise ValueError(f"most_probes must be at least 2, or there is no standard error; got {most}")
    reason = ""
    if method == "auto":
        method, reason = choose_method(model, loss, terms[0][1], seed=seed)
    if method == "exact":
        value = sum(factor * hessian(model, loss, split).trace().item() for factor, split in terms)
        return Estimate(value, 0.0, 0, "exact", reason)
    generator = torch.Generator(trainable(model)[0].device).manual_seed(seed)
    sweep: Sweep
    if method == "hutchinson":
        sweep = partial(_hutchinson, model, loss, terms, batch_product(model, terms[0][1]), generator)
    elif method != "gauss-newton":
        raise ValueError(f"there is no trace method {method!r}; choose auto, exact, gauss-newton or hutchinson")
    elif isinstance(loss, Sketchable):
        outputs = next(batches(model, terms[0][1], 1)).inputs
        sweep = partial(_sketches, model, loss, terms, generator)
        worth = _sketch_batch(model) * model(outputs).numel() / 4
        exact = partial(_class_by_class, model, loss, terms)
        return Estimate(*_sample(sweep, tolerance, most, exact, worth), method, reason)
    else:
        raise ValueError(f"{type(loss).__name__} has no Gauss-Newton sketch; use method='hutchinson'")
    return Estimate(*_sample(sweep, tolerance, most), method, reason)


# --- When to stop -----------------------------------------------------------------------------------------------------


def _sample(
    sweep: Sweep, tolerance: Tolerance, most: int, exact: Callable[[], float] | None = None, worth: float = inf
) -> tuple[float, float, int]:
    """Sweeps until the standard error is small enough, ``most`` samples at most: value, standard error, samples.

    Where more than ``worth`` samples seem to be needed, and as many are allowed, ``exact`` is called instead.

    An error that was itself estimated from few numbers is not believed when it is small: it is first widened by the
    ratio of the 99% quantiles of Student's t and of the normal distribution. If it is too large, as many samples are
    added as it asks for, so that there are few looks at the error, and few occasions to stop on a lucky one.
    """
    samples, wanted = sweep(), 2
    while True:
        while len(samples) < wanted:
            samples = torch.cat([samples, sweep()])
        value, error, freedom = _summary(samples)
        if not isfinite(value):
            raise ValueError("the trace is not finite; the weights or the loss diverged")
        widened, allowed = error * float(stdtrit(freedom, 0.995) / NORMAL_QUANTILE), tolerance(value)
        if error == 0 or widened <= allowed or len(samples) >= most:
            return value, error, len(samples)
        growth = (widened / allowed) ** 2 if allowed > 0 else inf
        if exact is not None and min(growth * len(samples), most) > worth:
            return exact(), 0.0, len(samples)
        wanted = min(ceil(min(growth, 4.0) * len(samples)), most)


def _summary(samples: Tensor) -> tuple[float, float, float]:
    """Value, standard error and its degrees of freedom, from samples (m, batches) that are independent.

    The variances of the batches add up; the degrees of freedom of the sum are Satterthwaite's.
    """
    variances = samples.var(0)
    freedom = (len(samples) - 1) * variances.sum() ** 2 / variances.square().sum()
    return samples.sum(1).mean().item(), (variances.sum() / len(samples)).sqrt().item(), freedom.item()


# --- The two estimators -----------------------------------------------------------------------------------------------


def _signs(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, tuple(shape), generator=generator, device=like.device).to(like.dtype) * 2 - 1


def _sketches(model: nn.Module, loss: Sketchable, terms: Terms, generator: torch.Generator) -> Tensor:
    """Two samples for each batch from one forward pass: |grad sum_i s_i|^2 with random signs (losses.Sketchable).

    Each is unbiased for the sum of the examples' Gauss-Newton traces.
    """
    columns = []
    for factor, split in terms:
        for batch in batches(model, split, _sketch_batch(model)):
            outputs = model(batch.inputs)
            outputs = outputs.reshape(len(outputs), -1)
            for _ in range(2):
                sketch = loss.sketch(outputs, batch.targets, _signs(outputs.shape, outputs, generator)).sum()
                columns.append(factor / len(split) * _squared_slope(sketch, model))
    return torch.stack(columns).reshape(-1, 2).T.double().cpu()


def _sketch_batch(model: nn.Module) -> int:
    """Examples that share a backward pass: with 8, cross terms between examples add little to those between classes.

    An accelerator gains more from fewer, larger batches.
    """
    return 8 if trainable(model)[0].device.type == "cpu" else 32


def _class_by_class(model: nn.Module, loss: Sketchable, terms: Terms) -> float:
    """The Gauss-Newton traces themselves: with a single sign, a sketch is one term of the sum over classes."""
    value = 0.0
    for factor, split in terms:
        squares = []
        for batch in batches(model, split, 1):
            outputs = model(batch.inputs).reshape(1, -1)
            for sign in torch.eye(outputs.shape[1], dtype=outputs.dtype, device=outputs.device):
                squares.append(_squared_slope(loss.sketch(outputs, batch.targets, sign[None]).sum(), model))
        value += factor * torch.stack(squares).double().sum().item() / len(split)
    return value


def _squared_slope(scalar: Tensor, model: nn.Module) -> Tensor:
    """|gradient of a scalar in the weights|^2, keeping its graph."""
    slopes = torch.autograd.grad(scalar, trainable(model), retain_graph=True, materialize_grads=True)
    return torch.stack([torch.linalg.vector_norm(slope) for slope in slopes]).square().sum()


def _hutchinson(
    model: nn.Module,
    loss: Loss,
    terms: Terms,
    product: BatchProduct,
    generator: torch.Generator,
) -> Tensor:
    """One sample v^T H v for each batch, with random signs v; terms share v batch by batch."""
    like = flat(trainable(model))
    count = min(ceil(max(len(split) for _, split in terms) / HUTCHINSON_BATCH), *(len(split) for _, split in terms))
    columns = []
    for parts in zip(*(_parts(split, count) for _, split in terms), strict=True):
        v = _signs(like.shape, like, generator)
        for (factor, split), part in zip(terms, parts, strict=True):
            columns.append(factor / len(split) * torch.dot(v, summed_product(product, model, loss, part, v)))
    return torch.stack(columns).reshape(1, count, len(terms)).sum(2).double().cpu()


def _parts(split: Split, count: int) -> list[Split]:
    """The split in ``count`` consecutive parts whose sizes differ by one at most."""
    return [split.take(rows) for rows in torch.arange(len(split)).tensor_split(count)]


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
