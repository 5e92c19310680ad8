"""Chapter 13: what does information buy? The bound without a Taylor step, one noise level after the other.

Write F = L_S - L_mu and put noise xi on the network W + Delta. Xu-Raginsky for the noisy network and the difference
form of the residual add up to

    |gen(W)| <= R sqrt(2 I / n) + |gen(W) - gen(W + Delta + xi)|,   I >= I(W + Delta + xi; S).

The second term is what held-out data must say; the first bounds the rest, gen(W + Delta + xi), which shrinks as the
noise grows. So a bound of this family exchanges one for the other: it is *informative* as far as the noisy network
still has the gap, and *tight* as far as R sqrt(2 I / n) is close to the noisy network's own gap. Both can be measured.

The noise may have its own size in every group of weights (a layer, say). The information is then Lemma 4 of Wang & Mao
group by group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, lgamma, log1p, sqrt

import torch
from torch import Tensor, nn

from helpers._checks import non_negative, non_negatives, positive, whole
from helpers._generators import generator_from
from helpers.curvature import values
from helpers.data import Split
from helpers.losses import Loss
from helpers.models import at, trainable


@dataclass(frozen=True)
class PublishedMeans:
    """A learner whose exchange is known in closed form: d means of n standard normal numbers, published with noise.

    W = mean(S) + xi in R^d, and the loss is the distance |w - z| in the first ``seen`` coordinates. The distance is a
    1-Lipschitz function of the Gaussian z, so R = 1 whatever d and ``seen``. With d = seen = 1 it is chapter 1's noisy
    mean. The gap without noise takes the place of gen(W) above.

    Attributes:
        n: examples.
        d: coordinates that are published, each of which information is paid for.
        seen: coordinates that the loss looks at, at most d.

    Raises:
        ValueError: if a number is below 1, or more is seen than published.
    """

    n: int
    d: int
    seen: int

    def __post_init__(self) -> None:
        for name in ("n", "d", "seen"):
            whole(name, getattr(self, name))
        if self.seen > self.d:
            raise ValueError(f"the loss sees {self.seen} coordinates of d = {self.d}; seen must be at most d")

    def gap(self, tau: float) -> float:
        """gen(W + xi) for noise of standard deviation ``tau`` in every coordinate: a difference of two mean lengths."""
        length = sqrt(2) * exp(lgamma((self.seen + 1) / 2) - lgamma(self.seen / 2))  # E|N(0, I)|
        variance = 1 + non_negative("tau", tau) ** 2
        far, near = sqrt(variance + 1 / self.n), sqrt(variance - 1 / self.n)
        return length * (2 / self.n) / (far + near)

    def information_term(self, tau: float) -> float:
        """sqrt(2 I / n) with I = d / 2 log(1 + 1 / (n tau^2)) nats, exact: a Gaussian channel in each coordinate."""
        nats = self.d / 2 * log1p(1 / (self.n * positive("tau", tau) ** 2))
        return sqrt(2 * nats / self.n)


@dataclass(frozen=True)
class BrierScore:
    """|softmax(logits) - one_hot(target)|^2, in [0, 2], so R = 1. Logits (n, classes), targets (n,); result (n,)."""

    @property
    def R(self) -> float:
        return 1.0

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        p = logits.softmax(1)
        return p.square().sum(1) - 2 * p.gather(1, targets[:, None]).squeeze(1) + 1


def groupwise_information(squared_offsets: Sequence[float], sizes: Sequence[int], sigmas: Sequence[float]) -> float:
    """sum_g d_g / 2 log(1 + M_g / (d_g sigma_g^2)) nats: Wang & Mao (2022), Lemma 4, with one noise level a group.

    Its proof takes a Gaussian reference with the variance that is best in every group; one group is Lemma 4 itself.

    Args:
        squared_offsets: M_g = E|(W + Delta - c)_g|^2 for each group, c independent of the training sample.
        sizes: d_g, numbers of weights.
        sigmas: standard deviations of the noise.

    Raises:
        ValueError: if the lengths differ, or a number is out of range.
    """
    moments = non_negatives("squared_offsets", squared_offsets)
    if not len(moments) == len(sizes) == len(sigmas):
        raise ValueError(f"give each group one of each: got {len(moments)}, {len(sizes)} and {len(sigmas)}")
    return sum(
        whole("sizes", d) / 2 * log1p(moment / (d * positive("sigmas", sigma) ** 2))
        for moment, d, sigma in zip(moments, sizes, sigmas, strict=True)
    )


def group_sizes(model: nn.Module) -> list[int]:
    """Number of weights of every parameter tensor, in the order of the weight vector."""
    return [p.numel() for p in trainable(model)]


def group_moments(vectors: Tensor, sizes: Sequence[int]) -> list[float]:
    """Mean over rows of the squared norm of every group: vectors (k, d) -> one number a group."""
    return [piece.double().square().sum(1).mean().item() for piece in vectors.split(list(sizes), dim=1)]


def spread_of_others(weights: Tensor, run: int, sizes: Sequence[int]) -> list[float]:
    """How far a weight of each group lies from run to run, without looking at ``run``: shape of a noise, one a group.

    The root of the unbiased variance over the other runs, averaged over the group. It does not depend on the run's own
    sample, so a noise of this shape is allowed. A group that never varies gets the smallest of the others' values.

    Args:
        weights: (k, d), k >= 3.

    Raises:
        ValueError: if there are fewer than three runs, or no group varies.
    """
    if len(weights) < 3:
        raise ValueError(f"a spread over the other runs needs at least 3 runs, got {len(weights)}")
    others = torch.cat([weights[:run], weights[run + 1 :]]).double()
    spreads = [sqrt(piece.mean().item()) for piece in others.var(0).split(list(sizes))]
    varying = [spread for spread in spreads if spread > 0]
    if not varying:
        raise ValueError("the other runs end at the same weights, so there is no spread to shape a noise by")
    return [spread or min(varying) for spread in spreads]


def noisy_losses(
    model: nn.Module,
    centre: Tensor,
    deviations: Tensor,
    splits: Sequence[Split],
    losses: Sequence[Loss],
    *,
    draws: int,
    seed: int,
) -> Tensor:
    """Mean losses of the network at ``centre`` + N(0, diag(deviations^2)): shape (draws, splits, losses), float64.

    Args:
        centre, deviations: (d,).
        seed: of the noise, which is the same for every split and loss.
    """
    generator = generator_from(seed)
    means = torch.zeros(draws, len(splits), len(losses), dtype=torch.float64)
    for draw in range(draws):
        noise = torch.randn(centre.shape, generator=generator, dtype=centre.dtype).to(centre.device)
        with at(model, centre + deviations * noise):
            for i, split in enumerate(splits):
                means[draw, i] = torch.stack([values(model, loss, split).double().mean() for loss in losses])
    return means
