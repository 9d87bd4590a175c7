"""The verdict follows from the numbers beside it."""

import pytest

from vlmrank.answer.verdict import verdict

GOOD = {
    "loss": 0.005,
    "p_top5": 0.9,
    "known_tasks": 9,
    "loss_known": 0.01,
    "loss_random": 0.1,
    "chance_top5": 0.1,
}


@pytest.mark.parametrize(
    ("changed", "level"),
    [
        ({}, "strong"),
        ({"loss": 0.02}, "fair"),
        ({"p_top5": 0.6}, "fair"),
        ({"loss": 0.2}, "weak"),
        ({"p_top5": 0.3}, "weak"),
        ({"loss_known": 0.1}, "none"),
        ({"loss_known": 0.2}, "none"),
        ({"known_tasks": 0, "loss_known": float("nan"), "loss_random": float("nan")}, "strong"),
        ({"p_top5": 0.1}, "none"),
        ({"p_top5": 1.0, "chance_top5": 1.0}, "strong"),
    ],
)
def test_levels(changed, level):
    assert verdict(**{**GOOD, **changed}).level == level


def test_no_better_than_chance_is_said_in_words():
    found = verdict(**{**GOOD, "loss_known": 0.2})
    assert "no better than chance" in found.reason
    assert "9 known tasks" in found.reason
