"""Rows on a Dask cluster that is already there; setting one up is the business of its own tools."""

import gc
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any

from helpers.experiments.machinery.config import ConfigError

ADDRESS = re.compile(r"([a-z]+://)?[\w.%:\[\]-]+:\d{1,5}")  # [protocol://]host:port
SECONDS_TO_ANSWER = 10.0
SECONDS_WITHOUT_WORKERS = 30.0  # after which none is expected to come back
ROWS_PER_THREAD = 2  # one at work, one waiting, so that no thread idles


class ClusterExecutor(Executor):
    """The cluster's executor, which also says when nobody is left to compute anything."""

    def __init__(self, client: Any) -> None:
        self._client, self._pool = client, client.get_executor()
        self._last_seen = time.monotonic()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = self._pool.submit(fn, *args, **kwargs)
        return future

    def forsaken(self) -> bool:
        """Whether the scheduler has had no workers, or has not answered, for ``SECONDS_WITHOUT_WORKERS``."""
        counted: list[int] = []
        _within(SECONDS_TO_ANSWER, lambda: counted.append(len(self._client.nthreads())))
        if counted and counted[0]:
            self._last_seen = time.monotonic()
        return time.monotonic() - self._last_seen > SECONDS_WITHOUT_WORKERS


@contextmanager
def executor(address: str) -> Iterator[tuple[Executor, int]]:
    """The cluster's executor and the number of rows to keep in flight; the connection is closed at the end.

    Raises:
        ConfigError: if Dask is not installed, the address is none, no scheduler answers, or it has no workers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError("--scheduler needs Dask: install the optional extra 'cluster'") from error
    if not ADDRESS.fullmatch(address):
        raise ConfigError(f"--scheduler takes an address such as tcp://127.0.0.1:8786, got {address!r:.80}")
    clients: list[Any] = []

    def connect() -> None:
        with suppress(Exception):
            try:
                clients.append(Client(address, timeout=SECONDS_TO_ANSWER, set_as_default=False))
            except AssertionError:  # Dask's event loop did not start in its ten seconds, nobody was asked: ask now
                clients.append(Client(address, timeout=SECONDS_TO_ANSWER, set_as_default=False))
        # A client that found nobody closes itself when it is collected, and waits for a lock that Dask holds while it
        # starts a loop. Collected in the middle of that it would wait for ever; so it is collected here.
        gc.collect()

    # A server of another kind may take the connection and never say a word: Dask's timeout does not cover that.
    _within(3 * SECONDS_TO_ANSWER, connect)
    if not clients:
        raise ConfigError(f"no Dask scheduler answers at {address!r}; start one, or leave --scheduler out")
    with clients[0] as client:
        try:
            client.wait_for_workers(1, timeout=SECONDS_TO_ANSWER)
        except TimeoutError as late:
            raise ConfigError(f"the Dask scheduler at {address!r} has no workers; start some and run again") from late
        yield ClusterExecutor(client), ROWS_PER_THREAD * max(1, sum(client.nthreads().values()))


def _within(seconds: float, call: Callable[[], object]) -> BaseException | None:
    """Make a call in a thread that is left behind after so many seconds; the error that it raised, if any."""
    errors: list[BaseException] = []

    def caught() -> None:
        try:
            call()
        except Exception as error:
            errors.append(error)

    thread = Thread(target=caught, daemon=True)
    thread.start()
    thread.join(seconds)
    return errors[0] if errors else None
