"""The laboratory: networks that train in the page while every bound of the book answers.

================  ==========================================================================================
``element``       the widgets ``Laboratory`` and ``Train``
``replay``        a setting again with the package, and every bound on any runs: the twin of ``session.js``
``along``         the training loss along random directions: the twin of ``along.js``
``worlds``        digits and toys: the twin of ``worlds.js``
``generator``     PCG32, which page and notebook draw from: the twin of ``random.js``
``scripts``       the texts that the page runs
================  ==========================================================================================

Of the scripts, ``network.js`` holds what ``helpers.curvature`` does, ``training.js`` k runs in lockstep, ``bounds.js``
the bounds under their names in ``helpers``; ``server.js`` runs them in a worker, or on the page where a browser
forbids workers. What they compute is held to the package by test, to 1e-8.
"""

from helpers.widgets.laboratory.element import Laboratory, Train
from helpers.widgets.laboratory.replay import LAMBDAS, Replay, measure, replay, trained
from helpers.widgets.laboratory.worlds import Roles, packed_digits, roles

__all__ = [
    "LAMBDAS",
    "Laboratory",
    "Replay",
    "Roles",
    "Train",
    "measure",
    "packed_digits",
    "replay",
    "roles",
    "trained",
]
