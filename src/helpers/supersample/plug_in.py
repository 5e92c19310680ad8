"""Mutual information from m retrainings: counted frequencies, and how much of the number is only their noise.

For pair i the m outcomes Q and coins U make a table of frequencies; the information of that table is the plug-in
estimate. It is biased upward, by about (K - 1) / (2 m) nats for K outcomes that have nothing to do with the coins, and
the root in the bound magnifies what is small. So the estimate never comes alone: a baseline shows what it says when the
coins are shuffled.
"""

import warnings
from dataclasses import dataclass
from math import nan, sqrt
from typing import Any

import torch
from torch import Tensor

from helpers._checks import seed_of, whole
from helpers._generators import generator_from
from helpers._tensors import numbers_of
from helpers.curvature import Estimate
from helpers.supersample.coins import coins_of


@dataclass(frozen=True, kw_only=True)
class Information(Estimate):
    """Plug-in mutual information: mean over pairs in ``value``, its standard error by a jackknife over memberships.

    The error is NaN where the jackknife has nothing to go by: with two memberships, and where leaving out any one of
    them leaves the same value.

    Attributes:
        per_example: I_i in nats, (n,), float64.
        miller_madow: I_i with the bias taken off that the number of filled cells suggests, (n,); may be negative. Too
            little is taken off where the table has many more cells than there are memberships.
        baseline: ``value`` with the coins shuffled, mean over shuffles.
        bound: mean of sqrt(2 I_i), for a loss in [0, 1].
        baseline_bound: ``bound`` with the coins shuffled, mean over shuffles.
    """

    per_example: Tensor
    miller_madow: Tensor
    baseline: float
    bound: float
    baseline_bound: float


def information(outcomes: Any, memberships: Any, *, permutations: int = 20, seed: int = 0) -> Information:
    """I(Q_i; U_i) from m memberships, pair by pair: the plug-in estimate beside its permutation baseline.

    With the memberships of one supersample it estimates I^z(Q_i; U_i), given those 2n examples. Of several
    supersamples, stacked, it estimates the unconditional I(Q_i; U_i).

    Args:
        outcomes: Q, (m, n): a row a membership, a column a pair. Any numbers; equal ones are one outcome, so make codes
            of lists (``codes``), and round what is continuous.
        memberships: U, (m, n), of zeros and ones.
        permutations: shuffles of the coins, each column by itself.
        seed: of the shuffles, a whole number from 0.

    Raises:
        ValueError: if the shapes differ or are not (m, n) with m >= 2, a coin is not 0 or 1, an outcome is NaN, or the
            outcomes of a pair are continuous: m of at least 4 floating numbers, no two equal.

    Warns:
        UserWarning: if the coin of a pair is the same in all memberships. Nothing can be estimated there; its
            information counts as 0, which lowers the mean and the bound.
    """
    codes_, coins = _table(outcomes, memberships)
    _check_estimable(numbers_of("outcomes", outcomes), codes_, coins)
    shuffles, seed = whole("permutations", permutations), seed_of(seed)
    m = len(coins)
    counts = _counts(codes_, coins)
    nats = _nats(counts)
    generator = generator_from(seed)
    shuffled = torch.stack([_nats(_counts(codes_, _shuffled(coins, generator))) for _ in range(shuffles)])
    without = torch.stack(
        [_nats(counts - _counts(codes_[i : i + 1], coins[i : i + 1], counts)).mean() for i in range(m)]
    )
    spread = without.std(correction=0).item()
    told = m > 2 and spread > 1e-12 * without.abs().max().item()
    filled = (counts > 0).double()
    margins = (counts.sum(1) > 0).sum(1) + (counts.sum(2) > 0).sum(1)
    return Information(
        value=nats.mean().item(),
        standard_error=spread * sqrt(m - 1) if told else nan,
        probes=m,
        method="plug-in",
        per_example=nats,
        miller_madow=nats - (filled.sum((1, 2)) - margins + 1) / (2 * m),
        baseline=shuffled.mean().item(),
        bound=(2 * nats).sqrt().mean().item(),
        baseline_bound=(2 * shuffled).sqrt().mean().item(),
    )


def codes(outcomes: Any) -> Tensor:
    """One whole number for each distinct list: (m, n, c) to (m, n), for outcomes such as the losses of a pair.

    Raises:
        ValueError: if these are no numbers, or the shape is another.
    """
    lists = numbers_of("outcomes", outcomes)
    if lists.ndim < 2 or lists.numel() == 0:
        raise ValueError(f"outcomes must have shape (m, n) or (m, n, c), got {tuple(lists.shape)}")
    m, n = lists.shape[:2]
    numbers: Tensor = torch.unique(lists.reshape(m * n, -1), dim=0, return_inverse=True)[1]
    return numbers.view(m, n)


def memorisation(errors: Any, trained_on: Any) -> Tensor:
    """P(wrong | left out) - P(wrong | trained on) for each example, (n,): Feldman & Zhang (2020).

    NaN for an example that was always, or never, trained on.

    Args:
        errors: 0–1 errors, (m, n): a row a retraining; a share of wrong answers in [0, 1] is one, too.
        trained_on: 1 where the example was in the training sample, else 0, (m, n).

    Raises:
        ValueError: as ``information``, or if an error lies outside [0, 1].
    """
    wrong = numbers_of("errors", errors).double()
    _, inside = _table(wrong, trained_on)
    if not bool(((wrong >= 0) & (wrong <= 1)).all()):
        raise ValueError(f"errors must lie in [0, 1], got {wrong.min():.4g} to {wrong.max():.4g}")
    inside = inside.double()
    return (wrong * (1 - inside)).sum(0) / (1 - inside).sum(0) - (wrong * inside).sum(0) / inside.sum(0)


def _table(outcomes: Any, memberships: Any) -> tuple[Tensor, Tensor]:
    """Outcomes as whole numbers from 0, column by column the same for the same value; coins as int64."""
    advice = "; give each outcome a code"
    values, coins = numbers_of("outcomes", outcomes, advice=advice), numbers_of("memberships", memberships)
    if values.ndim != 2 or values.shape != coins.shape or len(values) < 2 or values.numel() == 0:
        shapes = f"{tuple(values.shape)} and {tuple(coins.shape)}"
        raise ValueError(f"outcomes and memberships must both have shape (m, n) with m of at least 2, got {shapes}")
    coins = coins_of("memberships", coins)
    if values.is_floating_point() and bool(values.isnan().any()):
        raise ValueError("outcomes hold NaN: a run diverged, leave it out")
    ranks = torch.stack([torch.unique(column, return_inverse=True)[1] for column in values.T], dim=1)
    return ranks, coins


def _check_estimable(outcomes: Tensor, ranks: Tensor, coins: Tensor) -> None:
    m = len(ranks)
    distinct = int((ranks.max(0).values == m - 1).sum())
    if outcomes.is_floating_point() and m >= 4 and distinct:
        raise ValueError(
            f"the {m} outcomes of {distinct} pairs are all different numbers, so that each tells its own coin; "
            "round what is continuous"
        )
    constant = int((coins == coins[0]).all(0).sum())
    if constant:
        warnings.warn(
            f"the coin of {constant} pairs fell alike in all {m} memberships; their information counts as 0",
            stacklevel=3,
        )


def _counts(ranks: Tensor, coins: Tensor, like: Tensor | None = None) -> Tensor:
    """How often each pair had each outcome with each coin: (n, outcomes, 2), float64."""
    n = ranks.shape[1]
    outcomes = int(ranks.max()) + 1 if like is None else like.shape[1]
    cells = (torch.arange(n) * outcomes + ranks) * 2 + coins
    return torch.bincount(cells.flatten(), minlength=n * outcomes * 2).view(n, outcomes, 2).double()


def _shuffled(coins: Tensor, generator: torch.Generator) -> Tensor:
    order = torch.rand(coins.shape, generator=generator).argsort(0)
    return coins.gather(0, order)


def _nats(counts: Tensor) -> Tensor:
    """Information of the frequencies in tables (n, outcomes, 2): (n,); clamped at zero, which rounding may undercut."""
    joint = counts / counts.sum((1, 2), keepdim=True)
    entropies: list[Tensor] = [
        -torch.special.xlogy(p, p).flatten(1).sum(1) for p in (joint.sum(1), joint.sum(2), joint)
    ]
    return (entropies[0] + entropies[1] - entropies[2]).clamp(min=0)
