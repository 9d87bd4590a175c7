"""The answer for a task: learned from the others alone, and consistent in itself."""

import numpy as np
import pytest

from vlmrank.answer.check import calibration_table, statements
from vlmrank.answer.tasks import Settings, Tasks, answer_tasks, first_pick, method_quality


def drawn(tasks=20, models=15, seed=0):
    """Tasks on which `good` sees the accuracy through noise and `bad` sees nothing."""
    generator = np.random.default_rng(seed)
    accuracy = np.clip(0.5 + 0.15 * generator.standard_normal((models, tasks)), 0.02, 0.98)
    good = accuracy.T + 0.08 * generator.standard_normal((tasks, models))
    return Tasks({"good": good, "bad": generator.random((tasks, models))}, accuracy, np.eye(tasks, dtype=bool))


def test_the_better_method_is_found_whatever_the_default():
    found = answer_tasks(drawn(), Settings(default="bad", draws=200))
    assert {one.choice.method for one in found.values()} == {"good"}


def test_a_fixed_method_is_kept():
    found = answer_tasks(drawn(), Settings(default="good", fixed="bad", draws=200), wanted=[0])
    assert found[0].choice.method == "bad"


def test_the_own_truth_of_a_task_and_of_its_siblings_is_not_used():
    tasks = drawn()
    siblings = tasks.siblings.copy()
    siblings[0, 1] = siblings[1, 0] = True
    how = Settings(default="good", draws=200)
    before = answer_tasks(Tasks(tasks.scores, tasks.accuracy, siblings), how, wanted=[0])[0]
    changed = tasks.accuracy.copy()
    changed[:, :2] = 1 - changed[:, :2]
    after = answer_tasks(Tasks(tasks.scores, changed, siblings), how, wanted=[0])[0]
    np.testing.assert_array_equal(before.expected.accuracy, after.expected.accuracy)
    assert before.noise == after.noise
    assert before.known == 18


def test_a_target_without_truth_is_answered():
    tasks = drawn()
    tasks.accuracy[:, 3] = np.nan
    found = answer_tasks(tasks, Settings(default="good", draws=500), wanted=[3])[3]
    assert found.pick == np.argmax(tasks.scores["good"][3])
    assert 0 < found.expected.loss[found.pick] < 0.2
    assert found.verdict.level in ("strong", "fair", "weak")
    assert found.hits <= found.known == 19


def test_without_known_tasks_the_prior_answers_and_the_verdict_says_so():
    scores = {"good": np.random.default_rng(0).random((1, 8))}
    found = answer_tasks(Tasks(scores, np.full((8, 1), np.nan), np.eye(1, dtype=bool)), Settings(default="good"))[0]
    assert found.known == 0
    assert np.isnan(found.expected.accuracy).all()
    assert np.isfinite(found.ranks.p_top).all()
    assert found.verdict.level == "none"


def test_no_score_at_all_is_no_pick():
    tasks = drawn()
    tasks.scores["good"][2] = np.nan
    tasks.scores["bad"][2] = np.nan
    found = answer_tasks(tasks, Settings(default="good", draws=100), wanted=[2])[2]
    assert (found.pick, found.verdict.level) == (-1, "none")


def test_quality_needs_three_known_accuracies():
    tasks = drawn()
    tasks.accuracy[2:, 0] = np.nan
    assert np.isnan(method_quality(tasks)["good"][0])


def test_first_pick_by_hand():
    loss, random_loss, hit = first_pick(np.array([0.1, 0.9, np.nan]), np.array([0.8, 0.5, 0.2]))
    assert (loss, hit) == (pytest.approx(0.3), 1.0)
    assert random_loss == pytest.approx(0.3)


def test_claims_hold_over_drawn_tasks():
    tasks = drawn(tasks=60, models=20, seed=1)
    found = statements(answer_tasks(tasks, Settings(default="good", draws=400)), tasks.accuracy)
    table = calibration_table(found).set_index("quantity")
    assert abs(table.loc["p_top5_first_pick", "claimed"] - table.loc["p_top5_first_pick", "seen"]) < 0.12
    assert 0.84 < table.loc["rank_interval", "seen"] < 0.98
    low, high = table.loc["loss_first_pick", ["low", "high"]]
    assert low - 0.01 < table.loc["loss_first_pick", "claimed"] < high + 0.01
    assert len(found) == 60 * 20
