"""Checks of the book's exercises that a reader can run on an attempt, before the solution is opened."""

import ast
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

    The check takes the reader's functions, as ``asks`` does, and returns "Right.", or which assertion does not hold: in
    the words of its message, if it has one, and as it is written, if it has none. An attempt that is not written yet,
    or that fails by itself, is told so; nothing is raised, so a notebook with open exercises runs to its end.

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
            return Answer(f"Not right yet: {_told(error, asks)}.")
        except Exception as error:
            return Answer(f"Not right yet: the attempt stops with {type(error).__name__}: {error}")
        return Answer("Right.")

    return answer


def _told(error: AssertionError, asks: Callable[..., None]) -> str:
    """What the check says of the assertion that failed: its message, or how it is written, on one line."""
    where = asks.__code__.co_filename
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == where]
    source = "".join(linecache.getlines(where))
    if lines and lines[0] and source:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Assert) and node.lineno <= lines[0] <= (node.end_lineno or 0):
                if node.msg is not None:
                    return str(node.msg.value if isinstance(node.msg, ast.Constant) else error)
                return " ".join((ast.get_source_segment(source, node.test) or "").split()) + " does not hold"
    return "an assertion of the check does not hold"
