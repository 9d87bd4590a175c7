"""Expected accuracy and loss: by hand, and in the right direction."""

import numpy as np
import pytest

from vlmrank.answer.calibration import Noise, draw_ranks
from vlmrank.answer.expectation import draw_accuracies, expect, level_shifts


def test_known_ranks_and_one_known_task_give_its_accuracies():
    ranks = np.array([[1.0, 2.0, 3.0]] * 4)
    drawn = draw_accuracies(ranks, [np.array([0.2, 0.9, 0.5])])
    np.testing.assert_allclose(drawn, [[0.9, 0.5, 0.2]] * 4, atol=1e-12)
    found = expect(drawn)
    np.testing.assert_allclose(found.loss, [0.0, 0.4, 0.7], atol=1e-12)
    np.testing.assert_allclose(found.accuracy, found.accuracy_high, atol=1e-12)


def test_a_zoo_of_another_size_is_read_between_the_known_accuracies():
    drawn = draw_accuracies(np.array([[1.0, 2.0]]), [np.array([0.9, 0.5, 0.1, 0.3])])
    assert 0.5 < drawn[0, 0] < 0.9 and 0.1 < drawn[0, 1] < 0.3


def test_shifts_follow_the_anchor_and_vanish_without_one():
    anchors = np.linspace(-1, 1, 20)
    shifts = level_shifts(2 * anchors, anchors, 0.5)
    slope = (20 * 2 + 3) / 23
    np.testing.assert_allclose(shifts, slope * (0.5 - anchors), atol=1e-12)
    np.testing.assert_allclose(level_shifts(anchors, anchors, np.nan), 0.0, atol=0)
    assert level_shifts(np.array([0.0, 1.0]), np.array([np.nan, 1.0]), 2.0)[0] == 0


def test_an_easier_target_is_expected_to_be_easier():
    ranks = np.array([[1.0, 2.0]] * 2)
    known = [np.array([0.6, 0.4])] * 2
    plain = expect(draw_accuracies(ranks, known)).accuracy
    moved = expect(draw_accuracies(ranks, known, shifts=np.array([1.0, 1.0]))).accuracy
    assert (moved > plain).all()


def test_the_pick_of_a_better_score_is_expected_to_lose_less():
    score, known = np.arange(20.0), [np.linspace(0.2, 0.8, 20)]
    losses = []
    for mean in (0.0, 1.0, 2.0):
        ranks = draw_ranks(Noise(mean, 0.1, 1), score, draws=2000)
        losses.append(expect(draw_accuracies(ranks, known)).loss[-1])
    assert losses[0] > losses[1] > losses[2]


def test_models_without_a_rank_have_no_expectation():
    ranks = np.array([[1.0, np.nan, 2.0]] * 3)
    found = expect(draw_accuracies(ranks, [np.array([0.9, 0.5, np.nan])]))
    assert np.isnan(found.accuracy[1]) and np.isnan(found.loss[1])
    assert found.loss[0] == 0


def test_no_known_accuracy_is_said():
    with pytest.raises(ValueError, match="no accuracy is known"):
        draw_accuracies(np.array([[1.0]]), [np.array([np.nan])])
