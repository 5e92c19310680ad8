"""Where a network is tried before a verdict on it is remembered: at places that hide nothing.

What a network is (affine in its weights, independent of the batch, differentiated rightly) is found out once, by
computing, and remembered with the model. A computation where the model happens to be may show nothing: weights of a
head that are zero, inputs that are zero or equal. So each is also tried beside it, at weights and inputs with noise,
where coincidences have probability zero.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from typing import TypeVar

import torch
from torch import Tensor, nn

from helpers.data import Split
from helpers.data.inputs import each, tensors
from helpers.models import copied, outputs, split_like, trainable, weights

T = TypeVar("T")

EXAMPLES, MOST = 4, 256
WORK = 2**20  # examples times weights that a trial may take, beyond the fewest
NOISE = 0.1  # relative to a tensor's root mean square; absolute where that is zero


def spread(split: Split, most: int = EXAMPLES) -> Split:
    """Up to that many examples from all over the split."""
    return split.take(torch.linspace(0, len(split) - 1, min(most, len(split))).round().long())


def tried(trial: Callable[[Split], T], model: nn.Module, split: Split) -> T:
    """A trial on as many examples as cost little: a gate or a kink may send only some through a part of the network.

    Where memory does not hold them, on the fewest.
    """
    many = max(EXAMPLES, min(MOST, WORK // len(weights(model))))
    try:
        return trial(spread(split, many))
    except torch.OutOfMemoryError:
        return trial(spread(split))


def tells(few: Split) -> bool:
    """Whether the examples can show how one depends on another: there are two that differ."""
    return len(few) > 1 and any(bool((part != part[:1]).any()) for part in tensors(few.inputs))


def doubled(model: nn.Module) -> nn.Module:
    """A copy in float64; the model itself where it cannot be copied, or its device has no float64."""
    try:
        twin = copied(model).double()
    except Exception:  # a part of somebody's model may refuse to be copied in any words
        return model
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        q.requires_grad_(p.requires_grad)  # a traced module loses it
    return twin


def places(model: nn.Module, few: Split) -> Iterator[tuple[nn.Module, Split]]:
    """The model as it is with the examples; then its ``doubled`` twin, both with noise, inside the step alone.

    The second has two examples at least where inputs are floating numbers. It is left out where the outputs there are
    not finite, or the operations do not take such weights or inputs.
    """
    yield model, few
    twin = doubled(model)
    with _noisy(twin):
        noisy = _with_noise(few).to(dtype=trainable(twin)[0].dtype)
        if _takes(twin, noisy):
            yield twin, noisy


@contextmanager
def _noisy(model: nn.Module) -> Iterator[None]:
    pieces = [beside(piece, seed).reshape(-1) for seed, piece in enumerate(split_like(model, weights(model)))]
    with lent(model, torch.cat(pieces)):
        yield


@contextmanager
def lent(model: nn.Module, vector: Tensor) -> Iterator[None]:
    """The model placed at ``vector`` (d,) inside the block, in other memory.

    Unlike ``models.at`` it changes no tensor, so that a backward pass which its owner still has to make through the
    model goes on afterwards as if nothing had been.
    """
    before = [p.data for p in trainable(model)]
    try:
        for p, piece in zip(trainable(model), split_like(model, vector), strict=True):
            p.data = torch.empty_like(p).copy_(piece)
        yield
    finally:
        for p, data in zip(trainable(model), before, strict=True):
            p.data = data


def _with_noise(few: Split) -> Split:
    rows = torch.arange(max(len(few), 2)) % len(few)
    twice = few.take(rows)
    return replace(twice, inputs=each(lambda x: beside(x, 0) if x.is_floating_point() else x, twice.inputs))


def beside(values: Tensor, seed: int = 0) -> Tensor:
    """The values with noise in proportion to their size, the same for the same seed."""
    size = values.double().square().mean().sqrt().item() or 1.0
    noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values + (NOISE * size * noise).to(values)


def _takes(model: nn.Module, few: Split) -> bool:
    try:
        with torch.no_grad():
            return bool(torch.isfinite(outputs(model, few.inputs)).all())
    except torch.OutOfMemoryError:
        raise
    except Exception:  # somebody's model may refuse such inputs in any words
        return False


# --- Whether a slope is a derivative ----------------------------------------------------------------------------------


STEPS = {  # of central differences, in proportion to the size of what is moved
    torch.float64: (1e-5, 1e-6, 1e-7),
    torch.float32: (3e-2, 1e-2, 3e-3),
}
AGREE = {torch.float64: 1e-4, torch.float32: 1e-2}  # relative; two differences have settled at a tenth of it


def steps_of(values: Tensor) -> list[float]:
    """Steps of central differences of a function of these values."""
    return [step * (1 + values.detach().abs().max().item()) for step in STEPS[values.dtype]]


def rounding(f: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """What rounding may do to each entry of ``f(values)``: four times its change as values move by their last digits.

    A result may be far smaller than what it was computed from: the cross-entropy of an example that is fitted well is a
    difference of two logits, and as uncertain as they are; that of one fitted better yet is 0. Numbers of size 1 are
    taken to have entered anyway.
    """
    drawn = torch.Generator().manual_seed(2)
    eps, centre = torch.finfo(values.dtype).eps, f(values)
    changes = [4 * eps * centre.abs().clamp(min=1.0)]
    for _ in range(4):
        tilt = torch.randn(values.shape, generator=drawn, dtype=torch.float64).to(values)
        changes.append((f(values * (1 + 2 * eps * tilt)) - centre).abs())
    return 4 * torch.stack(changes).amax(0)


def is_derivative(slope: Tensor, differences: Tensor, noise: Tensor) -> bool:
    """Whether slopes agree with central differences, entry by entry: with one of them, unless no two agree.

    A kink between the points spoils a difference, and spoils those at other steps in another way.

    Args:
        slope: shape (m,), per unit of the direction.
        differences: at several steps, shape (steps, m).
        noise: what rounding leaves of each, shape (steps, m).
    """
    size, agree = slope.abs() + differences.abs(), AGREE[slope.dtype]
    right = ((differences - slope).abs() <= agree * size + noise).any(0)
    settled = torch.stack(
        [
            (differences[i] - differences[j]).abs() <= 0.1 * agree * size[i] + noise[i] + noise[j]
            for i, j in combinations(range(len(differences)), 2)
        ]
    ).any(0)
    return not bool((settled & ~right).any())
