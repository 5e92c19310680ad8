"""Results show themselves: value with error, terms as a bar, and the list of them names what is there."""

import dataclasses
import importlib
import re

import pytest

from helpers import plots, wang_mao
from helpers.curvature import Estimate
from helpers.plots import shown


@pytest.mark.parametrize(("place", "terms"), shown.RESULTS.items(), ids=lambda value: str(value))
def test_every_result_named_is_a_dataclass_with_these_terms(place: tuple[str, str], terms: tuple[str, ...]) -> None:
    module, name = place
    kind = getattr(importlib.import_module(module), name)
    assert kind.__module__ == module, "IPython asks for the module that defines the class"
    assert {"value", *terms} <= {field.name for field in dataclasses.fields(kind)}


def test_a_bound_shows_its_terms_in_proportion() -> None:
    bound = wang_mao.closed_form(2.0, 3.0, n=100, steps=10, R=1.0)
    html = plots.result_html(bound)
    assert html.startswith('<div class="result"><strong>Isotropic</strong>')
    assert re.findall(r"flex:([\d.]+)", html) == ["0.6667", "0.3333"]
    assert f"trajectory {bound.trajectory:.3g} + flatness {bound.flatness:.3g}" in html


def test_an_estimate_shows_its_error_and_no_bar() -> None:
    html = plots.result_html(Estimate(0.27123, 0.0142, 3, "a<b"))
    assert "0.271 ± 0.014" in html
    assert "flex" not in html
    assert "a&lt;b" in html


def test_what_is_no_result_is_refused() -> None:
    with pytest.raises(TypeError, match="must be a dataclass with a value"):
        plots.result_html(3.0)
