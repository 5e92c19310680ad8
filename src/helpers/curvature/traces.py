"""The trace of the Hessian of the mean loss, and the difference of two, with standard errors.

Three ways. *Exact*: the diagonal of the dense Hessian, for small d. *Gauss-Newton*: where every scalar weight enters
the outputs piecewise affinely (``affine``), the diagonal of the Hessian equals that of the Gauss-Newton matrix almost
everywhere. Its trace is a mean over examples of squared gradient norms, one for each class, which one backward pass a
class gives for a whole batch (``per_example``); or, with random signs on the outputs, one backward pass for all
classes, whose only noise is that between the classes of one example. *Hutchinson*: v^T H v for random signs v, one
Hessian-vector product a sample, for any network.

Both random estimators draw independent signs for every batch, so the spread within each batch gives a standard error
with many degrees of freedom after two samples.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil, inf, isfinite

import torch
from scipy.special import ndtri, stdtrit
from torch import Tensor, nn

from helpers._checks import positive, whole
from helpers.curvature.affine import is_piecewise_affine
from helpers.curvature.batches import over_batches
from helpers.curvature.contracts import admitted, on_model, precise
from helpers.curvature.per_example import squared_norms
from helpers.curvature.products import Estimate, hessian, summed_product
from helpers.data import Split
from helpers.losses import Loss, Sketchable
from helpers.models import flat, outputs, trainable

DENSE_TRACE = 700  # weights up to which "auto" takes the diagonal of the dense Hessian
FEW_TERMS = 64  # examples times classes up to which sampling is not worth its noise
TRACE_BATCH = 32
BELIEVED_ZERO = 10  # samples that must agree before their spread of zero is taken for an error of zero
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
            class by class, which is cheaper than more samples than classes).
        tolerance: the standard error to stop at as a function of the value, where that is not ``rtol`` times it.
        most_probes: samples, of which the first two are always taken. With 1, the standard error is from the spread
            of the one sample between examples (between batches for Hutchinson), which bounds it from above: it counts
            how examples differ, as the error of a population's trace does.
        seed: of the random signs.

    Raises:
        ValueError: if the method is unknown or does not apply to this loss, rtol is not positive, most_probes is below
            1, or the trace is not finite.
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


@precise
def choose_method(model: nn.Module, loss: Loss, split: Split, *, seed: int = 0) -> tuple[str, str]:
    """The trace method that "auto" stands for, and why. It depends on the architecture, not on the weights."""
    d = sum(p.numel() for p in trainable(model))
    if d <= DENSE_TRACE:
        return "exact", f"d = {d} is small"
    if not isinstance(loss, Sketchable):
        return "hutchinson", f"{type(loss).__name__} has no Gauss-Newton sketch"
    affine, reason = is_piecewise_affine(model, split, seed=seed)
    return ("gauss-newton" if affine else "hutchinson"), reason


def _relative(rtol: float) -> Tolerance:
    positive("rtol", rtol)
    return lambda value: rtol * abs(value)


@precise
def _estimate(
    model: nn.Module, loss: Loss, terms: Terms, method: str, tolerance: Tolerance, most: int, seed: int
) -> Estimate:
    whole("most_probes", most)
    terms = [(factor, admitted(model, loss, split)) for factor, split in terms]
    reason = ""
    if method == "auto":
        method, reason = choose_method(model, loss, terms[0][1], seed=seed)
    if method == "exact":
        value = sum(factor * hessian(model, loss, split).trace().item() for factor, split in terms)
        return Estimate(value, 0.0, 0, "exact", reason)
    generator = torch.Generator(trainable(model)[0].device).manual_seed(seed)
    if method == "hutchinson":
        if most == 1:
            return Estimate(*_single([_hutchinson(model, loss, terms, generator)[0]]), method, reason)
        return Estimate(*_sample(partial(_hutchinson, model, loss, terms, generator), tolerance, most), method, reason)
    if method != "gauss-newton":
        raise ValueError(f"there is no trace method {method!r}; choose auto, exact, gauss-newton or hutchinson")
    if not isinstance(loss, Sketchable):
        raise ValueError(f"{type(loss).__name__} has no Gauss-Newton sketch; use method='hutchinson'")
    exact = partial(_class_by_class, model, loss, terms)
    classes = outputs(model, on_model(model, terms[0][1], slice(1)).inputs).numel()
    if classes <= 2 or classes * sum(len(split) for _, split in terms) <= FEW_TERMS:
        return Estimate(exact(), 0.0, 0, method, reason)
    if most == 1:
        return Estimate(*_single(_sketched(model, loss, terms, generator, 1)), method, reason)
    sweep = partial(_sketches, model, loss, terms, generator)
    return Estimate(*_sample(sweep, tolerance, most, exact, classes), method, reason)


# --- When to stop -----------------------------------------------------------------------------------------------------


def _sample(
    sweep: Sweep, tolerance: Tolerance, most: int, exact: Callable[[], float] | None = None, worth: float = inf
) -> tuple[float, float, int]:
    """Sweeps until the standard error is small enough, ``most`` samples at most: value, standard error, samples.

    Where more than ``worth`` samples seem to be needed, and as many are allowed, ``exact`` is called instead.

    An error that was itself estimated from few numbers is not believed when it is small: it is first widened by the
    ratio of the 99% quantiles of Student's t and of the normal distribution, and an error of zero only counts after
    ten samples, for two may agree by chance. If the error is too large, as many samples are added as it asks for, so
    that there are few looks at it, and few occasions to stop on a lucky one.
    """
    samples, wanted = sweep(), 2
    while True:
        while len(samples) < wanted:
            samples = torch.cat([samples, sweep()])
        value, error, freedom = _summary(samples)
        if not isfinite(value):
            raise ValueError("the trace is not finite; the weights or the loss diverged")
        widened, allowed = error * float(stdtrit(freedom, 0.995) / NORMAL_QUANTILE), tolerance(value)
        believed = error > 0 or len(samples) >= BELIEVED_ZERO
        if len(samples) >= most or (believed and widened <= allowed):
            return value, error, len(samples)
        growth = (widened / allowed) ** 2 if allowed > 0 else inf
        if exact is not None and believed and min(growth * len(samples), most) > worth:
            return exact(), 0.0, len(samples)
        wanted = min(ceil(min(growth, 4.0) * len(samples)) if believed else BELIEVED_ZERO, most)


def _single(parts: Sequence[Tensor]) -> tuple[float, float, int]:
    """Value, standard error and number of one sample, from the independent parts of each term, each (m,) or (1, m).

    The spread between the parts of a term is that of their noise and of what they estimate; it is charged whole.
    """
    value = sum(part.sum().item() for part in parts)
    if not isfinite(value):
        raise ValueError("the trace is not finite; the weights or the loss diverged")
    return value, sum(part.numel() * part.var().item() for part in parts) ** 0.5, 1


def _summary(samples: Tensor) -> tuple[float, float, float]:
    """Value, standard error and its degrees of freedom, from samples (m, parts) that are independent.

    The variances of the parts add up; the degrees of freedom of the sum are Satterthwaite's.
    """
    variances = samples.var(0)
    value, total_variance = samples.sum(1).mean().item(), variances.sum().item()
    if total_variance == 0:
        return value, 0.0, float(len(samples) - 1)
    freedom = (len(samples) - 1) * total_variance**2 / variances.square().sum().item()
    return value, (total_variance / len(samples)) ** 0.5, freedom


# --- The two estimators -----------------------------------------------------------------------------------------------


def _signs(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, tuple(shape), generator=generator, device=like.device).to(like.dtype) * 2 - 1


def _sketches(model: nn.Module, loss: Sketchable, terms: Terms, generator: torch.Generator) -> Tensor:
    """Two samples for every example from one forward pass: |grad s_i|^2 with random signs (losses.Sketchable).

    Each is unbiased for the example's Gauss-Newton trace. Shape (2, examples of all terms), float64.
    """
    return torch.cat(_sketched(model, loss, terms, generator, 2), dim=1)


def _sketched(
    model: nn.Module, loss: Sketchable, terms: Terms, generator: torch.Generator, count: int
) -> list[Tensor]:
    """``count`` samples for every example of each term: (count, examples of the term), which add up to the term."""

    def sketches(rows: Tensor, targets: Tensor) -> list[Tensor]:
        return [loss.sketch(rows, targets, _signs(rows.shape, rows, generator)) for _ in range(count)]

    return [_norms(model, split, sketches) * (factor / len(split)) for factor, split in terms]


def _class_by_class(model: nn.Module, loss: Sketchable, terms: Terms) -> float:
    """The Gauss-Newton traces themselves: with a single sign, a sketch is one term of the sum over classes."""

    def each_class(rows: Tensor, targets: Tensor) -> list[Tensor]:
        signs = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
        return [loss.sketch(rows, targets, sign.expand(rows.shape)) for sign in signs]

    return sum(factor * _norms(model, split, each_class).sum().item() / len(split) for factor, split in terms)


def _norms(model: nn.Module, split: Split, sketches: Callable[[Tensor, Tensor], list[Tensor]]) -> Tensor:
    """Squared gradient norms of every sketch of every example: (sketches, n), float64, on the processor."""

    def work(batch: Split) -> Tensor:
        return squared_norms(model, batch, lambda rows: sketches(rows, batch.targets))

    return torch.cat([part.double().cpu() for part in over_batches(work, model, split, TRACE_BATCH)], dim=1)


def _hutchinson(model: nn.Module, loss: Loss, terms: Terms, generator: torch.Generator) -> Tensor:
    """One sample v^T H v for each batch, with random signs v; terms share v batch by batch."""
    like = flat(trainable(model))
    count = min(ceil(max(len(split) for _, split in terms) / TRACE_BATCH), *(len(split) for _, split in terms))
    columns = []
    for parts in zip(*(_parts(split, count) for _, split in terms), strict=True):
        v = _signs(like.shape, like, generator)
        for (factor, split), part in zip(terms, parts, strict=True):
            columns.append(factor / len(split) * torch.dot(v, summed_product(model, loss, part, v)))
    return torch.stack(columns).reshape(1, count, len(terms)).sum(2).double().cpu()


def _parts(split: Split, count: int) -> list[Split]:
    """The split in ``count`` consecutive parts whose sizes differ by one at most."""
    return [split.take(rows) for rows in torch.arange(len(split)).tensor_split(count)]
