"""Run a grid row by row: every finished row is on disk at once, and a run that stops early goes on where it was."""

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from helpers.experiments.artefact import Artefact, ArtefactError, Json, exclusive, fingerprint, load, storable
from helpers.experiments.config import Config
from helpers.experiments.provenance import code_fingerprint, peak_memory, provenance


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


def artefact_path(folder: Path, experiment: str, profile: str) -> Path:
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

    Args:
        out: folder of the artefact ``NAME.PROFILE.json``.
        executor: where rows are computed; this process unless given.
        in_flight: rows submitted at a time; more than one only helps an executor with several workers.
        budget: seconds after which no further row is started.
        quiet: no progress bar.

    Raises:
        ArtefactError: if the artefact is there with another config, was altered, or cannot be written.
    """
    path = artefact_path(out, experiment.name, profile)
    with exclusive(path):
        artefact = _resume(path, experiment, profile, config)
        todo = [i for i, row in enumerate(artefact.rows) if row is None]
        started = time.monotonic()
        before = artefact.provenance["seconds"]
        pool = executor or InlineExecutor()
        flying: dict[Future[Json], int] = {}
        bar = tqdm(
            total=len(artefact.rows),
            initial=len(artefact.rows) - len(todo),
            disable=quiet,
            unit="row",
            desc=path.stem,
        )
        with bar:
            while todo or flying:
                in_time = budget is None or time.monotonic() - started < budget
                while todo and len(flying) < in_flight and in_time:
                    index = todo.pop(0)
                    flying[pool.submit(experiment.row, config, artefact.points[index])] = index
                if not flying:
                    break
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    index = flying.pop(future)
                    artefact.rows[index] = {**artefact.points[index], **future.result()}
                    artefact.provenance["seconds"] = round(before + time.monotonic() - started, 1)
                    artefact.provenance["peak_memory_bytes"] = max(
                        artefact.provenance["peak_memory_bytes"], peak_memory()
                    )
                    artefact.save(path)
                    bar.update()
    return artefact


def _resume(path: Path, experiment: Experiment, profile: str, config: Config) -> Artefact:
    """The artefact on disk if it is of this config and code, else a fresh one, saved."""
    points = experiment.points(config)
    if path.exists():
        artefact = load(path)
        if fingerprint(artefact.config) != fingerprint(storable(config.as_json())) or artefact.points != points:
            raise ArtefactError(f"{path} holds another config; choose another --out, or delete it to start afresh")
        if not artefact.complete and artefact.provenance["code"] != experiment.code:
            raise ArtefactError(f"{path} was begun by another version of the code; delete it to start afresh")
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
