"""Labels update the drawn accuracies as Bayes' rule does, and images are chosen where the best models differ."""

import numpy as np
import pytest

from vlmrank.answer.label_update import chance_of_best, choose_images, committee, shortlist, update_draws


def logits_of(predicted, classes=3, scale=3.0):
    """Predictions [M, K] as logits."""
    return scale * np.eye(classes)[np.asarray(predicted)]


def drawn_of(mean, deviation=0.1, draws=4000, seed=0):
    """Independent normal draws of the accuracies."""
    mean = np.asarray(mean, np.float64)
    return mean + deviation * np.random.default_rng(seed).standard_normal((draws, len(mean)))


def setting(predicted, mean, **options):
    drawn = drawn_of(mean, **options)
    return drawn, np.arange(len(mean)), committee(logits_of(predicted), np.ones(len(mean)), float(np.mean(mean)))


def test_the_guess_is_tempered_to_the_expected_accuracy():
    predicted = np.random.default_rng(0).integers(3, size=(4, 200))
    for level in (0.4, 0.5):
        known = committee(logits_of(predicted), np.ones(4), level)
        assert known.right.mean() == pytest.approx(level, abs=1e-3)
        np.testing.assert_allclose(known.guess.sum(axis=1), 1.0, atol=1e-12)


def test_the_covariance_is_that_of_classes_drawn_from_the_guess():
    predicted = np.array([[0, 1], [0, 2], [1, 2]])
    known = committee(logits_of(predicted), np.ones(3), 0.4)
    drawn = np.random.default_rng(0).choice(3, size=200_000, p=known.guess[1])
    seen = np.cov((known.predicted[:, 1] == drawn[:, None]).astype(float), rowvar=False)
    np.testing.assert_allclose(known.covariance(1), seen, atol=0.005)


def test_labels_on_which_two_models_differ_decide_between_them():
    generator = np.random.default_rng(1)
    truth = generator.integers(3, size=60)
    wrong = np.where(generator.random(60) < 0.4, (truth + 1) % 3, truth)
    drawn, models, known = setting([wrong, truth], [0.7, 0.7])
    differ = np.flatnonzero(wrong != truth)[:12]
    after = update_draws(drawn, models, known, {int(k): int(truth[k]) for k in differ})
    assert chance_of_best(drawn)[1] == pytest.approx(0.5, abs=0.03)
    assert chance_of_best(after)[1] > 0.9
    assert after[:, 1].std() < drawn[:, 1].std()


def test_a_label_on_which_all_agree_says_nothing_of_who_is_better():
    drawn, models, known = setting([[0, 1, 1], [0, 1, 2]], [0.6, 0.6])
    after = update_draws(drawn, models, known, {0: 0, 1: 1})
    differences = [(one[:, 0] - one[:, 1]).mean() for one in (drawn, after)]
    assert differences[1] == pytest.approx(differences[0], abs=0.01)


def test_no_label_changes_nothing_and_unknown_models_stay_unknown():
    drawn, models, known = setting([[0, 1, 1], [0, 1, 2]], [0.6, 0.6])
    wider = np.column_stack([drawn, np.full(len(drawn), np.nan)])
    np.testing.assert_allclose(update_draws(wider, models, known, {})[:, :2], np.clip(drawn, 0, 1), atol=1e-12)
    assert np.isnan(update_draws(wider, models, known, {2: 1})[:, 2]).all()


def test_a_model_off_the_shortlist_moves_with_those_it_is_tied_to():
    drawn, models, known = setting([[0, 1, 1], [0, 1, 2]], [0.6, 0.6])
    wider = np.column_stack([drawn, drawn[:, 0]])
    after = update_draws(wider, models, known, {2: 1})
    np.testing.assert_allclose(after[:, 2], after[:, 0], atol=1e-9)
    assert after[:, 0].mean() > after[:, 1].mean()


def test_images_on_which_the_best_models_differ_are_asked_for_and_no_other():
    predicted = [[0, 1, 2, 0, 1], [0, 1, 2, 1, 0]]
    drawn, models, known = setting(predicted, [0.6, 0.6])
    assert sorted(choose_images(drawn, models, known, count=4)) == [3, 4]
    assert choose_images(drawn, models, known, taken=[3]) == [4]
    assert choose_images(drawn, models, known, taken=range(5)) == []


def test_what_hopeless_models_say_does_not_count():
    predicted = [[0, 1, 2, 0], [0, 1, 2, 1], [0, 2, 2, 0]]
    drawn = drawn_of([0.8, 0.8, 0.1], deviation=0.02)
    known = committee(logits_of(predicted), np.ones(3), 0.6)
    assert choose_images(drawn, np.arange(3), known, count=1) == [3]


def test_the_shortlist_has_the_models_most_likely_to_be_best():
    drawn = drawn_of([0.1, 0.8, 0.7], deviation=0.05)
    drawn[:, 0] = np.nan
    assert shortlist(drawn, 2).tolist() == [1, 2]
    assert chance_of_best(drawn).sum() == pytest.approx(1.0, abs=1e-12)


def test_the_update_is_calibrated_on_drawn_tasks():
    """Accuracies and labels from the model's own prior: the claimed chances to be best come true."""
    generator = np.random.default_rng(5)
    claimed, seen = [], []
    for _ in range(60):
        accuracy = np.clip(0.6 + 0.08 * generator.standard_normal(4), 0.05, 0.95)
        truth = generator.integers(4, size=300)
        right = generator.random((4, 300)) < accuracy[:, None]
        predicted = np.where(right, truth, (truth + generator.integers(1, 4, size=(4, 300))) % 4)
        drawn = drawn_of(np.full(4, 0.6), deviation=0.08, draws=600, seed=int(generator.integers(1 << 30)))
        known = committee(logits_of(predicted, 4, 2.0), np.ones(4), 0.6)
        asked = choose_images(drawn, np.arange(4), known)
        after = update_draws(drawn, np.arange(4), known, {k: int(truth[k]) for k in asked})
        pick = int(np.argmax(after.mean(axis=0)))
        claimed.append(chance_of_best(after)[pick])
        seen.append(accuracy[pick] == accuracy.max())
    assert np.mean(seen) > 0.4
    assert abs(np.mean(claimed) - np.mean(seen)) < 0.2
