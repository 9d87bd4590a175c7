"""Metrics of a ranking of models with known accuracies: NDCG, recall, regret, Kendall's tau.

Every function takes `truth` [M] (accuracies, nan = unknown: the model is left out) and `score` [M] (higher is better,
nan = no answer: last). `*_score` is better when higher, `*_error` when lower. How ties are treated is said at each
metric; it matters for scores such as a model's size, which many models share.
"""

from __future__ import annotations

import numpy as np
from scipy.special import comb
from scipy.stats import kendalltau, rankdata, weightedtau
from sklearn.metrics import ndcg_score


def _known(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    truth, score = np.asarray(truth, np.float64), np.asarray(score, np.float64)
    if truth.ndim != 1 or truth.shape != score.shape:
        raise ValueError(f"truth {truth.shape} and score {score.shape} must be two vectors of one length")
    known = np.isfinite(truth)
    truth, score = truth[known], score[known]
    if len(truth) < 2:
        raise ValueError("a ranking needs at least two models of known accuracy")
    answered = ~np.isnan(score)
    lowest = score[answered].min() if answered.any() else 0.0
    return truth, np.where(answered, score, lowest - 1.0)


def _correlation(value: float) -> float:
    """A correlation with a constant is undefined: no order found, 0."""
    return 0.0 if np.isnan(value) else float(value)


def ndcg_at_k_score(*, truth: np.ndarray, score: np.ndarray, k: int = 5) -> float:
    """NDCG@k with graded relevance max(0, k + 1 - true rank): k for the best model, 1 for the k-th, 0 beyond.

    Ties in the truth share the mean of their ranks; ties in the score are averaged over their orders (scikit-learn).

    Examples
    --------
    >>> ndcg_at_k_score(truth=np.array([0.9, 0.8, 0.1]), score=np.array([3, 2, 1]))
    1.0
    """
    truth, score = _known(truth, score)
    relevance = np.maximum(0.0, k + 1 - rankdata(-truth))
    return float(ndcg_score(relevance[None, :], score[None, :], k=k))


def _chance_in_top(values: np.ndarray, k: int) -> np.ndarray:
    """Probability of each entry to be among the k largest when ties are broken at random."""
    above = (values[None, :] > values[:, None]).sum(axis=1)
    level = (values[None, :] == values[:, None]).sum(axis=1)
    return np.clip((k - above) / level, 0.0, 1.0)


def topk_recall_score(*, truth: np.ndarray, score: np.ndarray, k: int = 5) -> float:
    """|top k by score and top k by truth| / k (LOVM's top-5 recall); its expectation where ties cross the border."""
    truth, score = _known(truth, score)
    k = min(k, len(truth))
    return float((_chance_in_top(truth, k) * _chance_in_top(score, k)).sum() / k)


def hit_at_k_score(*, truth: np.ndarray, score: np.ndarray, k: int = 5) -> float:
    """Whether the best model is among the first k: 1 or 0.

    Where several models are the best it is the share of them; where ties in the score cross the border, the
    expectation over their orders.

    Examples
    --------
    >>> hit_at_k_score(truth=np.array([0.9, 0.8, 0.1]), score=np.array([2.0, 3.0, 1.0]), k=1)
    0.0
    """
    truth, score = _known(truth, score)
    best = truth == truth.max()
    return float(_chance_in_top(score, min(k, len(truth)))[best].mean())


def kendall_tau_score(*, truth: np.ndarray, score: np.ndarray) -> float:
    """Kendall's tau-b over all models (ties corrected for; 0 where a side is constant)."""
    truth, score = _known(truth, score)
    return _correlation(kendalltau(truth, score).statistic)


def weighted_tau_score(*, truth: np.ndarray, score: np.ndarray) -> float:
    """Weighted tau with additive hyperbolic weights, so that exchanges near the top count more (Vigna 2015).

    Mean of the two weightings, by the ranks of either side, as scipy's default; 0 where a side is constant.
    """
    truth, score = _known(truth, score)
    return _correlation(weightedtau(truth, score).statistic)


def common_top5_tau_score(*, truth: np.ndarray, score: np.ndarray, k: int = 5) -> float:
    """The peers' tau: Kendall's tau over the models that are in both top-k lists, 0 where fewer than three are.

    As LOVM computes it: each list is cut in the order of the table where ties cross the border, and the ranks within
    the common models, ties averaged, are cut to whole numbers before tau-b is taken.
    """
    truth, score = _known(truth, score)
    top_truth, top_score = (np.argsort(-values, kind="stable")[:k] for values in (truth, score))
    common = np.intersect1d(top_truth, top_score)
    if len(common) < 3:
        return 0.0
    ranks = (rankdata(-values[common]).astype(int) for values in (truth, score))
    return _correlation(kendalltau(*ranks).statistic)


def regret_at_k_error(*, truth: np.ndarray, score: np.ndarray, k: int = 1) -> float:
    """Accuracy lost by taking the best of the first k instead of the best of all; in units of accuracy, >= 0.

    Where ties in the score cross the border it is the expectation over their orders.

    Examples
    --------
    >>> round(regret_at_k_error(truth=np.array([0.9, 0.8]), score=np.array([1.0, 2.0])), 6)
    0.1
    """
    truth, score = _known(truth, score)
    k = min(k, len(truth))
    border = np.sort(score)[-k]
    sure, tied = truth[score > border], np.sort(truth[score == border])
    draws = k - len(sure)
    # the largest of `draws` from the tied ones is the i-th smallest with probability C(i, draws - 1) / C(n, draws)
    largest = np.maximum(tied, sure.max(initial=-np.inf))
    chance = comb(np.arange(len(tied)), draws - 1) / comb(len(tied), draws)
    return float(max(truth.max() - (chance * largest).sum(), 0.0))
