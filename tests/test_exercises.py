"""A check of an exercise answers in a sentence, whatever the attempt does."""

import numpy as np
import pytest
import torch

from helpers.exercises import check


@check
def doubles(twice):
    assert twice(2) == 4
    assert twice(0) == 0


@check
def in_cases(twice):
    for x, name in ((0.0, "nothing"), (0.1234567, "something")):
        assert np.isclose(twice(x), 2 * x), f"for {name}"


@check
def bounded(twice):
    whole = twice(torch.arange(3))
    assert len(whole) == 3 and whole.max() <= 4  # noqa: PT018
    assert 0 <= twice(1) < 3


def unwritten(x):
    raise NotImplementedError


def asserting(x):
    if x < 3:
        raise AssertionError("too small for me")


@pytest.mark.parametrize(
    ("ask", "attempt", "answer"),
    [
        (doubles, lambda x: 2 * x, "Right."),
        (doubles, unwritten, "Not written yet: replace the line that raises NotImplementedError."),
        (doubles, lambda x: 3 * x, "Not right yet: twice(2) == 4 does not hold. Found: twice(2) = 6."),
        (doubles, lambda x: 4, "Not right yet: twice(0) == 0 does not hold. Found: twice(0) = 4."),
        (doubles, lambda x: x / 0, "Not right yet: the attempt stops with ZeroDivisionError: division by zero"),
        (
            in_cases,
            lambda x: 3 * x,
            "Not right yet: np.isclose(twice(x), 2 * x) does not hold: for something. "
            "Found: twice(x) = 0.37037; 2 * x = 0.246913; x = 0.123457; name = something.",
        ),
        (
            bounded,
            lambda x: 3 * x,
            "Not right yet: len(whole) == 3 and whole.max() <= 4 does not hold. "
            "Found: len(whole) = 3; whole.max() = 6; whole = [0, 3, 6].",
        ),
        (
            bounded,
            lambda x: x - 2 if isinstance(x, int) else x,
            "Not right yet: 0 <= twice(1) < 3 does not hold. Found: twice(1) = -1.",
        ),
    ],
)
def test_the_answer_says_what_is_the_matter(ask, attempt, answer):
    assert ask(attempt) == answer


def test_an_assertion_of_the_attempt_is_the_attempts():
    assert doubles(asserting).startswith("Not right yet: the attempt stops with AssertionError: too small for me")


def test_a_check_whose_text_is_lost_still_answers():
    names = {"check": check}
    exec("@check\ndef lost(twice):\n    assert twice(2) == 4, 'twice two'", names)
    assert names["lost"](lambda x: 5) == "Not right yet: an assertion of the check does not hold: twice two."
