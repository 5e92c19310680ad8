"""Run a grid row by row: every finished row is on disk at once, and a run that stops early goes on where it was."""

import re
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from helpers.experiments.machinery.artefact import Artefact, ArtefactError, Json, exclusive, fingerprint, load, storable
from helpers.experiments.machinery.config import Config, ConfigError
from helpers.experiments.machinery.provenance import code_fingerprint, device_name, peak_memory, provenance, resumed

SIZES = ("width", "filters", "k", "n", "n_val", "n_test", "batch_sizes", "batch_size")  # settings that cost memory


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
            depend on nothing else, so that any process on any machine gives the same row.
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


class InlineExecutor(Executor):
    """Runs a call where it is submitted: this process, all its threads for one row at a time."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # handed to whoever asks for the result, as every executor does
            future.set_exception(error)
        return future


@dataclass(frozen=True)
class Outcome:
    """One computed row, and what the process that computed it says about itself."""

    row: Json
    code: str
    device: str
    seconds: float
    peak_memory_bytes: int


def compute(row: Callable[[Any, Json], Json], config: Config, point: Json) -> Outcome:
    """What a worker does, in whatever process it lives."""
    started = time.monotonic()
    measured = {**point, **row(config, point)}
    code = code_fingerprint(row.__module__)
    return Outcome(measured, code, device_name(), time.monotonic() - started, peak_memory())


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
    quiet: bool = False,
) -> Artefact:
    """Run what is missing of an experiment's grid, saving after every row.

    When a row fails no further one is started; those on their way are waited for and saved.

    Args:
        out: folder of the artefact ``NAME.PROFILE.json``.
        executor: where rows are computed; this process unless given.
        in_flight: rows submitted at a time; more than one only helps an executor with several workers.
        budget: seconds after which no further row is started.
        quiet: no progress bar.

    Raises:
        ArtefactError: if the artefact is there with another config, was altered, or cannot be written.
        RowError: if a row cannot be computed for a reason that a user can mend: its settings or data (ValueError),
            memory, lost workers, workers with another version of the code. Any other error is raised as it is, with a
            note of the row.
    """
    path = artefact_path(out, experiment.name, profile)
    with exclusive(path):
        artefact = _resume(path, experiment, profile, config)
        with tqdm(
            total=len(artefact.rows), initial=len(artefact.finished), disable=quiet, unit="row", desc=path.stem
        ) as bar:
            grid = _Grid(experiment, config, artefact, path, bar.update)
            grid.fill(executor or InlineExecutor(), in_flight, float("inf") if budget is None else budget)
    return artefact


class _Grid:
    """The rows of one artefact on their way: waiting, in flight, saved."""

    def __init__(
        self, experiment: Experiment, config: Config, artefact: Artefact, path: Path, tell: Callable[[], object]
    ) -> None:
        self.experiment, self.config, self.artefact, self.path, self.tell = experiment, config, artefact, path, tell
        self.todo = [i for i, row in enumerate(artefact.rows) if row is None]
        self.flying: dict[Future[Outcome], int] = {}
        self.started = time.monotonic()
        self.before = artefact.provenance["seconds"]

    def fill(self, pool: Executor, in_flight: int, budget: float) -> None:
        """Compute and save all rows, or those that can be started within the budget."""
        failure: BaseException | None = None
        try:
            while self.todo or self.flying:
                while self.todo and len(self.flying) < in_flight and not failure and self._elapsed() < budget:
                    failure = self._start(pool, self.todo.pop(0))
                if not self.flying:
                    break
                for future in wait(self.flying, return_when=FIRST_COMPLETED).done:
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
        try:
            self.flying[pool.submit(compute, self.experiment.row, self.config, self.artefact.points[index])] = index
        except BrokenExecutor as error:
            return self._explained(error, index)
        return None

    def _save(self, index: int, outcome: Outcome) -> None:
        if outcome.code != self.artefact.provenance["code"]:
            raise RowError(
                f"a worker on {outcome.device} runs another version of the code; install this one there and run again"
            )
        self.artefact.rows[index] = outcome.row
        origin = self.artefact.provenance
        origin["device"] = _joined(origin["device"], outcome.device, first=len(self.artefact.finished) == 1)
        origin["seconds"] = round(self.before + self._elapsed(), 3)
        origin["row_seconds"] = round(origin.get("row_seconds", 0.0) + outcome.seconds, 3)
        origin["peak_memory_bytes"] = max(origin["peak_memory_bytes"], outcome.peak_memory_bytes)
        self.artefact.save(self.path)
        self.tell()

    def _explained(self, error: BaseException, index: int) -> BaseException:
        """The error as a sentence if a user can mend its cause, else itself with a note of the row."""
        point = ", ".join(f"{name}={value}" for name, value in self.artefact.points[index].items())
        row = f"row {point} of {self.path.stem}"
        if isinstance(error, RowError | ArtefactError):
            return error
        if _out_of_memory(error):
            lower = ", ".join(f.name for f in fields(self.config) if f.name in SIZES)
            return _caused(f"{row} ran out of memory; lower one of {lower} with --set, in another --out", error)
        if _lost(error):
            reason = f"{row} was lost with its worker ({type(error).__name__})"
            return _caused(f"{reason}; finished rows are saved, run the same command again to resume", error)
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


def _joined(devices: str, device: str, *, first: bool) -> str:
    """The devices so far with one more, each named once; the first row's own replaces what was expected."""
    return " + ".join(dict.fromkeys([*([] if first else devices.split(" + ")), device]))


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _lost(error: BaseException) -> bool:
    """Whether the error is an executor's way to say that a worker, or the way to it, is gone."""
    return isinstance(error, BrokenExecutor | CancelledError) or type(error).__module__.startswith("distributed.")


def _resume(path: Path, experiment: Experiment, profile: str, config: Config) -> Artefact:
    """The artefact on disk if it is of this config and code, else a fresh one, saved."""
    points = experiment.points(config)
    if path.exists():
        artefact = load(path)
        if fingerprint(artefact.config) != fingerprint(storable(config.as_json())) or artefact.points != points:
            raise ArtefactError(f"{path} holds another config; choose another --out, or delete it to start afresh")
        if not artefact.complete and artefact.provenance["code"] != experiment.code:
            raise ArtefactError(f"{path} was begun by another version of the code; delete it to start afresh")
        if not artefact.complete:
            resumed(artefact.provenance)
        return artefact
    artefact = Artefact(
        experiment=experiment.name,
        profile=profile,
        config=storable(config.as_json()),
        provenance=provenance(experiment.edition(config), experiment.row.__module__),
        points=points,
        rows=[None] * len(points),
    )
    artefact.save(path)
    return artefact
