"""How a notebook shows an estimate, a bound or a row: its numbers as a table, its terms as a bar."""

from dataclasses import fields, is_dataclass
from html import escape
from numbers import Real
from typing import Any

from helpers.plots.figures import PALETTE
from helpers.plots.tables import uncertain

# Where each result lives, and the terms that add up to its value. IPython reads names, so no module is imported early.
RESULTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("helpers.curvature.estimates", "Estimate"): (),
    ("helpers.flatness", "Ascent"): (),
    ("helpers.wang_mao.isotropic", "Isotropic"): ("trajectory", "flatness"),
    ("helpers.omniscient.rows", "Row"): ("trajectory", "flatness", "penalty"),
    ("helpers.pac_bayes", "FlatnessBound"): (),
    ("helpers.convex", "Ghost"): (),
}


def _bar(terms: dict[str, float]) -> str:
    """The terms as one bar of labelled pieces; nothing where they are no parts of a whole."""
    total = sum(terms.values())
    if not terms or min(terms.values()) < 0 or not 0 < total < float("inf"):
        return ""
    pieces = "".join(
        f'<span style="background:{colour};flex:{size / total:.4f} 0 0" title="{escape(name)} {size:.3g}"></span>'
        for (name, size), colour in zip(terms.items(), PALETTE, strict=False)
    )
    words = " + ".join(f"{escape(name)} {size:.3g}" for name, size in terms.items())
    return (
        f'<div class="terms-bar" role="img" aria-label="{words}" style="display:flex;height:0.75rem;max-width:24rem">'
        f"{pieces}</div><div>{words}</div>"
    )


def result_html(result: Any) -> str:
    """A result as HTML: name, value with its error, terms as a bar, every other number in a folded table.

    Raises:
        TypeError: if ``result`` is not a dataclass with a ``value``.
    """
    if not is_dataclass(result) or isinstance(result, type) or not hasattr(result, "value"):
        raise TypeError("result must be a dataclass with a value, such as curvature.Estimate")
    kind = type(result)
    numbers = {field.name: getattr(result, field.name) for field in fields(result)}
    value, error = (
        float(numbers.pop("value")),
        float(getattr(result, "uncertainty", numbers.get("standard_error", 0.0))),
    )
    if numbers.get("standard_error") == error:
        del numbers["standard_error"]  # else it is another number than the one behind the +-
    terms = {name: float(numbers[name]) for name in RESULTS.get((kind.__module__, kind.__name__), ())}
    rest = "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td>{escape(_text(number))}</td></tr>"
        for name, number in numbers.items()
        if number is None or isinstance(number, Real | str)
    )
    folded = f"<details><summary>all of it</summary><table>{rest}</table></details>" if rest else ""
    return (
        f'<div class="result"><strong>{escape(kind.__name__)}</strong> {uncertain(value, error)}'
        f"{_bar(terms)}{folded}</div>"
    )


def _text(number: Any) -> str:
    return f"{number:.4g}" if isinstance(number, Real) and not isinstance(number, bool | int) else str(number)


def show_results() -> None:
    """Let the notebook show results as ``result_html`` does; outside a notebook this does nothing."""
    try:
        formatters = get_ipython().display_formatter.formatters  # type: ignore[name-defined]
    except NameError:
        return
    for module, name in RESULTS:
        formatters["text/html"].for_type_by_name(module, name, result_html)
