"""Prove that an artefact's rows are those of the current code, by computing some of them again.

Code that changed need not have changed a number. The cheapest rows are computed anew and compared; if they agree, the
artefact takes the fingerprint of the current code, and its provenance says what was checked.
"""

from collections.abc import Iterator, Mapping
from math import isnan
from pathlib import Path
from typing import Any

from helpers.experiments.machinery import verify
from helpers.experiments.machinery.artefact import Artefact, restored, storable
from helpers.experiments.machinery.provenance import now
from helpers.experiments.machinery.runner import Experiment, RowError
from helpers.experiments.machinery.storage import ArtefactError, Json, exclusive
from helpers.experiments.machinery.worker import Outcome, compute

RTOL = 1e-6  # of numbers from another device, number of threads or version of a library
CLOCKS = {"seconds"}  # entries of a row that say how long it took, and differ each time


def restamp(path: Path, known: Mapping[str, Experiment], *, rows: int = 1, rtol: float | None = None) -> str:
    """Give an artefact the fingerprint of the current code if so many of its rows come out the same; one line on it.

    Whole numbers and texts must be equal. Other numbers must be equal to the bit where device, threads and libraries
    are those of the artefact, and else to a relative tolerance of 1e-6, unless ``rtol`` is given.

    Raises:
        ArtefactError: if the artefact cannot be trusted, has no row, or a number differs; the message says which.
        RowError: if a row cannot be computed.
    """
    with exclusive(path):
        artefact, experiment, config = verify.checked(path, known)
        before = artefact.provenance["code"]
        if before == experiment.code:
            return "current, nothing to do"
        chosen = _cheapest(artefact)[:rows]
        if not chosen:
            raise ArtefactError(f"{path} has no row to compare; run it again")
        largest, points = 0.0, experiment.points(config)
        for index in chosen:
            point = points[index]
            try:
                outcome = compute(experiment.row, config, point, artefact.provenance.get("threads", 1))
            except ValueError as error:
                raise RowError(f"row {_named(point)} of {path.stem} failed: {error}") from error
            tolerance = _tolerance(artefact, outcome) if rtol is None else rtol
            old, new = artefact.rows[index], restored(storable(outcome.row))
            for name, was, now_is, difference in _differences(old, new):
                if difference > tolerance:
                    raise ArtefactError(
                        f"{path} is not what the current code gives: in row {_named(point)} {name} was {was!r:.40} and "
                        f"is {now_is!r:.40}; run it again with --fresh"
                    )
                largest = max(largest, difference)
        artefact.provenance["code"] = experiment.code
        artefact.provenance.setdefault("restamped", []).append(
            {
                "at": now(),
                "from": before,
                "to": experiment.code,
                "rows_checked": len(chosen),
                "largest_relative_difference": largest,
            }
        )
        artefact.save(path)
    return f"restamped, {len(chosen)} of {len(artefact.rows)} rows agree to a relative difference of {largest:.1g}"


def _cheapest(artefact: Artefact) -> list[int]:
    """Indices of the finished rows: those whose seconds are known first, by their seconds, then the others in order."""
    seconds = artefact.provenance.get("seconds_by_row") or [None] * len(artefact.rows)
    finished = [i for i, row in enumerate(artefact.rows) if row is not None]
    return sorted(finished, key=lambda i: (seconds[i] is None, seconds[i] or 0.0, i))


def _tolerance(artefact: Artefact, outcome: Outcome) -> float:
    origin, here = artefact.provenance, outcome.environment
    alike = all(origin.get(name) == here[name] for name in ("device", "libraries"))  # a device names its threads
    return 0.0 if alike else RTOL


def _named(point: Json) -> str:
    return ", ".join(f"{name}={value}" for name, value in point.items())


def _differences(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any, float]]:
    """Every leaf with its name, both values and their relative difference: infinite where no tolerance applies."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        for key in old.keys() - CLOCKS:
            yield from _differences(old[key], new[key], f"{name}.{key}" if name else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(one, other, f"{name}[{i}]")
    else:
        yield name or "the row", old, new, _relative(old, new)


def _relative(old: Any, new: Any) -> float:
    if type(old) is float and type(new) is float:
        if old == new or (isnan(old) and isnan(new)):
            return 0.0
        difference = abs(old - new) / max(abs(old), abs(new))
        return float("inf") if isnan(difference) else difference
    return 0.0 if type(old) is type(new) and old == new else float("inf")
