"""The stored scores, and intervals by resampling the models."""

import numpy as np
import pytest

from vlmrank.baselines import Evidence, all_methods, select_methods
from vlmrank.evaluation.evaluate import METRICS, evaluate_methods
from vlmrank.evaluation.scores import (
    Scores,
    draw_halves,
    interval_over_models,
    metric_on_halves,
    read_scores,
    write_scores,
)


def small(models=8, datasets=4, seed=0):
    accuracy = np.random.default_rng(seed).random((models, datasets))
    accuracy[:, 2] = np.nan  # neither target nor source
    names = [f"m{index}" for index in range(models)]
    return Evidence(models=names, datasets=list("abcd"), accuracy=accuracy)


def test_scores_are_those_that_were_judged(tmp_path):
    data = small()
    found = evaluate_methods(data, select_methods(all_methods(), ["average_rank", "random"]))
    write_scores(tmp_path / "scores.h5", Scores(data.models, data.datasets, data.accuracy, found.scores))
    back = read_scores(tmp_path / "scores.h5")
    assert list(back.models) == data.models and list(back.datasets) == data.datasets
    np.testing.assert_array_equal(back.truth, data.accuracy)
    assert back.values["random"].shape == (100, 8, 4)
    assert np.isfinite(back.values["average_rank"][:, :, 2]).all()  # a target of unknown truth is scored too
    assert "c" not in set(found.metrics["target"])
    for method, values in back.values.items():
        part = found.metrics[(found.metrics["method"] == method) & (found.metrics["metric"] == "kendall_tau")]
        for target, value in zip(part["target"], part["value"], strict=True):
            column = data.datasets.index(target)
            tries = [METRICS["kendall_tau"](truth=data.accuracy[:, column], score=one[:, column]) for one in values]
            assert np.mean(tries) == pytest.approx(value, abs=1e-12)


def test_a_metric_on_halves_by_hand():
    data, halves = small(), draw_halves(8, 5, seed=1)
    assert halves.shape == (5, 4) and all(len(set(half)) == 4 for half in halves)
    scores = np.random.default_rng(2).random((3, 8, 4))
    found = metric_on_halves(scores, data.accuracy, halves, "regret_at_1", tries=2)
    half, column = halves[3], 1
    own = data.accuracy[half, column]
    expected = np.mean([own.max() - own[scores[one, half, column].argmax()] for one in (0, 1)])
    assert found[3, column] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(found[:, 2]).all()


@pytest.mark.parametrize("metric", ["ndcg_at_5", "regret_at_1", "hit_at_5"])
def test_all_halves_at_once_are_the_metric_one_by_one(metric):
    rng = np.random.default_rng(3)
    truth, halves = rng.integers(0, 12, (14, 3)) / 12.0, draw_halves(14, 30, seed=2)  # ties in the truth
    scores = np.stack([rng.random((14, 3)), rng.integers(0, 4, (14, 3)).astype(float)])  # and in a score
    scores[0, 5] = np.nan
    found = metric_on_halves(scores, truth, halves, metric)
    for target in range(3):
        for row, half in enumerate(halves):
            one_by_one = [METRICS[metric](truth=truth[half, target], score=one[half, target]) for one in scores]
            assert found[row, target] == pytest.approx(np.mean(one_by_one), abs=1e-12)
    truth[2, 1] = np.nan  # an unknown accuracy takes the other way
    scores = np.nan_to_num(scores)
    found, before = (
        metric_on_halves(scores, truth, halves, metric),
        metric_on_halves(scores, np.nan_to_num(truth), halves, metric),
    )
    without = [row for row, half in enumerate(halves) if 2 not in half]
    np.testing.assert_allclose(found[without], before[without], rtol=0, atol=1e-12)


def test_the_interval_covers_as_often_as_it_says():
    # the mean of M numbers has standard error 1 / sqrt(M): 95 % of the intervals should hold the expectation
    rng, models, held = np.random.default_rng(0), 40, []
    for seed in range(300):
        values = rng.normal(size=models)
        on_halves = values[draw_halves(models, 200, seed)].mean(axis=1)
        low, high = interval_over_models(values.mean(), on_halves)
        held.append(low < 0 < high)
    assert 0.90 < np.mean(held) < 0.98
    assert np.isnan(interval_over_models(0.5, np.array([np.nan]))).all()
