"""The verdict follows from the numbers beside it."""

import itertools
from pathlib import Path

import pytest

from vlmrank.answer.verdict import THRESHOLDS, verdict

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


def test_labels_speak_where_the_score_failed_on_the_known_tasks():
    assert verdict(**{**GOOD, "loss_known": 0.2}).level == "none"
    assert verdict(**{**GOOD, "loss_known": 0.2, "labels": 24}).level == "strong"
    assert verdict(**{**GOOD, "loss_known": 0.2, "labels": 24, "p_top5": 0.05}).level == "none"


@pytest.mark.parametrize("labels", [0, 24])
def test_the_verdict_never_contradicts_its_numbers(labels):
    nan, order = float("nan"), ["strong", "fair", "weak", "none"]
    grid = ((0.0, 0.01, 0.02, 0.05, nan), (0.05, 0.1, 0.5, 0.8, 1.0), (0.0, 0.05, 0.1), (0, 9), (0.1, 1.0))
    for loss, p_top5, loss_known, known_tasks, chance in itertools.product(*grid):
        given = {"loss": loss, "p_top5": p_top5, "loss_known": loss_known, "known_tasks": known_tasks}
        found = verdict(**{**GOOD, **given, "chance_top5": chance, "labels": labels})
        failed = bool(known_tasks) and not labels and loss_known >= GOOD["loss_random"]
        chance_like = chance < 1 and p_top5 <= chance
        assert (found.level == "none") == (failed or chance_like or loss != loss)
        for level, largest, smallest in THRESHOLDS:
            if order.index(found.level) <= order.index(level):
                assert loss <= largest and p_top5 >= smallest
        if found.level == "weak":
            assert not (loss <= THRESHOLDS[-1][1] and p_top5 >= THRESHOLDS[-1][2])


def test_the_table_in_the_docs_is_the_one_in_the_code():
    page = (Path(__file__).parents[2] / "docs" / "method.md").read_text(encoding="utf-8")
    for level, largest, smallest in THRESHOLDS:
        assert f"| {level} | at most {100 * largest:.0f} | at least {smallest:.1f} |".replace(" 0.", " .") in page
