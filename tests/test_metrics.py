import os
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import top_k_accuracy_score

from vlmrank import metrics

NAN = np.nan
REFERENCE = Path(os.environ.get("VLMRANK_REFERENCE", "../shared/reference"))
TRUTH = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])


def test_perfect_and_reversed():
    for name in ("ndcg_at_k_score", "topk_recall_score", "kendall_tau_score", "weighted_tau_score"):
        assert getattr(metrics, name)(truth=TRUTH, score=TRUTH) == pytest.approx(1.0, abs=1e-12)
    assert metrics.common_top5_tau_score(truth=TRUTH, score=TRUTH) == pytest.approx(1.0, abs=1e-12)
    assert metrics.kendall_tau_score(truth=TRUTH, score=-TRUTH) == pytest.approx(-1.0, abs=1e-12)
    assert metrics.regret_at_k_error(truth=TRUTH, score=TRUTH) == 0.0
    assert metrics.regret_at_k_error(truth=TRUTH, score=-TRUTH) == pytest.approx(0.6, abs=1e-12)
    assert metrics.regret_at_k_error(truth=TRUTH, score=-TRUTH, k=5) == pytest.approx(0.2, abs=1e-12)


def test_hit_is_the_top_k_accuracy_of_the_best_model():
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth, score = rng.random(9), rng.random(9)
        expected = top_k_accuracy_score([truth.argmax()], score[None], k=5, labels=range(9))
        assert metrics.hit_at_k_score(truth=truth, score=score) == expected
    score = np.array([NAN, 6.0, 5.0, 4.0, 3.0, 2.0, 2.0])
    assert metrics.hit_at_k_score(truth=TRUTH, score=score) == 0.0
    # two of the tied last two places are left for one of them
    assert metrics.hit_at_k_score(truth=TRUTH[::-1], score=score) == pytest.approx(0.5, abs=1e-12)
    # one of the two best models is among the first two
    assert metrics.hit_at_k_score(truth=np.array([0.9, 0.9, 0.1, 0.1]), score=np.array([4.0, 1, 2, 3]), k=2) == 0.5


def test_ndcg_by_hand():
    # the score swaps the first two: relevances 4, 5, 3, 2, 1 in its order
    score = np.array([6.0, 7, 5, 4, 3, 2, 1])
    discount = 1 / np.log2(np.arange(2, 7))
    expected = np.dot([4, 5, 3, 2, 1], discount) / np.dot([5, 4, 3, 2, 1], discount)
    assert metrics.ndcg_at_k_score(truth=TRUTH, score=score) == pytest.approx(expected, abs=1e-12)
    # two models share the first rank: relevance 4.5 each, and their order does not matter
    truth = np.array([0.9, 0.9, 0.7, 0.6, 0.5, 0.4, 0.3])
    assert metrics.ndcg_at_k_score(truth=truth, score=score) == pytest.approx(1.0, abs=1e-12)
    # none of the top five found
    assert metrics.ndcg_at_k_score(truth=np.arange(10.0), score=-np.arange(10.0)) == 0.0


def expectation(function, truth, score, **options):
    """Mean over all orders in which tied scores may come."""
    values = []
    for order in permutations(range(len(score))):
        broken = score + 1e-9 * np.array(order)
        values.append(function(truth=truth, score=broken, **options))
    return np.mean(values)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("name", ["topk_recall_score", "regret_at_k_error", "ndcg_at_k_score"])
def test_ties_in_the_score_give_the_expectation(name, k):
    truth = np.array([0.9, 0.1, 0.5, 0.7, 0.3, 0.2])
    function = getattr(metrics, name)
    for score in ([2, 2, 1, 1, 1, 3], [1, 1, 1, 1, 1, 1], [1, 2, 3, 3, 2, 1]):
        score = np.array(score, float)
        expected = expectation(function, truth, score, k=k)
        assert function(truth=truth, score=score, k=k) == pytest.approx(expected, abs=1e-6)


def test_unknown_truth_is_left_out_and_no_answer_is_last():
    score = np.array([7.0, 6, 5, 4, 3, 2, 1])
    truth = np.append(TRUTH, NAN)
    for name in ("ndcg_at_k_score", "topk_recall_score", "kendall_tau_score", "common_top5_tau_score"):
        function = getattr(metrics, name)
        assert function(truth=truth, score=np.append(score, 99)) == pytest.approx(1.0, abs=1e-12)
    score[0] = NAN
    assert metrics.regret_at_k_error(truth=TRUTH, score=score) == pytest.approx(0.1, abs=1e-12)
    assert metrics.kendall_tau_score(truth=TRUTH, score=score) == pytest.approx(9 / 21, abs=1e-12)
    with pytest.raises(ValueError):
        metrics.kendall_tau_score(truth=np.array([0.1, NAN]), score=np.array([1.0, 2.0]))
    with pytest.raises(ValueError):
        metrics.kendall_tau_score(truth=TRUTH, score=TRUTH[:3])


def test_constant_scores_find_nothing():
    constant = np.ones(7)
    assert metrics.kendall_tau_score(truth=TRUTH, score=constant) == 0.0
    assert metrics.weighted_tau_score(truth=TRUTH, score=constant) == 0.0
    assert metrics.topk_recall_score(truth=TRUTH, score=constant) == pytest.approx(5 / 7, abs=1e-12)


def test_common_top5_tau_by_hand():
    truth = np.arange(10.0)[::-1]
    # three in common (models 0, 1, 2), in the order 1, 0, 2: one of three pairs is turned
    score = np.array([8.0, 9, 7, 0, 0, 6, 5, 0, 0, 0])
    assert metrics.common_top5_tau_score(truth=truth, score=score) == pytest.approx(1 / 3, abs=1e-12)
    # two in common
    score = np.array([8.0, 9, 0, 0, 0, 6, 5, 4, 0, 0])
    assert metrics.common_top5_tau_score(truth=truth, score=score) == 0.0


def test_weighted_tau_prefers_exchanges_at_the_bottom():
    top, bottom = TRUTH.copy(), TRUTH.copy()
    top[[0, 1]] = top[[1, 0]]
    bottom[[5, 6]] = bottom[[6, 5]]
    assert metrics.weighted_tau_score(truth=TRUTH, score=bottom) > metrics.weighted_tau_score(truth=TRUTH, score=top)


def test_published_table_gives_what_the_peers_code_prints():
    """LOVM's own `evaluate_model_rank` prints 0.452174 and 0.176812 for ImageNet accuracy on its table (23 targets)."""
    path = REFERENCE / "lovm_eval_table.csv"
    if not path.exists():
        pytest.skip(f"no reference tables at {path} (set VLMRANK_REFERENCE)")
    table = pd.read_csv(path).pivot(index="model_fullname", columns="dataset", values="acc1")
    score = table["imagenet1k"].to_numpy()
    recall = [metrics.topk_recall_score(truth=table[c].to_numpy(), score=score) for c in table]
    tau = [metrics.common_top5_tau_score(truth=table[c].to_numpy(), score=score) for c in table]
    assert table.shape == (35, 23)
    np.testing.assert_allclose(np.mean(recall), 0.452174, rtol=0, atol=5e-7)
    np.testing.assert_allclose(np.mean(tau), 0.176812, rtol=0, atol=5e-7)
