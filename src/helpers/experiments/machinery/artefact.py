"""One experiment, one JSON file: rows, full config, and where they came from.

A digest over its content shows edits made by hand.
"""

from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from helpers.experiments.machinery.storage import ArtefactError, fingerprint, is_intact, read_json, sealed, write_json
from helpers.experiments.machinery.storage import Json as Json

SCHEMA = 1
FRESH = ".fresh"  # ending of a file that replaces another once it is complete
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


@dataclass(repr=False)
class Artefact:
    """The result of one experiment under one profile.

    Attributes:
        experiment, profile: names.
        config: every setting, JSON-ready.
        provenance: package version and code fingerprint, commit, data edition, device, libraries, wall-clock seconds
            and peak memory; nothing that changes the rows is only here. ``seconds_by_row`` has the seconds that each
            row took, None where they are not known.
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

    @property
    def file_name(self) -> str:
        return f"{self.experiment}.{self.profile}.json"

    def __repr__(self) -> str:
        return f"<{self.experiment}.{self.profile}: {len(self.finished)} of {len(self.rows)} rows>"

    def content(self) -> Json:
        """Everything that is stored, with its digest."""
        return sealed(
            {
                "schema": SCHEMA,
                "experiment": self.experiment,
                "profile": self.profile,
                "config": self.config,
                "config_hash": fingerprint(self.config),
                "provenance": self.provenance,
                "points": self.points,
                "rows": storable(self.rows),
            }
        )

    def save(self, path: Path) -> None:
        """Write the artefact atomically; call it while holding ``exclusive(path)``.

        Raises:
            ArtefactError: if it cannot be written; what was on disk before is then still there, whole.
        """
        write_json(path, self.content())


def load(path: Path) -> Artefact:
    """Read an artefact and check schema, form, hashes, digest and the name of its file.

    Raises:
        ArtefactError: if the file is missing, is not JSON, has another schema or form, was altered, or bears the name
            of another artefact.
    """
    content = read_json(path)
    if "schema" not in content:
        raise ArtefactError(f"{path} is not an artefact of this book: it names no schema; run the experiment again")
    if content["schema"] != SCHEMA:
        schema = repr(content["schema"])[:40]
        raise ArtefactError(f"{path} has schema {schema}, this version reads {SCHEMA}; run the experiment again")
    try:
        well_formed = _well_formed(content)
        intact = is_intact(content) and content["config_hash"] == fingerprint(content["config"])
        rows = restored(content["rows"]) if well_formed else []
    except (ValueError, RecursionError):  # bare NaN or infinity, or depths, which the writer never produces
        well_formed, intact, rows = True, False, []
    if not well_formed:
        raise ArtefactError(f"{path} is not an artefact of this book: its fields differ; run the experiment again")
    if not intact:
        raise ArtefactError(f"{path} was altered after it was written (its digest differs); restore it or run again")
    artefact = Artefact(
        experiment=content["experiment"],
        profile=content["profile"],
        config=content["config"],
        provenance=content["provenance"],
        points=content["points"],
        rows=rows,
    )
    if path.name.removesuffix(FRESH) != artefact.file_name:
        raise ArtefactError(f"{path} holds {artefact.experiment:.40}.{artefact.profile:.40}; give the file that name")
    return artefact


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
