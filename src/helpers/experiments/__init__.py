"""Experiments: what was measured for the book, and how it is run again.

===============  ================================================================================
``machinery``    settings, artefacts, provenance, the runner: what carries rows
``samples``      the data, samples and device of a row
``loop``         one network, any optimiser
``resumable``    trainings that an interruption does not undo
``predictions``  what one network says of a sample, and how each example pulls at it
``parity``       one output that tells even classes from odd, by gradient descent
``every_bound``  every bound on one ensemble
``trends``       whether a number rises or falls along a setting
===============  ================================================================================

Every other module is an experiment, or what several have in common (``resnet18``). An experiment, and so its artefact,
is called as its source or its chapter calls the matter; its module, as what is done there. Where the two differ:

=======================================================  ======================
experiment                                               module
=======================================================  ======================
``alignment``                                            ``noise_alignment``
``convex``                                               ``convex_rates``
``dispersion``                                           ``double_descent``
``langevin``                                             ``noisy_descent``
``mlp-clipping``, ``cnn-clipping``                       ``label_noise_clipping``
``mlp-width``, ``cnn-width``, ``label-noise``,           ``matched_loss``
``lr-batch``
``soft-rank``                                            ``gap_predictors``
``stability``                                            ``stable_minima``
``supersample``                                          ``memorisation``
=======================================================  ======================
"""

from helpers.experiments.batch_sharpness import EXPERIMENT as _batch_sharpness
from helpers.experiments.complexity import EXPERIMENT as _complexity
from helpers.experiments.convex_rates import EXPERIMENT as _convex
from helpers.experiments.digits_dispersion import EXPERIMENT as _digits_dispersion
from helpers.experiments.double_descent import EXPERIMENT as _dispersion
from helpers.experiments.escape import EXPERIMENT as _escape
from helpers.experiments.flat_networks import EXPERIMENT as _flat_networks
from helpers.experiments.flat_training import EXPERIMENT as _flat_training
from helpers.experiments.gap_predictors import EXPERIMENT as _soft_rank
from helpers.experiments.label_noise_clipping import CNN_CLIPPING, MLP_CLIPPING
from helpers.experiments.linear_relu import EXPERIMENT as _linear_relu
from helpers.experiments.machinery import library, provenance
from helpers.experiments.machinery.artefact import Artefact, load
from helpers.experiments.machinery.config import Config, ConfigError
from helpers.experiments.machinery.runner import Experiment, artefact_path, run
from helpers.experiments.machinery.storage import ArtefactError
from helpers.experiments.matched_loss import CNN_WIDTH, LABEL_NOISE, LR_BATCH, MLP_WIDTH
from helpers.experiments.memorisation import EXPERIMENT as _supersample
from helpers.experiments.noise_alignment import EXPERIMENT as _alignment
from helpers.experiments.noisy_descent import EXPERIMENT as _langevin
from helpers.experiments.resnet18_clip import EXPERIMENT as _resnet18_clip
from helpers.experiments.resnet18_epochs import EXPERIMENT as _resnet18_epochs
from helpers.experiments.resnet18_grid import EXPERIMENT as _resnet18_grid
from helpers.experiments.resnet18_lambda import EXPERIMENT as _resnet18_lambda
from helpers.experiments.resnet18_middle import EXPERIMENT as _resnet18_middle
from helpers.experiments.resnet18_validation import EXPERIMENT as _resnet18_validation
from helpers.experiments.skips import EXPERIMENT as _skips
from helpers.experiments.sphere import EXPERIMENT as _sphere
from helpers.experiments.stable_minima import EXPERIMENT as _stability
from helpers.experiments.xor import EXPERIMENT as _xor

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        _resnet18_grid,
        _resnet18_epochs,
        _resnet18_lambda,
        _resnet18_validation,
        _resnet18_clip,
        _resnet18_middle,
        MLP_WIDTH,
        CNN_WIDTH,
        LABEL_NOISE,
        _dispersion,
        _digits_dispersion,
        LR_BATCH,
        _linear_relu,
        MLP_CLIPPING,
        CNN_CLIPPING,
        _flat_training,
        _flat_networks,
        _xor,
        _stability,
        _alignment,
        _escape,
        _soft_rank,
        _complexity,
        _batch_sharpness,
        _sphere,
        _skips,
        _convex,
        _supersample,
        _langevin,
    )
}

__all__ = [
    "EXPERIMENTS",
    "Artefact",
    "ArtefactError",
    "Config",
    "ConfigError",
    "Experiment",
    "artefact_path",
    "find",
    "library",
    "load",
    "provenance",
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
