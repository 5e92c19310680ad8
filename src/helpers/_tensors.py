"""Numbers of any library as tensors: what enters is looked at once, and no digit is lost on the way."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def numbers_of(name: str, values: Any, *, advice: str = "") -> Tensor:
    """A tensor, an array, a number, lists of them: real numbers in their own type, of lists whole and in 64 bits.

    Raises:
        ValueError: if there is text, nothing, or an imaginary part among them.
    """
    try:
        rows = isinstance(values, list | tuple) and len(values) > 0 and all(isinstance(row, Tensor) for row in values)
        kept = torch.stack(list(values)) if rows else values
        numbers = torch.as_tensor(kept if hasattr(kept, "dtype") else np.asarray(kept))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must hold numbers, got a {type(values).__name__}{advice}") from error
    if numbers.is_complex():
        raise ValueError(f"{name} must hold real numbers, got {numbers.dtype}")
    return numbers


def floats_of(name: str, values: Any) -> Tensor:
    """Floating numbers to compute with: whole numbers become float64, half precision float32, others stay as they are.

    Raises:
        ValueError: as ``numbers_of``, or if they are truth values, NaN or infinite.
    """
    numbers = numbers_of(name, values)
    if numbers.dtype == torch.bool:
        raise ValueError(f"{name} must hold real numbers, got {numbers.dtype}")
    if not numbers.is_floating_point():
        numbers = numbers.double()
    if torch.finfo(numbers.dtype).bits < 32:
        numbers = numbers.float()  # squares would overflow
    if not bool(torch.isfinite(numbers).all()):
        raise ValueError(f"{name} must be finite, but there are values that are not finite: the run diverged")
    return numbers


def symmetric(name: str, values: Any) -> Tensor:
    """A symmetric matrix (d, d) of floating numbers.

    Raises:
        ValueError: as ``floats_of``, or if it is not square, or not symmetric up to rounding.
    """
    matrix = floats_of(name, values)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.numel() == 0:
        raise ValueError(f"{name} must be a square matrix, got shape {tuple(matrix.shape)}")
    if bool((matrix - matrix.T).abs().max() > 1e3 * torch.finfo(matrix.dtype).eps * matrix.abs().max()):
        raise ValueError(f"{name} must be symmetric; the two halves of this matrix differ")
    return matrix
