"""Rank models for a target from their accuracies on sources, weighted by how well each source covers the target."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

CHUNK = 4_000_000  # numbers held at once by the bootstrap


@dataclass(frozen=True)
class Ranking:
    """Outcome of `aggregate_ranks`; M models, S sources. Models without any usable source have nan everywhere.

    Attributes
    ----------
    score : [M], weighted mean of percentile ranks, in (0, 1), higher is better.
    fused : [M], score plus `fuse` times the percentile rank of the extra statistic; nan where there is none.
    rank : [M], 1 is the best; ties averaged; by `score` or `fused`, as asked.
    rank_low, rank_high : [M], bootstrap interval of the rank; nan without a bootstrap.
    p_top5 : [M], share of the bootstrap draws in which the model is among the first five; nan without a bootstrap.
    weights : [M, S], model-specific task similarity, rows sum to 1, 0 where a source is not usable.
    """

    score: np.ndarray
    fused: np.ndarray
    rank: np.ndarray
    rank_low: np.ndarray
    rank_high: np.ndarray
    p_top5: np.ndarray
    weights: np.ndarray


def percentile_ranks(values: np.ndarray) -> np.ndarray:
    """Percentile rank within each column: (rank - 1/2) / n in (0, 1), 1 is the largest, ties averaged, nan stays.

    Examples
    --------
    >>> percentile_ranks(np.array([[0.2], [0.8], [np.nan]])).ravel()
    array([0.25, 0.75,  nan])
    """
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    ranks = rankdata(np.where(known, values, np.nan), axis=0, nan_policy="omit")
    return np.where(known, (ranks - 0.5) / np.maximum(known.sum(axis=0), 1), np.nan)


def source_weights(dcd: np.ndarray, *, kappa: float, count: np.ndarray | None = None) -> np.ndarray:
    """Model-specific weights of the sources: W[m, :] = softmax over s of -(dcd - mean) / (kappa * std).

    Parameters
    ----------
    dcd : [..., S], divergence of each source to the target; nan = not usable, weight 0.
    kappa : > 0, temperature in standard deviations of the divergence; inf gives all sources the same weight.
    count : [..., S], how often each source counts (bootstrap); default once.

    Returns
    -------
    [..., S], sums to 1 (all nan where no source is usable).
    """
    if not kappa > 0:
        raise ValueError(f"kappa must be positive, not {kappa}")
    dcd = np.asarray(dcd, np.float64)
    usable = np.isfinite(dcd)
    times = usable * (1.0 if count is None else count)
    total = times.sum(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        filled = np.where(usable, dcd, 0.0)
        mean = (times * filled).sum(axis=-1, keepdims=True) / total
        centred = np.where(times > 0, filled - mean, 0.0)
        std = np.sqrt((times * np.square(centred)).sum(axis=-1, keepdims=True) / total)
        scaled = np.where(std > 1e-12, -centred / (kappa * np.maximum(std, 1e-12)), 0.0)
        scaled = np.where(times > 0, scaled, -np.inf)
        raw = times * np.exp(scaled - scaled.max(axis=-1, keepdims=True))
        return raw / raw.sum(axis=-1, keepdims=True)


def _bootstrap_scores(
    ranks: np.ndarray,
    dcd: np.ndarray,
    per_image: np.ndarray | None,
    *,
    kappa: float,
    draws: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Scores [draws, M] over resampled sources and, where per_image [M, S, K] is given, resampled images."""
    models, sources = dcd.shape
    count = generator.multinomial(sources, np.full(sources, 1.0 / sources), size=draws)[:, None, :]
    if per_image is None:
        resampled = np.broadcast_to(dcd, (draws, models, sources))
    else:
        images = per_image.shape[2]
        present = np.isfinite(per_image)
        times = generator.multinomial(images, np.full(images, 1.0 / images), size=draws).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            total = np.einsum("bk,msk->bms", times, np.where(present, per_image, 0.0), optimize=True)
            resampled = total / np.einsum("bk,msk->bms", times, present.astype(np.float64), optimize=True)
        resampled = np.where(np.isfinite(dcd), resampled, np.nan)
    weights = np.nan_to_num(source_weights(resampled, kappa=kappa, count=count))
    lost = weights.sum(axis=2) == 0  # none of the model's own sources was drawn
    return np.where(lost, np.nan, (weights * np.nan_to_num(ranks)).sum(axis=2))


def aggregate_ranks(
    accuracy: np.ndarray,
    dcd: np.ndarray,
    *,
    kappa: float = 0.6,
    per_image: np.ndarray | None = None,
    bootstrap: int = 0,
    seed: int = 0,
    level: float = 0.95,
    extra: np.ndarray | None = None,
    fuse: float = 0.5,
    by: str = "score",
) -> Ranking:
    """Score and rank M models for one target from S sources.

    r[m, s] is the percentile rank of model m on source s among the models that have an accuracy there, and

        score(m) = sum_s W_m(s) r[m, s],    W_m(s) = softmax over s of -(DCD_m(s) - mean) / (kappa * std),

    over the sources for which the model has both an accuracy and a divergence. The fused score adds `fuse` times the
    percentile rank of an extra statistic of the model on the target's images, such as the mutual information of its
    predictions.

    The bootstrap resamples sources and, where `per_image` is given, the target's images (the same draw for all
    models); the extra statistic is held fixed.

    Parameters
    ----------
    accuracy : [M, S], in [0, 1]; nan = unknown.
    dcd : [M, S], divergence of each source to the target for each model; nan = missing.
    kappa : > 0, temperature of the weights.
    per_image : [M, S, K], the share of each target image in `dcd` (nan = no such image).
    bootstrap : number of draws; 0 for none.
    seed : of the bootstrap.
    level : of the rank interval.
    extra : [M], higher is better; nan = unknown, which counts as the middle rank 1/2.
    fuse : weight of the extra statistic.
    by : `score` or `fused`: what the ranks, intervals and p_top5 are of.

    Raises
    ------
    ValueError : shapes that do not fit, or an unknown `by`.

    Examples
    --------
    >>> accuracy = np.array([[0.9, 0.2], [0.5, 0.6]])
    >>> dcd = np.array([[0.1, 0.9], [0.1, 0.9]])
    >>> aggregate_ranks(accuracy, dcd).rank
    array([1., 2.])
    """
    accuracy, dcd = np.asarray(accuracy, np.float64), np.asarray(dcd, np.float64)
    if accuracy.ndim != 2 or accuracy.shape != dcd.shape:
        raise ValueError(f"accuracy {accuracy.shape} and dcd {dcd.shape} must both be [models, sources]")
    if per_image is not None and per_image.shape[:2] != dcd.shape:
        raise ValueError(f"per_image {per_image.shape} must be [models, sources, images] for {dcd.shape}")
    if by not in ("score", "fused") or (by == "fused" and extra is None):
        raise ValueError(f"cannot rank by {by!r}: `score`, or `fused` with an extra statistic")
    ranks = percentile_ranks(accuracy)
    dcd = np.where(np.isfinite(ranks), dcd, np.nan)
    usable = np.isfinite(dcd).any(axis=1)
    weights = source_weights(dcd, kappa=kappa)
    score = np.where(usable, (np.nan_to_num(weights) * np.nan_to_num(ranks)).sum(axis=1), np.nan)
    bonus = np.full(len(score), np.nan)
    if extra is not None:
        statistic = np.where(usable, np.asarray(extra, np.float64), np.nan)
        bonus = fuse * np.where(np.isfinite(statistic), percentile_ranks(statistic[:, None])[:, 0], 0.5)
    fused = score + bonus
    final = fused if by == "fused" else score
    rank = rankdata(-final, nan_policy="omit") if usable.any() else np.full(len(score), np.nan)
    rank_low, rank_high, p_top5 = (np.full(len(score), np.nan) for _ in range(3))
    if bootstrap > 0 and usable.any():
        generator = np.random.default_rng(seed)
        step = max(1, CHUNK // max(dcd.size, 1))
        drawn = []
        for start in range(0, bootstrap, step):
            scores = _bootstrap_scores(
                ranks[usable],
                dcd[usable],
                None if per_image is None else np.asarray(per_image, np.float64)[usable],
                kappa=kappa,
                draws=min(step, bootstrap - start),
                generator=generator,
            )
            shifted = scores + (bonus[usable] if by == "fused" else 0.0)
            drawn.append(rankdata(-np.where(np.isnan(shifted), -np.inf, shifted), axis=1))
        drawn = np.concatenate(drawn)
        tail = (1 - level) / 2
        rank_low[usable], rank_high[usable] = np.quantile(drawn, [tail, 1 - tail], axis=0)
        p_top5[usable] = (drawn <= 5).mean(axis=0)
    weights = np.where(usable[:, None], np.nan_to_num(weights), np.nan)
    return Ranking(score, fused, rank, rank_low, rank_high, p_top5, weights)
