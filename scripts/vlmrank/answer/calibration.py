"""Calibrated rank intervals: a noise model between score and true rank, fitted on tasks with known accuracies.

For one task, x is the standing of the scores of M models and y the normal score of their true rank. The model is

    y = r x + sqrt(1 - r^2) e,    e ~ N(0, 1),    atanh(r) ~ N(mean, spread^2),

so that each task has its own correlation r. Mean and spread are estimated from the known tasks, whose scores were made
without their own accuracies, and from a prior that counts as `PRIOR.tasks` further tasks: three known tasks do not
decide alone, and with none the prior remains. T tasks, M models.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

LARGEST = 0.99  # correlations are clipped here, so that atanh stays finite
WINSOR = 3.0  # standard deviations at which scores are clipped


@dataclass(frozen=True)
class Noise:
    """The distribution of atanh(r) over tasks, r being the correlation of a score with the true ranks.

    Attributes
    ----------
    mean, spread : of atanh(r).
    tasks : number of tasks behind the estimate, including those of the prior.
    known : number of these tasks that are the run's own.
    """

    mean: float
    spread: float
    tasks: float
    known: int = 0

    @property
    def correlation(self) -> float:
        """tanh(mean), the correlation on a typical task."""
        return float(np.tanh(self.mean))


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Phi^-1((rank - 1/2) / n) of the values [M], ties averaged; the largest value has the largest score; nan stays.

    Examples
    --------
    >>> normal_scores(np.array([0.1, 0.5, 0.9])).round(3)
    array([-0.967,  0.   ,  0.967])
    """
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    result = np.full(values.shape, np.nan)
    result[known] = ndtri((rankdata(values[known]) - 0.5) / max(known.sum(), 1))
    return result


def standing(score: np.ndarray) -> np.ndarray:
    """Standardised scores [M]: the mean of score, normal score and rank, each in standard deviations.

    The score itself, clipped at `WINSOR`, preserves how far ahead a model is; normal scores and ranks prevent one
    outlier from making all others look alike. Nan stays, and constant scores give 0.

    Examples
    --------
    >>> standing(np.array([1.0, 3.0, np.nan])).round(6)
    array([-1.,  1., nan])
    """
    score = np.asarray(score, np.float64)
    known = np.isfinite(score)
    result = np.full(score.shape, np.nan)
    if known.any():
        values = score[known]
        views = (_in_deviations(values), normal_scores(values), rankdata(values))
        result[known] = np.mean([_in_deviations(view) for view in views], axis=0)
    return result


def _in_deviations(values: np.ndarray) -> np.ndarray:
    """(values - mean) / standard deviation, clipped at +-`WINSOR`; 0 if all are equal."""
    centred = values - values.mean()
    deviation = centred.std()
    return np.clip(centred / deviation, -WINSOR, WINSOR) if deviation > 1e-12 else np.zeros_like(centred)


def task_correlation(score: np.ndarray, accuracy: np.ndarray) -> float:
    """Correlation of standing and normal scores over the models that have both; nan for fewer than three."""
    score, accuracy = (np.ascontiguousarray(values, np.float64) for values in (score, accuracy))
    return _task_correlation(score.tobytes(), accuracy.tobytes())


@functools.lru_cache(maxsize=8192)  # each known task is used in the answers for all others
def _task_correlation(score: bytes, accuracy: bytes) -> float:
    score, accuracy = np.frombuffer(score), np.frombuffer(accuracy)
    both = np.isfinite(score) & np.isfinite(accuracy)
    if both.sum() < 3:
        return np.nan
    x, y = standing(np.where(both, score, np.nan))[both], normal_scores(np.where(both, accuracy, np.nan))[both]
    return float(np.corrcoef(x, y)[0, 1]) if x.std() > 1e-12 and y.std() > 1e-12 else 0.0


def fit_noise(scores: Sequence[np.ndarray], accuracies: Sequence[np.ndarray], *, prior: Noise) -> Noise:
    """Estimate the noise from known tasks.

    A normal distribution is fitted to a_t = atanh(r_t); the prior (m0, s0) counts as n0 tasks, and n = n0 + T:

        mean = (n0 m0 + sum_t a_t) / n,    spread^2 = (n0 s0^2 + sum_t (a_t - mean)^2) / n * (1 + 1 / n),

    where the last factor accounts for the uncertainty of the mean.

    Parameters
    ----------
    scores : T arrays [M], each made without the task's own accuracies.
    accuracies : T arrays [M], nan = unknown.
    prior : from the benchmark; its `tasks` is n0.
    """
    found = [task_correlation(score, truth) for score, truth in zip(scores, accuracies, strict=True)]
    a = np.arctanh(np.clip([r for r in found if np.isfinite(r)], -LARGEST, LARGEST))
    n = prior.tasks + len(a)
    mean = (prior.tasks * prior.mean + a.sum()) / n
    variance = (prior.tasks * prior.spread**2 + ((a - mean) ** 2).sum()) / n * (1 + 1 / n)
    return Noise(float(mean), float(np.sqrt(variance)), float(n), len(a))


def draw_ranks(noise: Noise, score: np.ndarray, *, draws: int = 4000, seed: int = 0) -> np.ndarray:
    """Draw true ranks of the M models of a new task given their scores.

    Parameters
    ----------
    noise : noise model of this score.
    score : [M], nan = no score.
    draws : number of draws.
    seed : of the draws.

    Returns
    -------
    float64 [draws, M], 1 is the best; nan for models without a score.
    """
    x = standing(score)
    known = np.isfinite(x)
    ranks = np.full((draws, len(x)), np.nan)
    if known.any():
        generator = np.random.default_rng(seed)
        r = np.tanh(noise.mean + noise.spread * generator.standard_normal((draws, 1)))
        y = r * x[known] + np.sqrt(1 - r**2) * generator.standard_normal((draws, int(known.sum())))
        ranks[:, known] = rankdata(-y, axis=1)
    return ranks


@dataclass(frozen=True)
class RankAnswer:
    """Calibrated statements about the ranks of M models; nan for models without a score.

    Attributes
    ----------
    low, high : float64 [M], interval of the true rank.
    p_top : float64 [M], chance to be among the first `top`.
    """

    low: np.ndarray
    high: np.ndarray
    p_top: np.ndarray


def rank_statements(ranks: np.ndarray, *, level: float = 0.9, top: int = 5) -> RankAnswer:
    """Intervals and chances from drawn ranks [draws, M]."""
    known = np.isfinite(ranks).all(axis=0)
    low, high, p_top = (np.full(ranks.shape[1], np.nan) for _ in range(3))
    if known.any():
        tail = (1 - level) / 2
        low[known], high[known] = np.quantile(ranks[:, known], [tail, 1 - tail], axis=0)
        p_top[known] = (ranks[:, known] <= top).mean(axis=0)
    return RankAnswer(low, high, p_top)


def calibration_error(claimed: np.ndarray, seen: np.ndarray, *, bins: int = 10) -> float:
    """Expected calibration error: sum over bins of claimed probability of share |mean claimed - mean seen|.

    Parameters
    ----------
    claimed : [N], probabilities.
    seen : bool [N], whether it came true.
    bins : of equal width.

    References
    ----------
    Naeini et al., Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015.

    Examples
    --------
    >>> round(calibration_error(np.array([0.9, 0.9]), np.array([True, False])), 6)
    0.4
    """
    claimed, seen = np.asarray(claimed, np.float64), np.asarray(seen, np.float64)
    place = np.minimum((claimed * bins).astype(int), bins - 1)
    total = 0.0
    for index in np.unique(place):
        inside = place == index
        total += inside.mean() * abs(claimed[inside].mean() - seen[inside].mean())
    return float(total)
