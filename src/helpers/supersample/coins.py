"""What the functions of the family take: tables of numbers, and coins."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def numbers_of(name: str, values: Any, *, advice: str = "") -> Tensor:
    """Numbers of any library as a tensor of real numbers, yes and no among them.

    Raises:
        ValueError: if there is text, nothing, or an imaginary part among them.
    """
    try:
        numbers = torch.as_tensor(values if hasattr(values, "dtype") else np.asarray(values))  # a list keeps its digits
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must hold numbers, got a {type(values).__name__}{advice}") from error
    if numbers.is_complex():
        raise ValueError(f"{name} must hold real numbers, got {numbers.dtype}")
    return numbers


def coins_of(name: str, coins: Any) -> Tensor:
    """Fair coins of any library as int64.

    Raises:
        ValueError: if they are no numbers, or others than 0 and 1.
    """
    values = numbers_of(name, coins)
    if not bool(((values == 0) | (values == 1)).all()):
        raise ValueError(f"{name} must be 0 or 1: which example of the pair was trained on")
    return values.long()
