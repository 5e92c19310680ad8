"""Weights that move, and come back where they were, to the bit."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor


@contextmanager
def returned(parameters: Iterable[Tensor]) -> Iterator[dict[Tensor, Tensor]]:
    """Parameters may move inside the block and are back at its end; gives where they were, a copy of each."""
    before = {p: p.detach().clone() for p in parameters}
    try:
        yield before
    finally:
        for p, old in before.items():
            p.copy_(old)


@contextmanager
def moved(shifts: dict[Tensor, Tensor]) -> Iterator[None]:
    """Every parameter at w + its shift inside the block, and back at w afterwards."""
    with returned(shifts):
        for p, shift in shifts.items():
            p.add_(shift)
        yield
