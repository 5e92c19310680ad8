"""Behind the +- stands what covers as much as one standard error of a normal, whatever the number of samples."""

import math

import pytest
import torch
from instances import CLIPPED, network, sample

from helpers import curvature, omniscient, plots
from helpers.curvature import Estimate, pooled_freedom
from helpers.measurement import Traces
from helpers.plots.shown import result_html

ONE_SIGMA = math.erf(0.5**0.5)  # 68.3 per cent


@pytest.mark.parametrize(("m", "without"), [(2, 0.5), (3, 0.577), (4, 0.609), (6, 0.637), (30, 0.675)])
def test_a_mean_of_few_samples_lies_within_its_uncertainty_as_often_as_of_many(m, without):
    """20,000 means of m normal numbers; the share within one standard error is what the docstring says."""
    drawn = torch.randn(20_000, m, generator=torch.Generator().manual_seed(m), dtype=torch.float64)
    found = [Estimate.mean(row, "drawn") for row in drawn]
    assert sum(abs(one.value) <= one.uncertainty for one in found) / 20_000 == pytest.approx(ONE_SIGMA, abs=0.012)
    assert sum(abs(one.value) <= one.standard_error for one in found) / 20_000 == pytest.approx(without, abs=0.012)


def test_two_samples_of_one_batch_widen_the_error_of_a_trace_and_many_batches_do_not():
    """With one degree of freedom Student's t is Cauchy's distribution, of quantile tan(pi (P - 1/2))."""
    few = curvature.trace(network(), CLIPPED, sample(20), method="hutchinson", most_probes=2)
    assert (few.probes, few.freedom) == (2, 1.0)
    assert few.uncertainty == pytest.approx(few.standard_error * math.tan(math.pi * ONE_SIGMA / 2))
    many = curvature.trace(network(), CLIPPED, sample(400), method="gauss-newton", most_probes=2)
    assert many.standard_error < many.uncertainty < 1.02 * many.standard_error
    exact = curvature.trace(network(), CLIPPED, sample(20), method="exact")
    assert (exact.uncertainty, exact.freedom) == (0.0, math.inf)


def test_freedoms_are_pooled():
    assert pooled_freedom([1.0, 1.0], [3, 3]) == 6
    assert pooled_freedom([1.0, 1e-9], [3, 3]) == pytest.approx(3)
    assert pooled_freedom([2.0, 0.0], [math.inf, math.inf]) == pooled_freedom([0.0], [1]) == math.inf
    pooled = Traces((Estimate(1.0, 0.1, 2, "hutchinson", freedom=1.0),) * 4, ()).mean_training
    assert (pooled.standard_error, pooled.freedom) == (0.05, 4)
    assert math.isnan(Estimate(1.0, math.nan, 1, "runs", freedom=math.nan).uncertainty)
    gap = omniscient.gap([network(seed=0), network(seed=1)], [sample(), sample(seed=1)], sample(seed=2), loss=CLIPPED)
    assert 1 <= gap.freedom <= 23
    assert math.isnan(omniscient.gap([network()], [sample()], sample(seed=2), loss=CLIPPED).uncertainty)


def test_what_is_shown_is_the_uncertainty():
    few = Estimate(1.0, 0.1, 2, "hutchinson", freedom=1.0)
    assert "1.00 ± 0.18" in result_html(few)
    assert "<th scope='row'>standard_error</th><td>0.1</td>" in result_html(few)
    assert "1.0 ± 0.3" in result_html(Estimate(1.0, 0.3, 900, "hutchinson"))
    assert plots.table([{"trace": few}]).shown == (("1.00 ± 0.18",),)
