"""The trace of the Hessian of the mean loss, and the difference of two, with standard errors.

Three ways. *Exact*: the diagonal of the dense Hessian, for small d. *Gauss-Newton*: where every scalar weight enters
the outputs piecewise affinely (``affine``), the diagonal of the Hessian equals that of the Gauss-Newton matrix almost
everywhere. Its trace is a mean over examples of squared gradient norms, one for each class, which one backward pass a
class gives for a whole batch (``per_example``); or, with random signs on the outputs, one backward pass for all
classes, whose only noise is that between the classes of one example. *Hutchinson*: v^T H v for random signs v, one
Hessian-vector product a sample, for any network.

Both random estimators draw independent signs for every batch, so the spread within each batch gives a standard error
with many degrees of freedom after two samples. A sample of one batch has one: ``Estimate.uncertainty`` widens the error
for it, and ``Estimate.standard_error`` does not.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil, inf, isfinite

import torch
from torch import Tensor, nn

from helpers._checks import positive, seed_of, whole
from helpers._generators import generator_from
from helpers.curvature.affine import is_piecewise_affine
from helpers.curvature.batches import over_batches
from helpers.curvature.contracts import on_model, twice_differentiable
from helpers.curvature.estimates import Estimate, widening
from helpers.curvature.per_example import SquaredNorms
from helpers.curvature.precision import precise
from helpers.curvature.products import hessian, summed_product
from helpers.data import Split
from helpers.losses import Loss, Sketchable
from helpers.models import flat, layers, outputs, trainable

DENSE_TRACE = 700  # weights up to which "auto" takes the diagonal of the dense Hessian
FEW_TERMS = 64  # examples times classes up to which sampling is not worth its noise
TRACE_BATCH = 32
BELIEVED_ZERO = 30  # samples that must agree before their spread of zero is taken for an error of zero
MOST_SAMPLES = 300
SURE = 0.995  # quantile at which the error that ends the sampling is compared

Terms = Sequence[tuple[float, Split]]  # the splits whose traces are added up, each with its factor
Tolerance = Callable[[float], float]
Sweep = Callable[[], Tensor]  # new samples: (samples, batches, layers), rows independent, each adding up to an estimate


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
        most_probes: samples, at least 1. With 1, the standard error is from the spread between examples (between
            batches for Hutchinson, of which there must be two), which bounds it from above: it counts how examples
            differ, as the error of a population's trace does. Samples that agree exactly are taken on to 30 all the
            same, since an error of zero must not be chance. An error of few samples is itself uncertain: for that the
            result's ``uncertainty`` is widened, its ``standard_error`` is not.
        seed: of the random signs.

    Raises:
        ValueError: if the method is unknown or does not apply to this loss, rtol is not positive, most_probes is below
            1, or the trace is not finite.
    """
    return _estimate(model, loss, [(1.0, split)], method, _tolerance(rtol, tolerance), most_probes, seed)


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
    return _estimate(model, loss, [(1.0, left), (-1.0, right)], method, _tolerance(rtol, tolerance), most_probes, seed)


def trace_by_layer(
    model: nn.Module,
    loss: Loss,
    split: Split,
    *,
    method: str = "auto",
    rtol: float = 0.05,
    most_probes: int = MOST_SAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Trace of each layer's block of the Hessian of the mean loss, by the layer's name (``models.layers``).

    The values add up to ``trace`` with the same arguments and cost no more: all layers share the samples, which end
    where the standard error of the *sum* is within ``rtol`` of it. A small layer's own standard error may be a larger
    share of its value. The errors of two layers are not independent. Errors raised as in ``trace``.
    """
    samples, probes, method, reason = _measured(
        model, loss, [(1.0, split)], method, _tolerance(rtol), most_probes, seed
    )
    return {
        name: _as_estimate(samples[:, :, column], probes, method, reason) for column, name in enumerate(layers(model))
    }


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


def _tolerance(rtol: float, tolerance: Tolerance | None = None) -> Tolerance:
    positive("rtol", rtol)
    if tolerance is not None:
        if not callable(tolerance):
            raise ValueError(
                f"tolerance must be a function of the value, got a {type(tolerance).__name__}; or give rtol"
            )
        return tolerance
    return lambda value: rtol * abs(value)


def _estimate(
    model: nn.Module, loss: Loss, terms: Terms, method: str, tolerance: Tolerance, most: int, seed: int
) -> Estimate:
    samples, probes, method, reason = _measured(model, loss, terms, method, tolerance, most, seed)
    return _as_estimate(samples.sum(2), probes, method, reason)


def _as_estimate(samples: Tensor, probes: int, method: str, reason: str) -> Estimate:
    """From samples (m, parts); without probes the single one is no sample but the value."""
    value, error, freedom = _summary(samples) if probes else (samples.sum().item(), 0.0, inf)
    return Estimate(value, error, probes, method, reason, freedom)


@precise
def _measured(
    model: nn.Module, loss: Loss, terms: Terms, method: str, tolerance: Tolerance, most: int, seed: int
) -> tuple[Tensor, int, str, str]:
    """Samples (probes, parts, layers), their number, the method and why; an exact value is (1, 1, layers), 0 probes."""
    whole("most_probes", most)
    seed = seed_of(seed)
    terms = [(factor, twice_differentiable(model, loss, split)) for factor, split in terms]
    reason = ""
    if method == "auto":
        method, reason = choose_method(model, loss, terms[0][1], seed=seed)
    if method == "exact":
        diagonals = [factor * hessian(model, loss, split).diagonal().double().cpu() for factor, split in terms]
        return _layer_sums(model, torch.stack(diagonals).sum(0))[None, None], 0, "exact", reason
    generator = generator_from(seed, trainable(model)[0].device)
    if method == "hutchinson":
        return *_sample(partial(_hutchinson, model, loss, terms, generator), tolerance, most), method, reason
    if method != "gauss-newton":
        raise ValueError(f"there is no trace method {method!r}; choose auto, exact, gauss-newton or hutchinson")
    if not isinstance(loss, Sketchable):
        raise ValueError(f"{type(loss).__name__} has no Gauss-Newton sketch; use method='hutchinson'")
    exact = partial(_class_by_class, model, loss, terms)
    classes = outputs(model, on_model(model, terms[0][1], slice(1)).inputs).numel()
    if classes <= 2 or classes * sum(len(split) for _, split in terms) <= FEW_TERMS:
        return exact(), 0, method, reason
    sweep = partial(_sketches, model, loss, terms, generator, min(most, 2))
    return *_sample(sweep, tolerance, most, exact, classes), method, reason


# --- When to stop -----------------------------------------------------------------------------------------------------


def _sample(
    sweep: Sweep, tolerance: Tolerance, most: int, exact: Callable[[], Tensor] | None = None, break_even: float = inf
) -> tuple[Tensor, int]:
    """Sweeps until the standard error of the whole is small enough, ``most`` samples at most: them and their number.

    Where more than ``break_even`` samples seem to be needed, and as many are allowed, ``exact`` is called instead.

    An error that was itself estimated from few numbers is not believed when it is small: it is first widened by the
    ratio of the 99% quantiles of Student's t and of the normal distribution, and an error of zero only counts after
    ``BELIEVED_ZERO`` samples, for a few may agree by chance. If the error is too large, as many samples are added as it
    asks for, so that there are few looks at it, and few occasions to stop on a lucky one.
    """
    samples = sweep()
    most = max(most, 2) if samples.shape[1] == 1 else most
    wanted = min(most, 2)
    while True:
        while len(samples) < wanted:
            samples = torch.cat([samples, sweep()])
        value, error, freedom = _summary(samples.sum(2))
        if not isfinite(value):
            raise ValueError("the trace is not finite; the weights or the loss diverged")
        widened, allowed = error * widening(freedom, SURE), tolerance(value)
        believed = error > 0 or len(samples) >= BELIEVED_ZERO
        if believed and (len(samples) >= most or widened <= allowed):
            return samples, len(samples)
        growth = min(widened / allowed, most) ** 2 if allowed > 0 else inf
        if exact is not None and believed and min(growth * len(samples), most) > break_even:
            return exact(), 0
        wanted = min(ceil(min(growth, 4.0) * len(samples)), most) if believed else BELIEVED_ZERO


def _summary(samples: Tensor) -> tuple[float, float, float]:
    """Value, standard error and its degrees of freedom, from samples (m, parts) that are independent.

    The variances of the parts add up; the degrees of freedom of the sum are Satterthwaite's.
    """
    if len(samples) == 1:  # the spread between the parts holds their noise, and what they estimate on top
        parts = samples.shape[1]
        return samples.sum().item(), (parts * samples.var().item()) ** 0.5, float(parts - 1)
    variances = samples.var(0)
    value, total_variance = samples.sum(1).mean().item(), variances.sum().item()
    if total_variance == 0:
        return value, 0.0, float(len(samples) - 1)
    freedom = (len(samples) - 1) * total_variance**2 / variances.square().sum().item()
    return value, (total_variance / len(samples)) ** 0.5, freedom


# --- The two estimators -----------------------------------------------------------------------------------------------


def _signs(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, tuple(shape), generator=generator, device=like.device).to(like.dtype) * 2 - 1


def _sketches(model: nn.Module, loss: Sketchable, terms: Terms, generator: torch.Generator, count: int) -> Tensor:
    """Samples for every example from one forward pass: |grad s_i|^2 with random signs (losses.Sketchable).

    Each is unbiased for the example's Gauss-Newton trace. Shape (count, examples of all terms, layers), float64.
    """

    def sketches(rows: Tensor, targets: Tensor) -> list[Tensor]:
        return [loss.sketch(rows, targets, _signs(rows.shape, rows, generator)) for _ in range(count)]

    return torch.cat([_norms(model, split, sketches) * (factor / len(split)) for factor, split in terms], dim=1)


def _class_by_class(model: nn.Module, loss: Sketchable, terms: Terms) -> Tensor:
    """The Gauss-Newton traces themselves: with a single sign, a sketch is one term of the sum over classes.

    Shape (1, 1, layers).
    """

    def each_class(rows: Tensor, targets: Tensor) -> list[Tensor]:
        signs = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
        return [loss.sketch(rows, targets, sign.expand(rows.shape)) for sign in signs]

    sums = [factor / len(split) * _norms(model, split, each_class).sum((0, 1)) for factor, split in terms]
    return torch.stack(sums).sum(0)[None, None]


def _norms(model: nn.Module, split: Split, sketches: Callable[[Tensor, Tensor], list[Tensor]]) -> Tensor:
    """Squared gradient norms of every sketch of every example: (sketches, n, layers), float64, on the processor."""

    squared_norms = SquaredNorms(model)

    def work(batch: Split) -> Tensor:
        return squared_norms(batch, lambda rows: sketches(rows, batch.targets))

    return torch.cat([part.double().cpu() for part in over_batches(work, model, split, TRACE_BATCH)], dim=1)


def _hutchinson(model: nn.Module, loss: Loss, terms: Terms, generator: torch.Generator) -> Tensor:
    """One sample v * H v for each batch, with random signs v; terms share v batch by batch: (1, batches, layers)."""
    like = flat(trainable(model))
    count = min(ceil(max(len(split) for _, split in terms) / TRACE_BATCH), *(len(split) for _, split in terms))
    columns = []
    for parts in zip(*(_parts(split, count) for _, split in terms), strict=True):
        v = _signs(like.shape, like, generator)
        for (factor, split), part in zip(terms, parts, strict=True):
            products = (v * summed_product(model, loss, part, v)).double().cpu()
            columns.append(factor / len(split) * _layer_sums(model, products))
    return torch.stack(columns).reshape(1, count, len(terms), -1).sum(2)


def _layer_sums(model: nn.Module, entries: Tensor) -> Tensor:
    """Entries of the weight vector (d,), added up layer by layer: (layers,)."""
    sizes = [sum(p.numel() for p in parameters) for parameters in layers(model).values()]
    return torch.stack([part.sum() for part in entries.split(sizes)])


def _parts(split: Split, count: int) -> list[Split]:
    """The split in ``count`` consecutive parts whose sizes differ by one at most."""
    return [split.take(rows) for rows in torch.arange(len(split)).tensor_split(count)]
