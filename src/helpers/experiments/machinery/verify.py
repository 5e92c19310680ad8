"""Whether artefacts can be trusted: whole, unaltered, of a known experiment, valid settings and the right grid."""

import os
from collections.abc import Mapping
from pathlib import Path

from helpers.experiments.machinery.artefact import Artefact, load, storable
from helpers.experiments.machinery.config import Config, ConfigError
from helpers.experiments.machinery.library import BENCHMARK
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.machinery.storage import ArtefactError, is_intact, read_json

STALE = "stale: made by an earlier version of the code"


def files(*folders: Path) -> list[Path]:
    """The JSON files of the folders, in order.

    Raises:
        ArtefactError: if a folder is not there or cannot be read, or all hold none.
    """
    paths = []
    for folder in folders:
        try:
            paths += sorted(folder / name for name in os.listdir(folder) if name.endswith(".json"))
        except OSError as error:
            raise ArtefactError(
                f"{folder} cannot be listed ({error.strerror}); name a folder with artefacts"
            ) from error
    if not paths:
        places = " or ".join(map(str, folders))
        raise ArtefactError(f"{places} holds no artefacts; make one with 'run', or name another folder")
    return paths


def condition(path: Path, known: Mapping[str, Experiment]) -> str:
    """One line on an artefact: complete or not, and whether code and settings are still the book's.

    Of the file of a benchmark, which is no grid, only the digest is checked.

    Raises:
        ArtefactError: if it cannot be trusted; the message says why.
    """
    if path.name.startswith(BENCHMARK):
        if not is_intact(read_json(path)):
            raise ArtefactError(f"{path} was altered after it was written (its digest differs); measure it again")
        return "benchmark, unaltered"
    artefact, experiment = trusted(path, known)
    try:
        config = _settings(path, artefact, experiment)
    except ArtefactError:
        if artefact.provenance["code"] == experiment.code:
            raise  # no version of this code wrote it
        return f"{_progress(artefact)}; {STALE}, with settings of then"
    return "; ".join([_progress(artefact), *_remarks(artefact, experiment, config)])


def checked(path: Path, known: Mapping[str, Experiment]) -> tuple[Artefact, Experiment, Config]:
    """An artefact that can be trusted, its experiment and its settings.

    Raises:
        ArtefactError: if it cannot be trusted, or this version does not know its settings; the message says why.
    """
    artefact, experiment = trusted(path, known)
    return artefact, experiment, _settings(path, artefact, experiment)


def trusted(path: Path, known: Mapping[str, Experiment]) -> tuple[Artefact, Experiment]:
    """An artefact that is as it was written, and its experiment.

    Raises:
        ArtefactError: if it was altered, or belongs to nothing that is known.
    """
    artefact = load(path)
    experiment = known.get(artefact.experiment)
    if experiment is None:
        raise ArtefactError(f"{path} is of an unknown experiment, {artefact.experiment!r:.40}; remove it")
    profile = experiment.profiles.get(artefact.profile)
    if profile is None:
        raise ArtefactError(f"{path} is of an unknown profile, {artefact.profile!r:.40}; remove it")
    return artefact, experiment


def _settings(path: Path, artefact: Artefact, experiment: Experiment) -> Config:
    """The settings of an artefact, whose grid must be theirs."""
    profile = experiment.profiles[artefact.profile]
    try:
        config: Config = type(profile).from_json(artefact.config)
        points = experiment.points(config)
    except ConfigError as error:
        raise ArtefactError(f"{path} has settings that this version refuses ({error}); run it again") from error
    if artefact.points != storable(points):
        raise ArtefactError(f"{path} holds another grid than its settings give; run it again")
    return config


def _progress(artefact: Artefact) -> str:
    if artefact.complete:
        return "complete"
    return f"{len(artefact.finished)} of {len(artefact.rows)} rows, run it again to finish"


def _remarks(artefact: Artefact, experiment: Experiment, config: Config) -> list[str]:
    remarks = []
    if artefact.provenance["code"] != experiment.code:
        remarks.append(STALE)
    usual = experiment.profiles[artefact.profile].as_json()
    changed = [f"{name}={value}" for name, value in config.as_json().items() if value != usual[name]]
    if changed:
        remarks.append(f"not the {artefact.profile} profile of now: {', '.join(changed)}")
    return remarks
