"""The noise model: fitted on drawn tasks it recovers what they were drawn from, and its claims come true."""

import numpy as np
import pytest
from scipy.stats import rankdata

from vlmrank.answer.calibration import (
    Noise,
    calibration_error,
    draw_ranks,
    fit_noise,
    normal_scores,
    rank_statements,
    standing,
    task_correlation,
)

PRIOR = Noise(mean=0.75, spread=0.45, tasks=5.0)


def drawn_tasks(noise, tasks, models, seed=0):
    """Scores and accuracies [T, M] of the model's own making."""
    generator = np.random.default_rng(seed)
    r = np.tanh(noise.mean + noise.spread * generator.standard_normal((tasks, 1)))
    x = generator.standard_normal((tasks, models))
    return x, r * x + np.sqrt(1 - r**2) * generator.standard_normal((tasks, models))


def test_standing_is_in_standard_deviations_and_keeps_unknown():
    found = standing(np.array([1.0, 3.0, np.nan]))
    np.testing.assert_allclose(found, [-1.0, 1.0, np.nan], atol=1e-12)
    np.testing.assert_allclose(standing(np.array([2.0, 2.0])), [0.0, 0.0], atol=0)
    np.testing.assert_allclose(standing(np.linspace(0, 1, 50)).mean(), 0.0, atol=1e-12)


def test_one_outlier_does_not_make_all_others_alike():
    score = np.append(np.linspace(0, 0.01, 20), 100.0)
    assert np.ptp(standing(score)[:20]) > 1.5


def test_normal_scores_of_ties_are_equal():
    found = normal_scores(np.array([1.0, 1.0, 5.0, np.nan]))
    assert found[0] == found[1] < 0 < found[2]
    assert np.isnan(found[3])


def test_correlation_is_one_for_the_truth_itself_and_nothing_for_two_models():
    truth = normal_scores(np.random.default_rng(0).random(30))
    assert task_correlation(truth, truth) > 0.99
    assert np.isnan(task_correlation(np.array([1.0, 2.0, np.nan]), np.array([1.0, 2.0, 3.0])))


def test_the_fit_recovers_the_noise_of_many_tasks():
    truth = Noise(0.9, 0.3, 0)
    found = fit_noise(*drawn_tasks(truth, 300, 200), prior=PRIOR)
    assert found.mean == pytest.approx(0.9, abs=0.06)
    assert found.spread == pytest.approx(0.3, abs=0.06)
    assert found.known == 300


def test_without_known_tasks_the_prior_remains():
    found = fit_noise([], [], prior=PRIOR)
    assert found.mean == PRIOR.mean
    assert found.known == 0


def test_three_lucky_tasks_do_not_decide_alone():
    x = np.random.default_rng(1).random((3, 20))
    found = fit_noise(x, x, prior=PRIOR)
    assert PRIOR.mean < found.mean < np.arctanh(0.9)


def test_claims_come_true_on_tasks_that_were_not_seen():
    noise = Noise(0.7, 0.4, 0)
    x, y = drawn_tasks(noise, 400, 30, seed=2)
    fitted = fit_noise(x[:200], y[:200], prior=PRIOR)
    claimed, seen, covered, first, first_seen = [], [], [], [], []
    for index in range(200, 400):
        said = rank_statements(draw_ranks(fitted, x[index], draws=500, seed=index))
        rank = rankdata(-y[index])
        claimed.append(said.p_top)
        seen.append(rank <= 5)
        covered.append((rank >= said.low) & (rank <= said.high))
        pick = np.argmax(x[index])
        first.append(said.p_top[pick])
        first_seen.append(rank[pick] <= 5)
    assert calibration_error(np.concatenate(claimed), np.concatenate(seen)) < 0.03
    assert abs(np.mean(first) - np.mean(first_seen)) < 0.08
    assert 0.87 < np.mean(covered) < 0.95


def test_a_worthless_score_claims_no_more_than_chance():
    said = rank_statements(draw_ranks(Noise(0.0, 0.0, 0), np.arange(50.0), draws=4000, seed=0))
    np.testing.assert_allclose(said.p_top, 0.1, atol=0.03)
    assert said.low.min() >= 1 and said.high.max() <= 50


def test_models_without_a_score_have_no_rank_and_draws_repeat():
    score = np.array([1.0, np.nan, 0.0, -1.0])
    ranks = draw_ranks(PRIOR, score, draws=100, seed=3)
    assert np.isnan(ranks[:, 1]).all()
    assert set(np.unique(ranks[:, [0, 2, 3]])) == {1.0, 2.0, 3.0}
    np.testing.assert_array_equal(ranks, draw_ranks(PRIOR, score, draws=100, seed=3))
    assert np.isnan(rank_statements(ranks).p_top[1])


def test_calibration_error_by_hand():
    claimed = np.array([0.05, 0.05, 0.95, 0.95])
    seen = np.array([False, True, True, True])
    assert calibration_error(claimed, seen) == pytest.approx(0.5 * 0.45 + 0.5 * 0.05, abs=1e-12)
