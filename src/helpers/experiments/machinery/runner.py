"""Run a grid row by row: every finished row is on disk at once, and a run that stops early goes on where it was.

No file is written before the first row is there, so a run that fails at once leaves nothing behind.
"""

import math
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from helpers.experiments.machinery.artefact import FRESH, Artefact, load, storable
from helpers.experiments.machinery.config import Config, ConfigError
from helpers.experiments.machinery.provenance import code_fingerprint, provenance, resumed
from helpers.experiments.machinery.storage import ArtefactError, Json, exclusive, fingerprint
from helpers.experiments.machinery.worker import InlineExecutor, Outcome, compute
from helpers.training.bar import Bar

KEPT = ".row-"  # in the names of what a row keeps beside the artefact until it is saved
SECONDS_BETWEEN_LOOKS = 5.0  # at an executor whose workers may all be gone


class RowError(RuntimeError):
    """A row could not be computed; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Experiment:
    """A grid of points and a function that turns one point into one row.

    Attributes:
        name: as on the command line, e.g. "resnet18-grid".
        summary: one line that says what is measured.
        profiles: settings for "smoke" (seconds), "laptop" (minutes to hours on two cores) and "paper" (one GPU).
        points: the grid of a config, in order; each point a flat dictionary of what varies.
        row: a module-level function of config and point; returns the measurements of one row, JSON-ready. It must
            depend on nothing else, so that any process on any machine gives the same row up to rounding.
        edition: the data that a config runs on, as captions say it.
    """

    name: str
    summary: str
    profiles: dict[str, Any]
    points: Callable[[Any], list[Json]]
    row: Callable[[Any, Json], Json]
    edition: Callable[[Any], str]

    @property
    def code(self) -> str:
        """Fingerprint of the code that its rows depend on."""
        return code_fingerprint(self.row.__module__)


@runtime_checkable
class Watched(Protocol):
    """An executor that can say that nobody is left to compute anything."""

    def forsaken(self) -> bool:
        """Whether there have been no workers for too long."""


def artefact_path(folder: Path, experiment: str, profile: str) -> Path:
    """``folder/EXPERIMENT.PROFILE.json``.

    Raises:
        ConfigError: if a name has other characters than small letters, digits and hyphens.
    """
    for name in (experiment, profile):
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
            raise ConfigError(f"{name!r} cannot name an artefact: use small letters, digits and hyphens")
    return folder / f"{experiment}.{profile}.json"


def run(
    experiment: Experiment,
    profile: str,
    config: Config,
    *,
    out: Path,
    executor: Executor | None = None,
    in_flight: int = 1,
    budget: float | None = None,
    threads: int | None = None,
    fresh: bool = False,
    quiet: bool = False,
) -> Artefact:
    """Run what is missing of an experiment's grid, saving after every row.

    When a row fails no further one is started; those on their way are waited for and saved.

    Args:
        out: folder of the artefact ``NAME.PROFILE.json``.
        executor: where rows are computed; this process unless given.
        in_flight: rows submitted at a time; more than one only helps an executor with several workers.
        budget: seconds after which no further row is started.
        threads: threads that compute a row; the last digits of its numbers depend on them. Those of the artefact that
            is resumed, else one, unless given.
        fresh: compute all rows anew, in a file ``NAME.PROFILE.json.fresh`` that can be resumed like any other and takes
            the place of the artefact once it is complete.
        quiet: no progress bar.

    Raises:
        ConfigError: if in_flight or threads is not a positive whole number, or the budget negative or NaN.
        ArtefactError: if the artefact is there with another config or number of threads, was altered, or cannot be
            written.
        RowError: if a row cannot be computed for a reason that a user can mend: its settings or data (ValueError),
            memory, lost workers, workers with another version of the code. Any other error is raised as it is, with a
            note of the row.
    """
    for name, count in (("in_flight", in_flight), ("threads", threads)):
        if count is not None and (not isinstance(count, int) or count < 1):
            raise ConfigError(f"{name} must be a positive whole number, got {count}")
    if budget is not None and not budget >= 0:
        raise ConfigError(f"budget must be a number of seconds that is not negative, got {budget}")
    path = artefact_path(out, experiment.name, profile)
    working = path.with_name(path.name + FRESH) if fresh else path
    with exclusive(path):
        artefact = _resume(working, experiment, profile, config, threads)
        sizes = {"total": len(artefact.rows), "initial": len(artefact.finished)}
        with Bar(**sizes, name=path.stem, unit="row", quiet=quiet) as bar:
            grid = _Grid(experiment, config, artefact, working, bar.advance)
            grid.forget_others()
            grid.fill(executor or InlineExecutor(), in_flight, math.inf if budget is None else budget)
        if fresh and artefact.complete:
            os.replace(working, path)
    return artefact


class _Grid:
    """The rows of one artefact on their way: waiting, in flight, saved."""

    def __init__(
        self, experiment: Experiment, config: Config, artefact: Artefact, path: Path, tell: Callable[[], object]
    ) -> None:
        self.experiment, self.config, self.artefact, self.path, self.tell = experiment, config, artefact, path, tell
        self.todo = [i for i, row in enumerate(artefact.rows) if row is None]
        self.flying: dict[Future[Outcome], int] = {}
        self.started = 0.0
        self.before = artefact.provenance["seconds"]

    def fill(self, pool: Executor, in_flight: int, budget: float) -> None:
        """Compute and save all rows, or those that can be started within the budget."""
        self.started = time.monotonic()
        failure: BaseException | None = None
        try:
            while self.todo or self.flying:
                while self.todo and len(self.flying) < in_flight and not failure and self._elapsed() < budget:
                    failure = self._start(pool, self.todo.pop(0))
                if not self.flying:
                    break
                for future in self._landed(pool):
                    index = self.flying.pop(future)
                    try:
                        self._save(index, future.result())
                    except (Exception, CancelledError) as error:
                        failure = failure or self._explained(error, index)
        finally:
            for future in self.flying:
                future.cancel()
        if failure is not None:
            raise failure

    def _elapsed(self) -> float:
        return time.monotonic() - self.started

    def _start(self, pool: Executor, index: int) -> BaseException | None:
        point, threads = self.artefact.points[index], self.artefact.provenance["threads"]
        try:
            kept = self._kept(index)
            self.flying[pool.submit(compute, self.experiment.row, self.config, point, threads, kept)] = index
        except BrokenExecutor as error:
            return self._explained(error, index)
        return None

    def _kept(self, index: int) -> Path:
        """Where a row keeps what it needs to go on: for this code, config and point alone."""
        of = {
            "code": self.artefact.provenance["code"],
            "config": self.artefact.config,
            "point": self.artefact.points[index],
            "threads": self.artefact.provenance["threads"],
        }
        return (self.path.parent / f"{self.path.name}{KEPT}{fingerprint(of)[:16]}").resolve()

    def forget_others(self) -> None:
        """Remove what rows of other settings or code have kept beside this artefact."""
        waiting = {self._kept(index).name for index in self.todo}
        for path in self.path.parent.glob(f"{self.path.name}{KEPT}*"):
            if not any(path.name.startswith(name) for name in waiting):
                path.unlink()

    def _forget(self, index: int) -> None:
        for path in self.path.parent.glob(f"{self._kept(index).name}.*"):
            path.unlink()

    def _landed(self, pool: Executor) -> set["Future[Outcome]"]:
        """The rows that are done, at least one."""
        while True:
            done = wait(self.flying, SECONDS_BETWEEN_LOOKS, return_when=FIRST_COMPLETED).done
            if not done and isinstance(pool, Watched) and pool.forsaken():
                raise RowError(
                    f"all workers are gone with {len(self.flying)} rows of {self.path.stem} on their way; finished "
                    "rows are saved, start workers that have this package and run the same command again to resume"
                )
            if done:
                return done

    def _save(self, index: int, outcome: Outcome) -> None:
        origin, device = self.artefact.provenance, outcome.environment["device"]
        if outcome.code != origin["code"]:
            raise RowError(
                f"a worker on {device} runs another version of the code; install this one there and run again"
            )
        first = not self.artefact.finished
        self.artefact.rows[index] = outcome.row
        if first:
            origin.update(outcome.environment)
        else:
            origin["device"] = " + ".join(dict.fromkeys([*origin["device"].split(" + "), device]))
            differing = {k: v for k, v in outcome.environment.items() if k != "device" and v != origin.get(k)}
            if differing and (other := {"device": device, **differing}) not in origin["others"]:
                origin["others"].append(other)
        origin["seconds"] = round(self.before + self._elapsed(), 3)
        origin["row_seconds"] = round(origin.get("row_seconds", 0.0) + outcome.seconds, 3)
        origin["seconds_by_row"][index] = round(outcome.seconds, 3)
        origin["peak_memory_bytes"] = max(origin["peak_memory_bytes"], outcome.peak_memory_bytes)
        self.artefact.save(self.path)
        self._forget(index)
        self.tell()

    def _explained(self, error: BaseException, index: int) -> BaseException:
        """The error as a sentence if a user can mend its cause, else itself with a note of the row."""
        point = ", ".join(f"{name}={value}" for name, value in self.artefact.points[index].items())
        row = f"row {point} of {self.path.stem}"
        lower = ", ".join(self.config.costs_memory)
        if isinstance(error, RowError | ArtefactError):
            return error
        if _out_of_memory(error):
            return _caused(f"{row} ran out of memory; lower one of {lower} with --set, in another --out", error)
        if _lost(error):
            reason = f"{row} was lost with its worker ({type(error).__name__})"
            mend = "finished rows are saved, run the same command again to resume"
            memory = f"if it ran out of memory lower one of {lower} with --set, in another --out, or give workers more"
            return _caused(f"{reason}; {mend}; {memory}", error)
        if isinstance(error, ModuleNotFoundError) or "during deserialization of the task graph" in str(error):
            return _caused(f"{row} met a cluster with other packages; install this version there and run again", error)
        if isinstance(error, ValueError):
            return _caused(f"{row} failed: {error}", error)
        error.add_note(f"in {row}; finished rows are saved")
        return error


def _caused(message: str, error: BaseException) -> RowError:
    failure = RowError(message)
    failure.__cause__ = error
    return failure


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _lost(error: BaseException) -> bool:
    """Whether the error is an executor's way to say that a worker, or the way to it, is gone."""
    return isinstance(error, BrokenExecutor | CancelledError) or type(error).__module__.startswith("distributed.")


def _resume(path: Path, experiment: Experiment, profile: str, config: Config, threads: int | None) -> Artefact:
    """The artefact on disk if it is of this config and code, else a new one, which is not on disk yet.

    A file without a single row, such as earlier versions left, holds nothing and gives way.
    """
    points = experiment.points(config)
    if path.exists() and (artefact := load(path)).finished:
        if fingerprint(artefact.config) != fingerprint(storable(config.as_json())) or artefact.points != points:
            raise ArtefactError(f"{path} holds another config; choose another --out, or delete it to start afresh")
        if artefact.complete:
            return artefact
        if artefact.provenance["code"] != experiment.code:
            raise ArtefactError(f"{path} was begun by another version of the code; delete it to start afresh")
        origin = artefact.provenance
        begun = origin.setdefault("threads", threads or 1)
        if threads not in (None, begun):
            raise ArtefactError(f"{path} was begun with {begun} threads a row; go on with --threads {begun}")
        origin.setdefault("others", [])
        origin.setdefault("seconds_by_row", [None] * len(points))
        resumed(origin)
        return artefact
    return Artefact(
        experiment=experiment.name,
        profile=profile,
        config=storable(config.as_json()),
        provenance={
            **provenance(experiment.edition(config), experiment.row.__module__),
            "threads": threads or 1,
            "seconds_by_row": [None] * len(points),
        },
        points=points,
        rows=[None] * len(points),
    )
