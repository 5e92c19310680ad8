"""What a walk draws at random, purpose by purpose: streams that have nothing to do with each other, nor with the data.

The theorems ask that the noise of a step is independent of all that came before: sample, initial weights, orders and
earlier noise. A ``torch.Generator`` of the processor starts from the lowest 32 bits of its seed, so an offset such as
2**40 + seed is the stream of ``seed`` itself. Hence the hash.
"""

import hashlib
import operator
from typing import Any

import torch

PURPOSES = ("initial weights", "noise", "orders", "ghost")


def stream_seed(purpose: str, seed: Any) -> int:
    """A seed of its own for a purpose, below 2**32: the first 32 bits of the hash of both.

    Raises:
        ValueError: if the purpose is none of ``PURPOSES``, or the seed is no whole number from 0.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose must be one of {', '.join(PURPOSES)}, got {purpose!r}")
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if number < 0:
        raise ValueError(f"seed must be a whole number of at least 0, got {seed!r}")
    return int.from_bytes(hashlib.sha256(f"langevin, {purpose}, {number}".encode()).digest()[:4], "big")


def stream(purpose: str, seed: Any) -> torch.Generator:
    """On the processor, so that every device walks the same way; nobody else draws from it."""
    return torch.Generator().manual_seed(stream_seed(purpose, seed))
