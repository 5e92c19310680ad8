"""Argument checks shared by the bounds: each raises ValueError with one sentence that says what is wrong.

Nothing here repairs an argument. A bound computed from a wrong number looks as plausible as one computed from
the right number, so every public function checks what it is given.
"""

import math
import operator
from collections.abc import Iterable
from numbers import Complex, Real
from typing import Any


def real(name: str, value: Any) -> float:
    """``value`` as a float; ValueError if it is no number: None, or text, even where it spells one."""
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        if isinstance(value, Complex) and not isinstance(value, Real):  # numpy would drop the imaginary part
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be a number, got {value!r:.40} of type {type(value).__name__}") from error
    except OverflowError as error:
        raise ValueError(f"{name} must be a number below 1.8e308, got a larger one") from error


def positive(name: str, value: float) -> float:
    """``value`` as a float; ValueError unless it is finite and above zero."""
    number = real(name, value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be a finite number above zero, got {number}")
    return number


def non_negative(name: str, value: float) -> float:
    """``value`` as a float; ValueError unless it is finite and not below zero."""
    number = real(name, value)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{name} must be a finite number that is not negative, got {number}")
    return number


def whole(name: str, value: float, *, least: int = 1) -> int:
    """``value`` as an int, to the last digit; ValueError unless it is a whole number of at least ``least``."""
    number = real(name, value)
    if not (math.isfinite(number) and number == int(number) and number >= least):
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value}")
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:  # 5.0, or a tensor that holds it
        return int(number)


def seed_of(value: Any) -> int:
    """A seed as an int; ValueError unless it is a whole number from 0 to 2^63 - 1, which every generator takes."""
    number = whole("seed", value, least=0)
    if number >= 2**63:
        raise ValueError(f"seed must be below 2^63, got {number}")
    return number


def non_negatives(name: str, values: Iterable[float]) -> list[float]:
    """``values`` as floats; ValueError if there are none, they are text, or one is negative or not finite."""
    no_text(name, values)
    numbers = [non_negative(f"every entry of {name}", value) for value in values]
    if not numbers:
        raise ValueError(f"{name} is empty; give at least one number")
    return numbers


def per_step(name: str, value: float | Iterable[float], steps: int) -> list[float]:
    """One positive number for each step; a single number stands for all steps alike.

    Raises:
        ValueError: if a sequence does not have ``steps`` entries or is text, or an entry is not positive and finite.
    """
    no_text(name, value)
    several = isinstance(value, Iterable) and getattr(value, "ndim", None) != 0  # a 0-d tensor is a number
    numbers: list[Any] = list(value) if several else [value] * steps  # type: ignore[arg-type]
    if len(numbers) != steps:
        raise ValueError(f"{name} must hold one number for each of the {steps} steps, got {len(numbers)}")
    return [positive(f"every entry of {name}", number) for number in numbers]


def no_text(name: str, values: Any) -> None:
    """Refuse text where numbers are expected: it is a sequence, and "12" would be read as 1 and 2."""
    if isinstance(values, str | bytes):
        raise ValueError(f"{name} must hold numbers, got the text {values!r:.40}; write them without quotes")
