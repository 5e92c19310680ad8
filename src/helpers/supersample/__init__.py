"""Chapter 15: which of two examples was trained on? Information that can be counted, on supersamples.

2n examples lie in n pairs; a fair coin U_i chooses which of pair i is trained on, the other is the ghost. What the
trained network tells about the coins bounds its gap, and it is never more than log 2 a pair, however many weights there
are (Steinke & Zakynthinou 2020).

===================  =============================================================================
``family``           the bounds, from I(W; U | Z) to loss differences, and what counting says of the last
``loss_difference``  the last member from a known law, charged by its range or by its spread
``plug_in``          mutual information from m retrainings, with its bias shown
``pairs``            the draw: pairs of examples, coins, training samples
``bits``             learners of bits, for which every member of the family is exact
===================  =============================================================================
"""

from helpers.supersample.bits import Exact, enumerated, majority
from helpers.supersample.family import (
    Counted,
    binary_kl_bound,
    bound,
    counted,
    fast_rate_bound,
    interpolating_risk,
    whole_bound,
)
from helpers.supersample.loss_difference import LossDifference
from helpers.supersample.pairs import Supersample
from helpers.supersample.plug_in import Information, codes, information, memorisation

__all__ = [
    "Counted",
    "Exact",
    "Information",
    "LossDifference",
    "Supersample",
    "binary_kl_bound",
    "bound",
    "codes",
    "counted",
    "enumerated",
    "fast_rate_bound",
    "information",
    "interpolating_risk",
    "majority",
    "memorisation",
    "whole_bound",
]
