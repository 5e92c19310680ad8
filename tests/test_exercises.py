"""A check of an exercise answers in a sentence, whatever the attempt does."""

import pytest

from helpers.exercises import check


@check
def doubles(twice):
    assert twice(2) == 4
    assert twice(0) == 0


def unwritten(x):
    raise NotImplementedError


@pytest.mark.parametrize(
    ("attempt", "answer"),
    [
        (lambda x: 2 * x, "Right."),
        (unwritten, "Not written yet: replace the line that raises NotImplementedError."),
        (lambda x: 3 * x, "Not right yet: twice(2) == 4 does not hold."),
        (lambda x: 4, "Not right yet: twice(0) == 0 does not hold."),
        (lambda x: x / 0, "Not right yet: the attempt stops with ZeroDivisionError: division by zero"),
    ],
)
def test_the_answer_says_what_is_the_matter(attempt, answer):
    assert doubles(attempt) == answer


@check
def triples(three_times):
    assert (
        three_times(2)
        == 6
    )  # fmt: skip
    assert three_times(0) == 0, "three times nothing is nothing"


def test_an_assertion_on_several_lines_is_told_whole_and_a_message_as_it_is():
    assert triples(lambda x: 2 * x) == "Not right yet: three_times(2) == 6 does not hold."
    assert triples(lambda x: 6) == "Not right yet: three times nothing is nothing."
