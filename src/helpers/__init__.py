"""Exact, tested code behind the book *Flatness and Information*.

One module a topic, named as the chapter that it backs; data flows one way::

    data, losses -> models -> training -> curvature -> bounds -> experiments -> plots, widgets

A submodule is loaded when it is first used, so ``import helpers`` costs milliseconds and
``from helpers import omniscient`` loads what the omniscient bound needs and no more.
"""

from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

__all__ = [
    "alignment",
    "augment",
    "convex",
    "curvature",
    "data",
    "dispersion",
    "exchange",
    "experiments",
    "flatness",
    "information",
    "isotropic",
    "learners",
    "linear_gaussian",
    "losses",
    "models",
    "networks",
    "neu",
    "omniscient",
    "pac_bayes",
    "perturbed",
    "plane",
    "plots",
    "regularizers",
    "relu_minima",
    "soft_rank",
    "stability",
    "surrogate",
    "training",
    "wang_mao",
    "widgets",
    "xu_raginsky",
]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"helpers has no module {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
