"""Checks of the book's exercises that a reader can run on an attempt, before the solution is opened."""

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

import numpy as np
import torch

MOST_SHOWN = 6  # numbers of an array, and values in one answer


class Answer(str):
    """A sentence that a notebook shows without quotation marks."""

    def __repr__(self) -> str:
        return str(self)


def check(asks: Callable[..., None]) -> Callable[..., Answer]:
    """Turn a function of assertions into a check that answers with a sentence.

    The check takes the reader's functions, as ``asks`` does, and returns "Right.", or which assertion does not hold,
    for which case, and what was found: the values of its sides and of the names in it. (The sides are computed once
    more for that.) The message of an assertion, if it has one, is said as well. An attempt that is not written yet, or
    that fails by itself, is told so; nothing is raised, so a notebook with open exercises runs to its end.

    >>> @check
    ... def doubles(twice):
    ...     for x in (0, 2):
    ...         assert twice(x) == 2 * x
    >>> doubles(lambda x: 2 * x)
    Right.
    >>> doubles(lambda x: 3 * x)
    Not right yet: twice(x) == 2 * x does not hold. Found: twice(x) = 6; 2 * x = 4; x = 2.
    """

    @functools.wraps(asks)
    def answer(*attempts: Callable[..., Any]) -> Answer:
        try:
            asks(*attempts)
        except NotImplementedError:
            return Answer("Not written yet: replace the line that raises NotImplementedError.")
        except AssertionError as error:
            return Answer(f"Not right yet: {_what_fails(error, asks)}")
        except Exception as error:
            return Answer(f"Not right yet: the attempt stops with {type(error).__name__}: {error}")
        return Answer("Right.")

    return answer


def _what_fails(error: AssertionError, asks: Callable[..., None]) -> str:
    """The assertion that failed, as it is written in the check, with its message and the values that it saw."""
    at, inner = _place(error.__traceback__, asks)
    if at is None or inner:
        return f"the attempt stops with AssertionError: {error}"
    statement, cases = _statement(asks, at.tb_lineno)
    if statement is None:
        return f"an assertion of the check does not hold{f': {error}' if str(error) else ''}."
    names = {**at.tb_frame.f_globals, **at.tb_frame.f_locals}
    said = f"{ast.unparse(statement.test)} does not hold"
    if statement.msg is not None:
        said += f": {_value(statement.msg, names)}"
    found = [f"{part} = {shown}" for part, shown in _seen(statement.test, cases, at.tb_frame)]
    return f"{said}. Found: {'; '.join(found)}." if found else f"{said}."


def _place(trace: TracebackType | None, asks: Callable[..., None]) -> tuple[TracebackType | None, bool]:
    """Where the check stopped, and whether that was inside of something that it called."""
    while trace is not None and trace.tb_frame.f_code is not asks.__code__:
        trace = trace.tb_next
    return trace, trace is not None and trace.tb_next is not None


def _statement(asks: Callable[..., None], line: int) -> tuple[ast.Assert | None, list[str]]:
    """The assertion at a line of the check's file, and the names that the loops around it set."""
    try:
        lines, first = inspect.getsourcelines(asks)
    except OSError:  # typed at a prompt: nothing kept it
        return None, []
    tree = ast.parse(textwrap.dedent("".join(lines)))
    inside = [node for node in ast.walk(tree) if _spans(node, line - first + 1)]
    loops = [node.target for node in inside if isinstance(node, ast.For)]
    cases = [name.id for target in loops for name in ast.walk(target) if isinstance(name, ast.Name)]
    return next((node for node in inside if isinstance(node, ast.Assert)), None), cases


def _spans(node: ast.AST, line: int) -> bool:
    return isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno)


def _seen(test: ast.expr, cases: list[str], frame: FrameType) -> list[tuple[str, str]]:
    """Sides of the assertion and names in it, with their values, as far as these are short."""
    names = {**frame.f_globals, **frame.f_locals}
    used = [node.id for node in ast.walk(test) if isinstance(node, ast.Name) and node.id in frame.f_locals]
    parts = [*_sides(test), *(ast.Name(name, ast.Load()) for name in [*used, *cases])]
    found: dict[str, str] = {}
    for part in parts:
        if (shown := _value(part, names)) and not isinstance(part, ast.Constant):
            found.setdefault(ast.unparse(part), shown)
    return list(found.items())[:MOST_SHOWN]


def _sides(test: ast.expr) -> Iterator[ast.expr]:
    """What an assertion compares: both sides of a comparison, the arguments of a function such as ``isclose``."""
    match test:
        case ast.Compare():
            yield from (test.left, *test.comparators)
        case ast.BoolOp():
            for value in test.values:
                yield from _sides(value)
        case ast.Call(func=ast.Attribute(attr="isclose" | "allclose")):
            yield from test.args


def _value(part: ast.expr, names: dict[str, Any]) -> str:
    """A value as the answer says it; nothing if it cannot be computed again, or would be long."""
    try:
        value = eval(compile(ast.fix_missing_locations(ast.Expression(part)), "check", "eval"), names)
    except Exception:
        return ""
    return _said(value)


def _said(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, bool | str | None):
        return str(value)
    if isinstance(value, int | float):
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    if isinstance(value, list | tuple) and len(value) <= MOST_SHOWN:
        inner = [_said(one) for one in value]
        if all(inner):
            return f"[{', '.join(inner)}]" if isinstance(value, list) else f"({', '.join(inner)})"
    return ""
