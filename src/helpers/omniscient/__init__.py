"""Chapter 10: which perturbation of the weights makes the bound small, and what is such a bound worth?

The omniscient trajectory of Peng et al., from k runs:

===============  ===========================================================================================
``runs``         k runs with their samples and loss, checked once
``surrogate``    the perturbation: one linear system a run for a whole path of lambda
``rows``         the perturbed networks measured, and the terms of the bound put together
``bound``        centres, ``estimate``, ``self_certified``, ``evaluate``, and the measured gap
===============  ===========================================================================================
"""

from helpers.omniscient.bound import (
    estimate,
    estimate_on,
    evaluate,
    gap,
    leave_one_out,
    majorise_minimise_lambda,
    plain_mean,
    self_certified,
    self_certified_on,
    split_half,
)
from helpers.omniscient.rows import Row, under_noise
from helpers.omniscient.runs import Runs
from helpers.omniscient.surrogate import Degenerate, Perturbation, Solver, solve_path

__all__ = [
    "Degenerate",
    "Perturbation",
    "Row",
    "Runs",
    "Solver",
    "estimate",
    "estimate_on",
    "evaluate",
    "gap",
    "leave_one_out",
    "majorise_minimise_lambda",
    "plain_mean",
    "self_certified",
    "self_certified_on",
    "solve_path",
    "split_half",
    "under_noise",
]
