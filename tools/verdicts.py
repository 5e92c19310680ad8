"""The rule behind each verdict that rests on an artefact: code that reads the rows and says what they amount to.

``RULES`` maps a claim's id to a function of the artefact. A rule returns one of the ledger's verdicts, "not run yet"
where the artefact has too few rows to say. ``tests/book/test_claims.py`` holds ``book/claims.yml`` to them.
"""

from collections.abc import Callable
from statistics import fmean

from helpers.experiments.artefact import Artefact, Json
from helpers.experiments.trends import trend

Rule = Callable[[Artefact], str]


def finished(artefact: Artefact) -> list[Json]:
    """Rows that did not diverge."""
    return [row for row in artefact.finished if row.get("status", "ok") == "ok"]


def direction(rows: list[Json], key: str, along: str, within: tuple[str, ...]) -> str:
    """Of a measured number along a setting: "rises", "falls", "unclear", or "not run yet" for want of rows."""
    try:
        return trend(rows, lambda row: row[key], along, within=within).direction
    except ValueError:
        return "not run yet"


def tight_but_isotropic_bounds_are_not(artefact: Artefact) -> str:
    """Peng et al.: the bound aligns with the gap and beats the isotropic ones.

    "partly" where it does so in every row, because a bound within a tenth of the gap is a hold-out estimate.
    """
    rows = finished(artefact)
    beats = all(
        min(o["value"] for o in row["omniscient"]) < min(row["wang_mao_eq3"]["value"], row["terminal"]["value"])
        for row in rows
    )
    close = fmean(min(o["value"] for o in row["omniscient"]) / row["gap"] for row in rows) < 1.25
    return "partly" if beats and close else "not reproduced"


RULES: dict[str, Rule] = {"000-result-tight": tight_but_isotropic_bounds_are_not}
