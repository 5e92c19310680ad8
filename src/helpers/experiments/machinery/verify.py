"""Whether an artefact can be trusted: whole, unaltered, of a known experiment, valid settings and the right grid."""

from collections.abc import Mapping
from pathlib import Path

from helpers.experiments.machinery.artefact import Artefact, ArtefactError, load, storable
from helpers.experiments.machinery.config import Config, ConfigError
from helpers.experiments.machinery.runner import Experiment, artefact_path


def state(path: Path, known: Mapping[str, Experiment]) -> str:
    """One line on an artefact: complete or not, and whether code and settings are still the book's.

    Raises:
        ArtefactError: if it cannot be trusted; the message says why.
    """
    artefact = load(path)
    experiment = known.get(artefact.experiment)
    if experiment is None:
        raise ArtefactError(f"{path} is of an unknown experiment, {artefact.experiment!r:.40}; remove it")
    profile = experiment.profiles.get(artefact.profile)
    if profile is None:
        raise ArtefactError(f"{path} is of an unknown profile, {artefact.profile!r:.40}; remove it")
    if path.name != artefact_path(path.parent, artefact.experiment, artefact.profile).name:
        raise ArtefactError(f"{path} holds {artefact.experiment}.{artefact.profile}; give the file that name")
    try:
        config = type(profile).from_json(artefact.config)
        points = experiment.points(config)
    except ConfigError as error:
        raise ArtefactError(f"{path} has settings that this version refuses ({error}); run it again") from error
    if artefact.points != storable(points):
        raise ArtefactError(f"{path} holds another grid than its settings give; run it again")
    return "; ".join([_progress(artefact), *_remarks(artefact, experiment, config, profile)])


def _progress(artefact: Artefact) -> str:
    if artefact.complete:
        return "complete"
    return f"{len(artefact.finished)} of {len(artefact.rows)} rows, run it again to finish"


def _remarks(artefact: Artefact, experiment: Experiment, config: Config, profile: Config) -> list[str]:
    remarks = []
    if artefact.provenance["code"] != experiment.code:
        remarks.append("stale: made by an earlier version of the code")
    usual = profile.as_json()
    changed = [f"{name}={value}" for name, value in config.as_json().items() if value != usual[name]]
    if changed:
        remarks.append(f"not the {artefact.profile} profile of now: {', '.join(changed)}")
    return remarks
