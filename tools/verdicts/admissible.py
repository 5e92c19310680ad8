"""What each rule may say, besides "not run yet": a test sees every verdict of this table come out, and no other."""

from .common import NOT_REPRODUCED, OTHERWISE, PARTLY, REPRODUCED, SMALL_SCALE, SOURCE_WRONG

GRADED = frozenset({SMALL_SCALE, PARTLY, OTHERWISE})  # of rules on networks or samples smaller than the source's
AT_ITS_SIZE = frozenset({REPRODUCED, PARTLY, NOT_REPRODUCED})
YES_OR_NO = frozenset({SMALL_SCALE, OTHERWISE})  # one number, one direction: there is no part
HOLDS_OR_NOT = frozenset({REPRODUCED, NOT_REPRODUCED})  # an inequality that is proved, or was never violated
NO_PROOF = frozenset({PARTLY, NOT_REPRODUCED})  # what is measured cannot show the whole

EXCEPTIONS = {
    **dict.fromkeys(("000-theorem-4", "002-theorem-2-squares", "002-theorem-3-gap"), NO_PROOF),
    **dict.fromkeys(("000-open-2", "001-small-batch-flat", "001-small-rates-longer", "001-table-3",
                     "002-table-2-keskar", "004-neyshabur-width"), YES_OR_NO),
    **dict.fromkeys(("002-theorem-3-stability", "002-theorem-4-escape"), HOLDS_OR_NOT),
    **dict.fromkeys(("001-figure-7", "001-figure-8", "002-isotropic-noise"), AT_ITS_SIZE),
    "002-matrix-condition": frozenset({SOURCE_WRONG, SMALL_SCALE}),
}  # fmt: skip


def admissible(name: str) -> frozenset[str]:
    """The verdicts that the rule of a row may return."""
    return EXCEPTIONS.get(name, GRADED)
