"""Chapter 16: what if the ghost were real? Noise in the algorithm, no residual, no Taylor step.

W_t = W_{t-1} - lr g_t + sigma xi_t with sigma^2 = 2 lr temperature. What the noisy network knows is bounded step by
step, by Lemma 4 of Wang & Mao, and nothing is left to pay.

=================  =================================================================================
``certificates``   the three bounds: whole sample, one example given the rest, which of a pair
``walk``           ``train``: noisy gradient descent that records what the first two need
``paired_walk``    ``train_paired``: the same on a supersample, with its running posterior
``streams``        what a walk draws at random, independent purpose by purpose
``gradients``      every example's gradient against the mean, without storing it
``gaussian_mean``  the mean of Gaussian data, where all of it is exact
=================  =================================================================================
"""

from helpers.langevin.certificates import expected, leave_one_out, membership, whole_sample
from helpers.langevin.gaussian_mean import GaussianMean
from helpers.langevin.gradients import Batch
from helpers.langevin.paired_walk import PairedWalk, train_paired
from helpers.langevin.streams import stream_seed
from helpers.langevin.walk import Walk, train

__all__ = [
    "Batch",
    "GaussianMean",
    "PairedWalk",
    "Walk",
    "expected",
    "leave_one_out",
    "membership",
    "stream_seed",
    "train",
    "train_paired",
    "whole_sample",
]
