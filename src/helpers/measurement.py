"""What every bound asks of k runs: their losses, their traces, the isotropic bounds, and what speaks against a number.

Whoever puts bounds side by side stands on this: ``comparison`` for runs of a reader's own, the experiments for the rows
of an artefact, the laboratory for the page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum, hypot, isfinite, sqrt
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from helpers import omniscient, wang_mao
from helpers._generators import run_seed
from helpers.curvature import Estimate, pooled_freedom, trace, values
from helpers.data import Split
from helpers.losses import Loss, clipped_share

MOST_CLIPPED = 0.05  # share of examples at W + Delta; clipped ones have no gradient, so flatness there is destruction
MOST_NOISE = 1.0  # noise over weights; beyond, the Taylor step of the flatness term is not credible
MOST_TRACE_ERROR = 0.5  # standard error of a trace term over the term ...
LEAST_EFFECT = 0.05  # ... unless it moves the bound by less than this share of its value


@dataclass(frozen=True)
class Roles:
    """Disjoint data for k runs.

    Attributes:
        train: k training samples of n examples.
        val, val2: held-out examples that build the omniscient perturbation, and others that evaluate it.
        test: examples that show the gap.
    """

    train: list[Split]
    val: Split
    val2: Split
    test: Split


class Recorded(Protocol):
    """What the isotropic bounds read of a ``training.Run``: steps T, dispersion, and that of each step, (T,)."""

    @property
    def steps(self) -> int: ...
    @property
    def dispersion(self) -> float: ...
    @property
    def step_dispersion(self) -> Tensor: ...


def losses_by_run(models: Sequence[nn.Module], splits: Sequence[Split], loss: Loss) -> Tensor:
    """Mean loss of each run over its split, (k,), float64."""
    return torch.stack(
        [values(model, loss, split).double().mean() for model, split in zip(models, splits, strict=True)]
    )


@dataclass(frozen=True)
class Traces:
    """Traces of the Hessian at the weights of k runs.

    Attributes:
        training: of each run's training loss.
        held_out: of the loss on the same held-out examples.
    """

    training: tuple[Estimate, ...]
    held_out: tuple[Estimate, ...]

    @classmethod
    def of(cls, runs: omniscient.Runs, held_out: Split, *, seed: int = 0, **probing: Any) -> "Traces":
        """Both for every run, with probes of its own; ``probing`` goes to ``curvature.trace``."""
        training, outside = [], []
        for run, (model, sample) in enumerate(runs):
            options = probing | {"seed": run_seed(seed, run)}
            training.append(trace(model, runs.loss, sample, **options))
            outside.append(trace(model, runs.loss, held_out, **options))
        return cls(tuple(training), tuple(outside))

    @property
    def mean_training(self) -> Estimate:
        """Mean over runs; the error is that of the random estimators alone."""
        return _mean(self.training)

    @property
    def mean_held_out(self) -> Estimate:
        """Mean over runs; the error is that of the random estimators alone."""
        return _mean(self.held_out)


def _mean(estimates: Sequence[Estimate]) -> Estimate:
    k = len(estimates)
    error = hypot(*(one.standard_error for one in estimates)) / k
    freedom = pooled_freedom([one.standard_error**2 for one in estimates], [one.freedom for one in estimates])
    return Estimate(sum(one.value for one in estimates) / k, error, k, estimates[0].method, freedom=freedom)


@dataclass(frozen=True)
class IsotropicBounds:
    """The bounds that know only dispersion and traces; those that take the training trace are None where it is < 0.

    Attributes:
        closed_form: Wang & Mao (2022), eq. 3, with the trace on training data, as its authors take it.
        logarithmic: eq. 2, the tighter logarithmic form with the same flatness term.
        neu: Lemma 2 of Neu et al. with constant 2, the cross-run dispersion in the place of its own, and no
            sensitivity, which would only raise it: by algebra 2^{1/3} times eq. 3.
        closed_form_difference: eq. 3 with the difference of the traces, as the theorem behind it allows.
        end_point, end_point_difference: of final weights alone (Peng et al. without a perturbation), with the size of
            the training trace, and with the difference.
    """

    closed_form: wang_mao.Isotropic | None
    logarithmic: wang_mao.Isotropic | None
    neu: wang_mao.Isotropic | None
    closed_form_difference: wang_mao.Isotropic
    end_point: wang_mao.Isotropic
    end_point_difference: wang_mao.Isotropic

    @classmethod
    def of(cls, run: Recorded, runs: omniscient.Runs, training: float, held_out: float) -> "IsotropicBounds":
        """From what the runs recorded on their way, and the mean traces on training and held-out data."""
        sizes: dict[str, Any] = {"n": runs.n, "steps": run.steps, "R": runs.R}
        difference, d = training - held_out, runs.weights.shape[1]
        closed_form = logarithmic = neu = None
        if training >= 0:
            closed_form = wang_mao.closed_form(run.dispersion, training, **sizes)
            logarithmic = wang_mao.log_form(run.step_dispersion.tolist(), training, n=runs.n, R=runs.R, d=d)
            neu = wang_mao.closed_form(2 * run.dispersion, training, **sizes)
        return cls(
            closed_form,
            logarithmic,
            neu,
            wang_mao.closed_form(run.dispersion, abs(difference), **sizes),
            wang_mao.terminal(runs.models, training, **sizes),
            wang_mao.terminal(runs.models, difference, **sizes),
        )


@dataclass(frozen=True)
class TraceTerm:
    """What stands in for the trace of a bound: of each run, (k,), the error of its mean, and the share that clips."""

    by_run: Tensor
    error: float
    clipped: float


def clipped_shares(runs: omniscient.Runs, held_out: Split) -> tuple[float, float]:
    """Mean share over runs of the examples that cost the full clip: of their own samples, and of these with others."""
    own, both = [], []
    for model, sample in runs:
        losses = [values(model, runs.loss, split) for split in (sample, held_out)]
        own.append(clipped_share(losses[0], runs.loss))
        both.append(clipped_share(torch.cat(losses), runs.loss))
    return fsum(own) / len(own), fsum(both) / len(both)


def error_over_runs(bound: wang_mao.Isotropic, traces: Tensor, squares: Tensor | None = None) -> float:
    """Standard error of an isotropic bound at its best noise, by the delta method.

    At that noise a change of the trace moves the flatness term in proportion, and one of the dispersion the square of
    the trajectory term; that the noise moves too is of second order.

    Args:
        traces: of each run, (k,), k >= 2; their mean is the bound's.
        squares: numbers (k,) whose mean is proportional to the dispersion; the dispersion is taken as it is without.
    """

    def share(numbers: Tensor | None, term: float) -> Tensor:
        if numbers is None or term == 0:
            return torch.zeros_like(traces)
        return term * numbers / numbers.mean()

    spread = share(traces, bound.flatness) + share(squares, bound.trajectory / 2)
    return spread.std().item() / sqrt(len(spread))


def noise_to_weight(sigma: float, steps: int, W: Tensor) -> float:
    """sigma sqrt(T d) over the mean length of the runs' weights ``W``, (k, d)."""
    return float(sigma * steps**0.5 * W.shape[1] ** 0.5 / W.norm(dim=1).mean().item())


def warnings(point: Mapping[str, Any]) -> list[str]:
    """What speaks against a conclusion from one bound, in words; none if it may be used.

    Args:
        point: a bound as rows hold it: of ``omniscient`` or ``self_certified``, or an isotropic one with its noise.

    Raises:
        ValueError: if the point does not say how large its noise is: then it is no such bound.
    """
    if "noise_to_weight" not in point:
        raise ValueError(f"a point needs noise_to_weight to be judged, got {', '.join(point) or 'nothing'}")
    reasons = []
    if not _at_most(point["noise_to_weight"], MOST_NOISE):
        reasons.append("noise larger than the weights")
    if "clipped_share" in point and not _at_most(point["clipped_share"], MOST_CLIPPED):
        reasons.append(f"more than {MOST_CLIPPED:.0%} of examples clipped")
    if not point.get("converged", True):
        reasons.append("solve not converged")
    if point.get("negative_curvature", False):
        reasons.append("negative curvature")
    if "trace_error" in point and _trace_matters(point):
        reasons.append("trace error above half the trace term")
    return reasons


def beside_weights(models: Sequence[nn.Module]) -> list[str]:
    """What speaks against bounds on the information in weights where training has left its mark elsewhere, too.

    Running statistics, as BatchNorm's, are learned from the sample and read by the network, and are no weights. They
    are seen by their values: buffers that are not the same in all runs.
    """
    first, *others = [{n: b for n, b in m.named_buffers() if b.is_floating_point()} for m in models]
    if all(torch.equal(buffer, other[name]) for other in others for name, buffer in first.items()):
        return []
    return ["statistics that the network keeps (BatchNorm's) know the sample and are not among the weights"]


def _trace_matters(point: Mapping[str, Any]) -> bool:
    """Whether the trace is poorly known and that moves the value: at its noise, flatness is proportional to the trace.

    Near the centre the trace term is a difference of two nearly equal numbers, which no number of probes brings out;
    but there the flatness is next to nothing beside the penalty, and the value stands whatever the trace.
    """
    error, term = point["trace_error"], abs(point["trace_term"] or 0)
    if _at_most(error, MOST_TRACE_ERROR * term):
        return False
    if not (error and term and point["flatness"]):
        return True
    return not _at_most(point["flatness"] * error / term, LEAST_EFFECT * point["value"])


def _at_most(value: float | None, limit: float) -> bool:
    """False for a number that was not finite, which artefacts hold as null or NaN."""
    return value is not None and value <= limit


def at_credible_noise(point: Mapping[str, Any]) -> Mapping[str, Any]:
    """The bound of a row at its best noise, or at noise as large as the weights where the best is larger.

    The theorems hold for every noise; what a large one takes away is the right to a second-order step. From sigma to
    sigma / r, the trajectory term A / sigma grows r-fold and the flatness term B sigma^2 falls by r^2. ``gamma``, which
    was measured at the best noise, is left out of what changed.

    Raises:
        ValueError: as ``warnings`` does, or if the noise is not finite: the row has no best noise then.
    """
    if "noise_to_weight" not in point:
        raise ValueError(f"a point needs noise_to_weight to be judged, got {', '.join(point) or 'nothing'}")
    excess = point["noise_to_weight"]
    if excess is None or not isfinite(excess):
        raise ValueError(
            "the best noise is not finite, so there is no bound to scale; leave the point out and count it"
        )
    if excess <= MOST_NOISE:
        return point
    r = excess / MOST_NOISE
    terms = {"trajectory": point["trajectory"] * r, "flatness": point["flatness"] / r**2}
    information = sum(terms.values())
    value = information + point.get("penalty", 0.0)
    changed = terms | {"sigma": point["sigma"] / r, "noise_to_weight": MOST_NOISE, "value": value}
    if "penalty" in point:
        changed |= {"information": information, "holdout_share": point["penalty"] / value}
    if "certificate" in point:
        changed["certificate"] = point["train_loss"] + value
    return {key: value for key, value in point.items() if not key.startswith("gamma")} | changed
