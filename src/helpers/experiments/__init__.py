"""Experiments: validated settings, grids that resume, artefacts that can be trusted.

===============  ================================================================================
``config``       frozen settings; ``--set key=value``
``artefact``     the JSON file: atomic writes, hashes, a lock
``provenance``   code, commit, libraries, machine
``runner``       row by row through any executor, resuming what is there
``cluster``      the executor of a Dask cluster
``verify``       whether an artefact can be trusted
``samples``      the data, samples and device of a row
``measure``      every bound on one ensemble
===============  ================================================================================

``resnet18_grid`` and ``dispersion`` are the experiments, one module each.
"""

from pathlib import Path

from helpers.experiments.artefact import Artefact, ArtefactError, load
from helpers.experiments.config import Config, ConfigError
from helpers.experiments.dispersion import EXPERIMENT as _dispersion
from helpers.experiments.resnet18_grid import EXPERIMENT as _resnet18_grid
from helpers.experiments.runner import Experiment, artefact_path, run

RESULTS = Path("book") / "results"

EXPERIMENTS: dict[str, Experiment] = {experiment.name: experiment for experiment in (_resnet18_grid, _dispersion)}

__all__ = [
    "EXPERIMENTS",
    "RESULTS",
    "Artefact",
    "ArtefactError",
    "Config",
    "ConfigError",
    "Experiment",
    "artefact_path",
    "find",
    "load",
    "run",
    "settings",
]


def find(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        ConfigError: if there is none.
    """
    if name not in EXPERIMENTS:
        raise ConfigError(f"there is no experiment {name!r}; choose from {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def settings(experiment: Experiment, profile: str) -> Config:
    """The settings of an experiment's profile.

    Raises:
        ConfigError: if it has no such profile.
    """
    if profile not in experiment.profiles:
        raise ConfigError(f"{experiment.name} has no profile {profile!r}; choose from {', '.join(experiment.profiles)}")
    config: Config = experiment.profiles[profile]
    return config
