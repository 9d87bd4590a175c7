"""A model that guesses everywhere is warned of; one that is weak, or among guessers, is not."""

from __future__ import annotations

import numpy as np
import pytest

from vlmrank.accuracy.chance import near_chance

GOOD = [[0.7, 0.8, 0.6], [0.6, 0.9, 0.5], [0.65, 0.7, 0.55]]


def found(row, others=None, classes=(10, 10, 5), images=500.0):
    accuracy = np.array([*(others or GOOD), row])
    return [bool(text) for text in near_chance(accuracy, classes, np.full(accuracy.shape, images))]


@pytest.mark.parametrize(
    ("row", "warned"),
    [
        ([0.1, 0.11, 0.21], True),
        ([0.02, 0.0, 0.1], True),  # below chance is no better
        ([0.1, np.nan, 0.2], True),
        ([0.1, 0.11, 0.35], False),  # weak, but not guessing
        ([0.1, np.nan, np.nan], False),  # one source says nothing
        ([0.3, 0.4, 0.4], False),
    ],
)
def test_who_is_warned_of(row, warned):
    assert found(row) == [False, False, False, warned]


def test_where_all_guess_nobody_is_warned_of():
    assert found([0.1, 0.1, 0.2], others=[[0.1, 0.12, 0.2], [0.11, 0.1, 0.22]]) == [False] * 3


def test_few_images_and_unknown_classes_tell_nothing():
    assert not any(found([0.1, 0.1, 0.2], images=4.0))
    assert not any(found([0.1, 0.1, 0.2], classes=(0, 0, 5)))
    assert found([0.1, 0.1, 0.2], images=np.nan)[-1]  # published: the least slack


def test_two_models_cannot_be_compared():
    assert not any(near_chance(np.array([[0.9, 0.9], [0.1, 0.1]]), [10, 10], np.full((2, 2), 500.0)))


def test_the_warning_says_what_to_check():
    [*_, text] = near_chance(np.array([*GOOD, [0.1, 0.1, 0.2]]), [10, 10, 5], np.full((4, 3), 500.0))
    assert (
        text.startswith("at chance on all 3 sources") and "check its tag, its tokenizer and its preprocessing" in text
    )
