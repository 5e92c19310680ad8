"""Argument checks shared by the bounds: each raises ValueError with one sentence that says what is wrong.

Nothing here repairs an argument. A bound computed from a wrong number looks as plausible as one computed from
the right number, so every public function checks what it is given.
"""

import math
from collections.abc import Iterable
from typing import Any


def positive(name: str, value: float) -> float:
    """``value`` as a float; ValueError unless it is finite and above zero."""
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be a finite number above zero, got {number}")
    return number


def non_negative(name: str, value: float) -> float:
    """``value`` as a float; ValueError unless it is finite and not below zero."""
    number = float(value)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{name} must be a finite number that is not negative, got {number}")
    return number


def whole(name: str, value: float, *, least: int = 1) -> int:
    """``value`` as an int; ValueError unless it is a whole number of at least ``least``."""
    number = float(value)
    if not (math.isfinite(number) and number == int(number) and number >= least):
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value}")
    return int(number)


def non_negatives(name: str, values: Iterable[float]) -> list[float]:
    """``values`` as floats; ValueError if there are none, or one is negative or not finite."""
    numbers = [non_negative(f"every entry of {name}", value) for value in values]
    if not numbers:
        raise ValueError(f"{name} is empty; give at least one number")
    return numbers


def per_step(name: str, value: float | Iterable[float], steps: int) -> list[float]:
    """One positive number for each step; a single number stands for all steps alike.

    Raises:
        ValueError: if a sequence does not have ``steps`` entries, or an entry is not positive and finite.
    """
    several = isinstance(value, Iterable) and getattr(value, "ndim", None) != 0  # a 0-d tensor is a number
    numbers: list[Any] = list(value) if several else [value] * steps  # type: ignore[arg-type]
    if len(numbers) != steps:
        raise ValueError(f"{name} must hold one number for each of the {steps} steps, got {len(numbers)}")
    return [positive(f"every entry of {name}", number) for number in numbers]
