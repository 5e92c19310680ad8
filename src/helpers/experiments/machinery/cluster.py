"""Rows on a Dask cluster that is already there; setting one up is the business of its own tools."""

import re
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from helpers.experiments.machinery.config import ConfigError

ADDRESS = re.compile(r"([a-z]+://)?[\w.%:\[\]-]+:\d{1,5}")  # [protocol://]host:port
SECONDS_TO_ANSWER = 10
ROWS_PER_THREAD = 2  # one at work, one waiting, so that no thread idles


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
    try:
        client = Client(address, timeout=SECONDS_TO_ANSWER, set_as_default=False)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise ConfigError(f"no Dask scheduler answers at {address!r}; start one, or leave --scheduler out") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=SECONDS_TO_ANSWER)
        except TimeoutError as error:
            raise ConfigError(f"the Dask scheduler at {address!r} has no workers; start some and run again") from error
        yield client.get_executor(), ROWS_PER_THREAD * max(1, sum(client.nthreads().values()))
