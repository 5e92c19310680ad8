"""Exact, tested code behind the book *Flatness and Information*.

Data flow one way, from top to bottom; a module imports only from what stands above it::

    data, losses, models                                   examples, what a mistake costs, networks
    training                                               k runs from one initialisation
    curvature                                              gradients, Hessian products, traces, spectra
    one module a chapter, in the chapters' order           bounds, flatness
    measurement                                            what every bound asks of k runs
    experiments                                            grids that resume, artefacts
    plots, comparison, widgets                             what a reader sees

=======  =====================================================  =====================================
chapter  asks                                                   module
=======  =====================================================  =====================================
1        what does the gap have to do with information?         ``xu_raginsky``
2        what if the output is a noisy copy?                    ``neu``
3, 5     how small can the ghost's bound be made?               ``wang_mao``
4        and for networks that can be written down?             ``wang_mao.relu_networks``
6        what is flat?                                          ``flatness``, ``pac_bayes``
7        why does SGD like flat minima?                         ``stability``, ``alignment``
8        can one train for flatness?                            ``regularizers``
9        is it flatness after all?                              ``relu_minima``, ``soft_rank``
10, 11   which perturbation makes the bound small?              ``linear_gaussian``, ``omniscient``
12       what is known where the loss is convex?                ``convex``
13       what is left open?                                     ``excess_risk``, ``exchange``
15       what can be counted?                                   ``supersample``
16       what if the noise is real?                             ``langevin``
all      what does every bound say of runs of my own?           ``bounds``
=======  =====================================================  =====================================

A submodule is loaded when it is first used, so ``import helpers`` costs milliseconds and
``from helpers import omniscient`` loads what the omniscient bound needs and no more.

Imported before PyTorch, the package lets threads sleep while they wait for one another, unless ``OMP_WAIT_POLICY`` is
set already. PyTorch's spin: where other work takes one of the processors, a small network then trains hundreds of
times slower on two threads than on one (``benchmarks/bench_threads.py``). No number depends on it. Where PyTorch comes
first, the variable has to be set before Python starts.
"""

import os
from importlib import import_module
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when PyTorch is loaded

__version__ = "0.1.0"

__all__ = [
    "alignment",
    "bounds",
    "comparison",
    "convex",
    "curvature",
    "data",
    "excess_risk",
    "exchange",
    "exercises",
    "experiments",
    "flatness",
    "langevin",
    "linear_gaussian",
    "losses",
    "measurement",
    "models",
    "neu",
    "omniscient",
    "pac_bayes",
    "plots",
    "regularizers",
    "relu_minima",
    "soft_rank",
    "stability",
    "supersample",
    "training",
    "wang_mao",
    "widgets",
    "xu_raginsky",
]


def __getattr__(name: str) -> Any:
    if name == "bounds":
        return import_module(f"{__name__}.comparison").bounds
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"helpers has no module {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
