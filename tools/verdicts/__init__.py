"""The rule behind each verdict that rests on an artefact: code that reads the rows and says what they amount to.

``RULES`` maps a claim's id to a function of the artefact. A rule returns one of the verdicts that ``admissible`` grants
it, "not run yet" where the artefact has too few rows to say. ``tests/book/test_claims.py`` holds ``book/claims.yml`` to
them, and ``python -m tools.verdicts`` lists the rows of the ledger that newer artefacts have overtaken.
"""

from functools import partial
from inspect import unwrap
from typing import Any

from . import beyond, flat, peng, shoham, wang_mao, wu
from .admissible import admissible
from .common import Rule

RULES: dict[str, Rule] = peng.RULES | wang_mao.RULES | wu.RULES | shoham.RULES | flat.RULES | beyond.RULES


def called(rule: Rule) -> str:
    """The name under which a rule is found here: its module and function."""
    function: Any = unwrap(rule)
    function = function.func if isinstance(function, partial) else function
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


__all__ = ["RULES", "Rule", "admissible", "called"]
