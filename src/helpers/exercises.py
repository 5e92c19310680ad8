"""Checks of the book's exercises that a reader can run on an attempt, before the solution is opened."""

import functools
import linecache
import traceback
from collections.abc import Callable
from typing import Any


class Answer(str):
    """A sentence that a notebook shows without quotation marks."""

    def __repr__(self) -> str:
        return str(self)


def check(asks: Callable[..., None]) -> Callable[..., Answer]:
    """Turn a function of assertions into a check that answers with a sentence.

    The check takes the reader's functions, as ``asks`` does, and returns "Right.", or which assertion does not hold.
    An attempt that is not written yet, or that fails by itself, is told so; nothing is raised, so a notebook with open
    exercises runs to its end.

    >>> @check
    ... def doubles(twice):
    ...     assert twice(2) == 4
    >>> doubles(lambda x: 2 * x)
    Right.
    """

    @functools.wraps(asks)
    def answer(*attempts: Callable[..., Any]) -> Answer:
        try:
            asks(*attempts)
        except NotImplementedError:
            return Answer("Not written yet: replace the line that raises NotImplementedError.")
        except AssertionError as error:
            return Answer(f"Not right yet: {_claim(error, asks)} does not hold.")
        except Exception as error:
            return Answer(f"Not right yet: the attempt stops with {type(error).__name__}: {error}")
        return Answer("Right.")

    return answer


def _claim(error: AssertionError, asks: Callable[..., None]) -> str:
    """The assertion that failed, as it is written in the check."""
    where = asks.__code__.co_filename
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == where]
    line = linecache.getline(where, lines[0] or 0).strip() if lines else ""
    return line.removeprefix("assert ").rstrip(" (") or "an assertion of the check"
