"""One experiment, one JSON file: rows, full config, and where they came from.

A file is written whole to a temporary neighbour, flushed to disk and moved into place, so at every moment the artefact
on disk is a complete one: the last that was written. A digest over its content shows edits made by hand.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

SCHEMA = 1
FIELDS = {
    "schema",
    "experiment",
    "profile",
    "config",
    "config_hash",
    "provenance",
    "points",
    "rows",
    "digest",
}
ORIGIN: dict[str, Any] = {  # what every provenance has, with its type
    "code": str,
    "commit": str,
    "data": str,
    "device": str,
    "libraries": dict,
    "seconds": int | float,
    "peak_memory_bytes": int,
}

Json = dict[str, Any]


class ArtefactError(ValueError):
    """An artefact that cannot be read, trusted or written; the message says which and what to do."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(value: Any) -> str:
    """SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def storable(value: Any) -> Any:
    """The value with what JSON cannot hold spelt out: infinities and NaN become the strings "inf", "-inf", "nan"."""
    if isinstance(value, dict):
        return {key: storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    return value


def restored(value: Any) -> Any:
    """The inverse of ``storable``."""
    if isinstance(value, dict):
        return {key: restored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [restored(item) for item in value]
    return float(value) if value in ("inf", "-inf", "nan") else value


@dataclass
class Artefact:
    """The result of one experiment under one profile.

    Attributes:
        experiment, profile: names.
        config: every setting, JSON-ready.
        provenance: package version and code fingerprint, commit, data edition, device, libraries, wall-clock seconds
            and peak memory; nothing that changes the rows is only here.
        points: the grid, in order: what varies between rows.
        rows: a finished row for each point, None where it is still to be run.
    """

    experiment: str
    profile: str
    config: Json
    provenance: Json
    points: list[Json]
    rows: list[Json | None] = field(default_factory=list)

    @property
    def finished(self) -> list[Json]:
        """The rows there are, in grid order."""
        return [row for row in self.rows if row is not None]

    @property
    def complete(self) -> bool:
        return all(row is not None for row in self.rows)

    def content(self) -> Json:
        """Everything that is stored, with its digest."""
        body = {
            "schema": SCHEMA,
            "experiment": self.experiment,
            "profile": self.profile,
            "config": self.config,
            "config_hash": fingerprint(self.config),
            "provenance": self.provenance,
            "points": self.points,
            "rows": storable(self.rows),
        }
        return {**body, "digest": fingerprint(body)}

    def save(self, path: Path) -> None:
        """Write the artefact atomically; call it while holding ``exclusive(path)``.

        Raises:
            ArtefactError: if it cannot be written; what was on disk before is then still there, whole.
        """
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            with temporary.open("w") as file:
                json.dump(self.content(), file, indent=1, sort_keys=True, allow_nan=False)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _flush_folder(path.parent)
        except OSError as error:
            raise ArtefactError(
                f"{path} could not be written ({error.strerror}); rows saved before are still there: make room or "
                "choose another --out, and run again to resume"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Make a rename within the folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load(path: Path) -> Artefact:
    """Read an artefact and check schema, form, hashes and digest.

    Raises:
        ArtefactError: if the file is missing, is not JSON, has another schema or form, or was altered.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ArtefactError(f"{path} does not exist; run the experiment to make it") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(
            f"{path} cannot be read as JSON ({error}); restore it or run the experiment again"
        ) from error
    if not isinstance(content, dict) or "schema" not in content:
        raise ArtefactError(f"{path} is not an artefact of this book: it names no schema; run the experiment again")
    if content["schema"] != SCHEMA:
        schema = repr(content["schema"])[:40]
        raise ArtefactError(f"{path} has schema {schema}, this version reads {SCHEMA}; run the experiment again")
    if not _well_formed(content):
        raise ArtefactError(f"{path} is not an artefact of this book: its fields differ; run the experiment again")
    digest = content.pop("digest")
    try:
        intact = digest == fingerprint(content) and content["config_hash"] == fingerprint(content["config"])
    except (ValueError, RecursionError):  # bare NaN or infinity, or depths, which the writer never produces
        intact = False
    if not intact:
        raise ArtefactError(f"{path} was altered after it was written (its digest differs); restore it or run again")
    return Artefact(
        experiment=content["experiment"],
        profile=content["profile"],
        config=content["config"],
        provenance=content["provenance"],
        points=content["points"],
        rows=restored(content["rows"]),
    )


def _well_formed(content: Json) -> bool:
    """Whether the fields are there, of their types, with one row (or None) for each point."""
    if set(content) != FIELDS:
        return False
    texts = all(isinstance(content[name], str) for name in ("experiment", "profile", "config_hash", "digest"))
    origin, points, rows = content["provenance"], content["points"], content["rows"]
    return (
        texts
        and isinstance(content["config"], dict)
        and isinstance(origin, dict)
        and all(isinstance(origin.get(name), kind) for name, kind in ORIGIN.items())
        and isinstance(points, list)
        and isinstance(rows, list)
        and len(points) == len(rows)
        and all(isinstance(point, dict) for point in points)
        and all(
            row is None or (isinstance(row, dict) and row | point == row)
            for row, point in zip(rows, points, strict=True)
        )
    )


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the artefact for writing; the lock goes with the process, however that ends.

    Raises:
        ArtefactError: if another process holds it, or its folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".{path.name}.lock").open("w")
    except OSError as error:
        raise ArtefactError(f"{path.parent} cannot be written to ({error.strerror}); choose another --out") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArtefactError(f"another run is writing {path}; wait for it, or choose another --out") from error
        except OSError as error:
            raise ArtefactError(f"{path} cannot be locked ({error.strerror}); choose --out on a local disk") from error
        yield
