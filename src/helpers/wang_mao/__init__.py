"""Chapters 3 to 5: how far can SGD's gap be bounded by the spread of its updates and the curvature where it ends?

Wang & Mao (2022), in the order of the argument:

===================  ===================================================================================
``information``      Lemmas 3 to 6: what one noisy update tells about the sample; an exact example
``dispersion``       estimators of the spread of the updates, sum_t lr_t^2 E[V_t]
``isotropic``        A / sigma + B sigma^2 and its minimum: the closed form (eq. 3), Lemma 7, the end-point bound
``theorems``         Theorem 1, Theorem 2 with eq. 2, the corollaries
``relu_networks``    Theorems 3 and 4: the closed form for linear and two-layer ReLU networks
===================  ===================================================================================
"""

from helpers.wang_mao.dispersion import (
    cross_run_dispersion,
    expected_single_run_dispersion,
    single_run_dispersion,
    uncentred_dispersion,
    within_batch_dispersion,
)
from helpers.wang_mao.information import LinearChain, gaussian_information, lemma_3, lemma_4, lemma_5, lemma_6
from helpers.wang_mao.isotropic import Isotropic, closed_form, lemma_7, optimal_noise, terminal, terminal_variance
from helpers.wang_mao.relu_networks import active_units, linear_network, two_layer_relu
from helpers.wang_mao.theorems import corollary_1, corollary_2, log_form, theorem_1, trajectory

__all__ = [
    "Isotropic",
    "LinearChain",
    "active_units",
    "closed_form",
    "corollary_1",
    "corollary_2",
    "cross_run_dispersion",
    "expected_single_run_dispersion",
    "gaussian_information",
    "lemma_3",
    "lemma_4",
    "lemma_5",
    "lemma_6",
    "lemma_7",
    "linear_network",
    "log_form",
    "optimal_noise",
    "single_run_dispersion",
    "terminal",
    "terminal_variance",
    "theorem_1",
    "trajectory",
    "two_layer_relu",
    "uncentred_dispersion",
    "within_batch_dispersion",
]
