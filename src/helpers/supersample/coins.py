"""Which example of a pair was trained on."""

from typing import Any

from torch import Tensor

from helpers._tensors import numbers_of


def coins_of(name: str, coins: Any) -> Tensor:
    """Fair coins of any library as int64.

    Raises:
        ValueError: if they are no numbers, or others than 0 and 1.
    """
    values = numbers_of(name, coins)
    if not bool(((values == 0) | (values == 1)).all()):
        raise ValueError(f"{name} must be 0 or 1: which example of the pair was trained on")
    return values.long()
