"""Which image to label: against drawn numbers, and in the right direction."""

import numpy as np
import pytest

from vlmrank.answer.labelling import Labelling, chance_of_best, entropy


def test_chance_of_best_is_that_of_draws():
    mean, variance = np.array([0.5, 0.6, 0.55]), np.array([0.01, 0.002, 0.03])
    drawn = mean + np.sqrt(variance) * np.random.default_rng(0).standard_normal((200_000, 3))
    seen = np.bincount(drawn.argmax(axis=1), minlength=3) / len(drawn)
    np.testing.assert_allclose(chance_of_best(mean, variance), seen, atol=0.005)


def test_entropy_by_hand():
    assert entropy(np.array([0.5, 0.5])) == pytest.approx(np.log(2), abs=1e-12)
    assert entropy(np.array([1.0, 0.0])) == 0


def logits_of(predicted, classes=3, scale=8.0):
    """Sure predictions [M, K] as logits."""
    return scale * np.eye(classes)[np.asarray(predicted)]


def test_the_image_on_which_the_models_differ_is_asked_for():
    predicted = [[0, 1, 2, 0], [0, 1, 2, 1]]
    assert Labelling(logits_of(predicted)).ask() == 3


def test_an_image_is_asked_for_once_and_in_the_end_there_is_none():
    state = Labelling(logits_of([[0, 1], [1, 1]]))
    state.add(0, None)
    assert state.ask() == 1
    state.add(1, 1)
    assert state.ask() is None


def test_labels_decide_for_the_model_that_was_right():
    generator = np.random.default_rng(1)
    truth = generator.integers(3, size=60)
    wrong = np.where(generator.random(60) < 0.4, (truth + 1) % 3, truth)
    state = Labelling(logits_of([wrong, truth]))
    before = state.posterior().p_best[1]
    for image in np.flatnonzero(wrong != truth)[:10]:
        state.add(int(image), int(truth[image]))
    after = state.posterior()
    assert after.p_best[1] > max(before, 0.9)
    assert after.mean[1] > after.mean[0]


def test_what_was_expected_before_holds_until_labels_speak():
    predicted = np.random.default_rng(2).integers(3, size=(2, 40))
    expected = np.array([0.9, 0.5])
    state = Labelling(logits_of(predicted), expected=expected, deviation=0.02)
    assert state.posterior().p_best[0] > 0.95
    shifted = Labelling(logits_of(predicted), expected=expected - 0.3, deviation=0.02)
    np.testing.assert_allclose(state.posterior().p_best, shifted.posterior().p_best, atol=1e-9)


def test_the_order_is_the_same_every_time():
    logits = np.random.default_rng(3).standard_normal((4, 30, 5))
    first, second = Labelling(logits), Labelling(logits)
    np.testing.assert_array_equal(first.expected_gain(), second.expected_gain())
