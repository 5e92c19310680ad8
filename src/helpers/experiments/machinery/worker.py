"""What computes one row, in whatever process it lives, and what that process says about itself."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from helpers.experiments.machinery.config import Config
from helpers.experiments.machinery.provenance import (
    accelerator_allocations,
    code_fingerprint,
    environment,
    peak_memory,
)
from helpers.experiments.machinery.storage import Json


class DegenerateRow(ValueError):
    """A point at which what is measured does not exist, such as a ratio that nothing reaches: a result, not a mistake.

    The row is recorded with the status "degenerate: ..." and the grid goes on. Any ValueError whose attribute
    ``degenerate`` is true is taken so; modules that know nothing of experiments can raise one.
    """

    degenerate = True


@dataclass(frozen=True)
class Outcome:
    """One computed row, and what the process that computed it says about itself.

    Attributes:
        row: point and measurements, JSON-ready.
        code: fingerprint of the code that it ran.
        environment: commit, device, processors, libraries, Python.
        seconds: wall-clock.
        peak_memory_bytes: the most that the process has held.
    """

    row: Json
    code: str
    environment: Json
    seconds: float
    peak_memory_bytes: int


_SCRATCH: ContextVar[Path | None] = ContextVar("scratch", default=None)


def scratch() -> Path | None:
    """Where the row that is being computed keeps what it needs to go on after an interruption; None where nothing is.

    File names begin with the path's own; the runner removes them once the row is saved.
    """
    return _SCRATCH.get()


def compute(
    row: Callable[[Any, Json], Json], config: Config, point: Json, threads: int = 1, kept: Path | None = None
) -> Outcome:
    """One row with so many threads, on which its last digits depend.

    Args:
        kept: the ``scratch`` of the row; a worker that has no such folder computes the row without.
    """
    started = time.monotonic()
    token = _SCRATCH.set(kept if kept is not None and kept.parent.is_dir() else None)
    try:
        return _computed(row, config, point, threads, started)
    finally:
        _SCRATCH.reset(token)


def _computed(row: Callable[[Any, Json], Json], config: Config, point: Json, threads: int, started: float) -> Outcome:
    allocations = accelerator_allocations()
    with limited(threads):
        try:
            measured = row(config, point)
        except ValueError as error:  # degenerate: what is measured does not exist here, a result and not a mistake
            if not getattr(error, "degenerate", False):
                raise
            measured = {"status": f"degenerate: {error}"}
        accelerated = accelerator_allocations() > allocations  # the device that computed, not the best one there is
        here = environment(accelerated)
    seconds, peak = time.monotonic() - started, peak_memory(accelerated)
    return Outcome({**point, **measured}, code_fingerprint(row.__module__), here, seconds, peak)


class _Limits:
    """How many rows this process computes at the moment, and what to go back to after the last."""

    lock, rows, before = Lock(), 0, ExitStack()


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Inside the block torch, numpy and scipy use so many threads; rows of one process may overlap."""
    with _Limits.lock:
        if _Limits.rows == 0:
            _Limits.before.callback(torch.set_num_threads, torch.get_num_threads())
            _Limits.before.enter_context(threadpool_limits(threads))
        _Limits.rows += 1
        torch.set_num_threads(threads)  # counts for the thread that calls it
    try:
        yield
    finally:
        with _Limits.lock:
            _Limits.rows -= 1
            if _Limits.rows == 0:
                _Limits.before.close()


class InlineExecutor(Executor):
    """Runs a call where it is submitted: this process, one row at a time."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # handed to whoever asks for the result, as every executor does
            future.set_exception(error)
        return future
