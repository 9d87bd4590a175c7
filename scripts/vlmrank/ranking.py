"""Rank models for a target: percentile ranks on the sources, weighted by divergence; bootstrap rank intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

CHUNK = 4_000_000  # numbers held at once by the bootstrap
TIE = 1e-9  # scores that differ by less are equal: rounding, and with it the order of the sources, decides nothing
NO_ACCURACY = "no accuracy of this model is known on any source"


@dataclass(frozen=True)
class RankingOptions:
    """How `aggregate_ranks` scores, and what it ranks by.

    Attributes
    ----------
    kappa : > 0, temperature of the source weights.
    shrink : 0 to 1, share of the zoo's common divergence in each model's weights.
    fuse : >= 0, weight of the extra statistic beside the score; inf: the statistic alone.
    by : `score` or `fused`: what the ranks, intervals and p_top5 are of.
    bootstrap : number of draws; 0 for none.
    seed : of the bootstrap.
    level : of the rank interval, between 0 and 1.

    Raises
    ------
    ValueError : an unknown `by`, or a number out of range.
    """

    kappa: float = 0.6
    shrink: float = 1.0
    fuse: float = 2.0
    by: str = "score"
    bootstrap: int = 0
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.by not in ("score", "fused"):
            raise ValueError(f"cannot rank by {self.by!r}: `score` or `fused`")
        if not self.fuse >= 0:
            raise ValueError(f"fuse must not be negative, not {self.fuse}")
        if not 0 < self.level < 1 or self.bootstrap < 0:
            raise ValueError(
                f"level must be between 0 and 1 and bootstrap not negative, not {self.level} and {self.bootstrap}"
            )


DEFAULT = RankingOptions()


@dataclass(frozen=True)
class Ranking:
    """Outcome of `aggregate_ranks`; M models, S sources. Models without any usable source have nan everywhere.

    Attributes
    ----------
    score : [M], weighted mean of percentile ranks, in (0, 1), higher is better.
    fused : [M], standardised score plus `fuse` times the standardised extra statistic; nan where there is none.
    rank : [M], 1 is the best; by `score` or `fused`, as asked. Equal scores (`TIE`) share the mean of their ranks.
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


def tied_ranks(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Ranks along an axis, 1 is the smallest; values that differ by less than `TIE` share a mean rank, nan stays.

    Examples
    --------
    >>> tied_ranks(np.array([0.3, 0.1 + 0.2, np.nan, 0.1]))
    array([2.5, 2.5, nan, 1. ])
    """
    values = np.asarray(values, np.float64)
    order = np.argsort(values, axis=axis, kind="stable")
    with np.errstate(invalid="ignore"):
        apart = np.diff(np.take_along_axis(values, order, axis), axis=axis, prepend=-np.inf) > TIE
    groups = np.empty_like(values)
    np.put_along_axis(groups, order, np.cumsum(apart, axis=axis).astype(np.float64), axis)
    missing = np.isnan(values)
    if not missing.any():
        return rankdata(groups, axis=axis)
    return rankdata(np.where(missing, np.nan, groups), axis=axis, nan_policy="omit")


def _check(name: str, values: np.ndarray, allowed: np.ndarray | bool, what: str) -> None:
    """Refuse values that are not allowed, with the first one's place; nan (not known) always is."""
    wrong = ~(np.broadcast_to(allowed, np.shape(values)) | np.isnan(values))
    if wrong.any():
        place = tuple(int(index) for index in np.argwhere(wrong)[0])
        where = f"{name}[{', '.join(map(str, place))}]" if place else name
        raise ValueError(f"{where} is {np.asarray(values)[place]:g}: {what}")


def percentile_ranks(values: np.ndarray) -> np.ndarray:
    """Percentile rank within each column: (rank - 1/2) / n in (0, 1), 1 is the largest, ties averaged, nan stays.

    Examples
    --------
    >>> percentile_ranks(np.array([[0.2], [0.8], [np.nan]])).ravel()
    array([0.25, 0.75,  nan])
    """
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    ranks = tied_ranks(np.where(known, values, np.nan), axis=0)
    return np.where(known, (ranks - 0.5) / np.maximum(known.sum(axis=0), 1), np.nan)


def average_ranks(accuracy: np.ndarray) -> np.ndarray:
    """Mean percentile rank [M] of each model over the sources [M, S] on which it is known; nan where there is none.

    Examples
    --------
    >>> average_ranks(np.array([[0.2, 0.5], [0.8, np.nan], [np.nan, np.nan]]))
    array([0.375, 0.75 ,   nan])
    """
    ranks = percentile_ranks(accuracy)
    known = np.isfinite(ranks)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, ranks, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)


def _standardise(dcd: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(dcd - mean) / std over the last axis, each entry counted `times`; 0 where all are equal or nothing counts."""
    total = times.sum(axis=-1, keepdims=True)
    filled = np.where(times > 0, dcd, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = np.where(times > 0, filled - (times * filled).sum(axis=-1, keepdims=True) / total, 0.0)
        std = np.sqrt((times * np.square(centred)).sum(axis=-1, keepdims=True) / total)
    return np.divide(centred, std, out=np.zeros_like(centred), where=std > 1e-12)


def source_weights(
    dcd: np.ndarray, *, kappa: float, shrink: float = 0.0, count: np.ndarray | None = None
) -> np.ndarray:
    """Model-specific weights of the sources: W[m, :] = softmax over s of -z[m, :] / kappa.

    z is the divergence, standardised over each model's sources; with `shrink`, z becomes
    (1 - shrink) z[m, s] + shrink * (mean over models of z[., s]), standardised again: a few images say little about one
    model, more about all of them together.

    Parameters
    ----------
    dcd : [..., M, S], divergence of each source to the target; nan = not usable, weight 0.
    kappa : > 0, temperature in standard deviations of the divergence; inf gives all sources the same weight.
    shrink : 0 (each model's own divergence) to 1 (the same weights for all models, where all have the same sources).
    count : [..., M, S], how often each source counts (bootstrap); default once.

    Returns
    -------
    [..., M, S], sums to 1 (all nan where no source is usable).

    Examples
    --------
    >>> source_weights(np.array([[1.0, 3.0]]), kappa=2 / np.log(3)).round(6)
    array([[0.75, 0.25]])
    """
    if not kappa > 0:
        raise ValueError(f"kappa must be positive, not {kappa}")
    if not 0 <= shrink <= 1:
        raise ValueError(f"shrink must be from 0 to 1, not {shrink}")
    dcd = np.asarray(dcd, np.float64)
    count = np.asarray(1.0 if count is None else count, np.float64)
    if np.isnan(count).any() or (count < 0).any():
        raise ValueError(f"count must not be negative, and is {count[~(count >= 0)][0]:g} for a source")
    times = np.isfinite(dcd) * np.broadcast_to(count, dcd.shape)
    scaled = _standardise(dcd, times)
    if shrink > 0:
        voices = np.isfinite(dcd).sum(axis=-2, keepdims=True)
        shared = np.divide(
            scaled.sum(axis=-2, keepdims=True), voices, out=np.zeros_like(scaled[..., :1, :]), where=voices > 0
        )
        scaled = _standardise((1 - shrink) * scaled + shrink * shared, times)
    with np.errstate(invalid="ignore", divide="ignore"):
        exponent = np.where(times > 0, -scaled / kappa, -np.inf)
        raw = times * np.exp(exponent - exponent.max(axis=-1, keepdims=True))
        return raw / raw.sum(axis=-1, keepdims=True)


def _resampled_mean(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Means [draws, ...] of values [..., K] over images drawn `times` [draws, K]; nan entries are left out."""
    present = np.isfinite(values)
    filled = np.where(present, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.einsum("bk,...k->b...", times, filled, optimize=True)
        return total / np.einsum("bk,...k->b...", times, present.astype(np.float64), optimize=True)


def fuse_parts(score: np.ndarray, extra: np.ndarray, fuse: float) -> tuple[np.ndarray, np.ndarray]:
    """z(score) and fuse z(extra), whose sum is `fuse_scores`; nan where the score is unknown; inf: 0 and z(extra)."""
    z = [_standardise(values, np.isfinite(values).astype(np.float64)) for values in (score, extra)]
    known = np.isfinite(score)
    own, weight = (0.0 * z[0], 1.0) if np.isinf(fuse) else (z[0], fuse)
    return np.where(known, own, np.nan), np.where(known, weight * z[1], np.nan)


def fuse_scores(score: np.ndarray, extra: np.ndarray, fuse: float) -> np.ndarray:
    """z(score) + fuse z(extra), each standardised over the M models of the last axis; an unknown extra counts as 0.

    With fuse = inf it is z(extra) alone.

    Examples
    --------
    >>> fuse_scores(np.array([0.25, 0.75]), np.array([0.9, 0.1]), fuse=2.0)
    array([ 1., -1.])
    """
    own, other = fuse_parts(score, extra, fuse)
    return own + other


def _image_draws(images: int, draws: int, generator: np.random.Generator) -> np.ndarray:
    """How often each image counts in each of the draws, [draws, images]."""
    return generator.multinomial(images, np.full(images, 1.0 / images), size=draws).astype(np.float64)


def _bootstrap_scores(
    ranks: np.ndarray,
    dcd: np.ndarray,
    per_image: np.ndarray | None,
    times: np.ndarray,
    *,
    kappa: float,
    shrink: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """Scores [draws, M] over resampled sources and, where per_image [M, S, K] is given, images drawn `times`."""
    (models, sources), draws = dcd.shape, len(times)
    count = generator.multinomial(sources, np.full(sources, 1.0 / sources), size=draws)[:, None, :]
    resampled = np.broadcast_to(dcd, (draws, models, sources))
    if per_image is not None:
        resampled = np.where(np.isfinite(dcd), _resampled_mean(per_image, times), np.nan)
    weights = np.nan_to_num(source_weights(resampled, kappa=kappa, shrink=shrink, count=count))
    lost = weights.sum(axis=2) == 0  # none of the model's own sources was drawn
    return np.where(lost, np.nan, (weights * np.nan_to_num(ranks)).sum(axis=2))


def _check_arrays(
    accuracy: np.ndarray, dcd: np.ndarray, per_image: np.ndarray | None, extra: np.ndarray | None
) -> None:
    if accuracy.ndim != 2 or accuracy.shape != dcd.shape:
        raise ValueError(f"accuracy {accuracy.shape} and dcd {dcd.shape} must both be [models, sources]")
    if per_image is not None and np.shape(per_image)[:2] != dcd.shape:
        raise ValueError(f"per_image {np.shape(per_image)} must be [models, sources, images] for {dcd.shape}")
    if extra is not None and np.shape(extra)[:1] != dcd.shape[:1]:
        raise ValueError(f"extra {np.shape(extra)} must be [models] or [models, images] for {len(dcd)} models")
    _check("accuracy", accuracy, (accuracy >= 0) & (accuracy <= 1), "an accuracy is a share from 0 to 1")
    _check("dcd", dcd, np.isfinite(dcd), "a divergence is finite")
    if per_image is not None:
        _check("per_image", per_image, np.isfinite(per_image), "a divergence is finite")
    if extra is not None:
        _check("extra", extra, np.isfinite(extra), "a statistic is finite")


def _bootstrap_ranks(
    ranks: np.ndarray,
    dcd: np.ndarray,
    per_image: np.ndarray | None,
    extra: np.ndarray | None,
    options: RankingOptions,
) -> np.ndarray:
    """Ranks [draws, M] over resampled sources and images; the arrays are those of `aggregate_ranks`."""
    generator = np.random.default_rng(options.seed)
    votes = extra is not None and extra.ndim == 2
    images = per_image.shape[2] if per_image is not None else extra.shape[1] if votes else 1
    step = max(1, CHUNK // max(dcd.size, 1))
    drawn = []
    for start in range(0, options.bootstrap, step):
        draws = min(step, options.bootstrap - start)
        times = _image_draws(images, draws, generator)
        scores = _bootstrap_scores(
            ranks, dcd, per_image, times, kappa=options.kappa, shrink=options.shrink, generator=generator
        )
        if options.by == "fused" and votes:
            if extra.shape[1] != images:
                times = _image_draws(extra.shape[1], draws, generator)
            scores = fuse_scores(scores, _resampled_mean(extra, times), options.fuse)
        elif options.by == "fused":
            scores = fuse_scores(scores, np.broadcast_to(extra, scores.shape), options.fuse)
        drawn.append(tied_ranks(-np.where(np.isnan(scores), -np.inf, scores)))
    return np.concatenate(drawn)


def aggregate_ranks(
    accuracy: np.ndarray,
    dcd: np.ndarray,
    options: RankingOptions = DEFAULT,
    *,
    per_image: np.ndarray | None = None,
    extra: np.ndarray | None = None,
) -> Ranking:
    """Score and rank M models for one target from S sources.

    r[m, s] is the percentile rank of model m on source s among the models that have an accuracy there, and

        score(m) = sum_s W_m(s) r[m, s],    W_m = the model's own `source_weights`,

    over the sources for which the model has both an accuracy and a divergence. The fused score (`fuse_scores`) adds an
    extra statistic of the model on the target's images, such as `vlmrank.predictions.committee_agreement`, both in
    standard deviations over the models.

    The bootstrap resamples sources. Where `per_image` or an `extra` per image is given, it resamples the target's
    images too: the same images for all models, and for both arrays if both have equally many.

    Parameters
    ----------
    accuracy : [M, S], in [0, 1]; nan = unknown.
    dcd : [M, S], divergence of each source to the target for each model; nan = missing.
    options : weights of the sources, fusion and bootstrap.
    per_image : [M, S, K], the share of each target image in `dcd` (nan = no such image).
    extra : [M], or [M, P] for P images, whose mean is taken; higher is better; nan = unknown, counts as the mean model.

    Raises
    ------
    ValueError : shapes that do not fit, or a value out of range, named with its place: accuracies from 0 to 1, finite
        divergences and statistics (nan: not known), kappa > 0, 0 <= shrink <= 1.

    Examples
    --------
    >>> accuracy = np.array([[0.9, 0.2], [0.5, 0.6]])
    >>> dcd = np.array([[0.1, 0.9], [0.1, 0.9]])
    >>> aggregate_ranks(accuracy, dcd).rank
    array([1., 2.])
    """
    accuracy, dcd = np.asarray(accuracy, np.float64), np.asarray(dcd, np.float64)
    if options.by == "fused" and extra is None:
        raise ValueError("cannot rank by 'fused' without an extra statistic")
    _check_arrays(accuracy, dcd, per_image, extra)
    ranks = percentile_ranks(accuracy)
    dcd = np.where(np.isfinite(ranks), dcd, np.nan)
    usable = np.isfinite(dcd).any(axis=1)
    weights = source_weights(dcd, kappa=options.kappa, shrink=options.shrink)
    score = np.where(usable, (np.nan_to_num(weights) * np.nan_to_num(ranks)).sum(axis=1), np.nan)
    fused = np.full(len(score), np.nan)
    if extra is not None:
        extra = np.where(usable.reshape(-1, *[1] * (np.ndim(extra) - 1)), np.asarray(extra, np.float64), np.nan)
        statistic = extra if extra.ndim == 1 else _resampled_mean(extra, np.ones((1, extra.shape[1])))[0]
        fused = fuse_scores(score, statistic, options.fuse)
    rank = tied_ranks(-(fused if options.by == "fused" else score))
    rank_low, rank_high, p_top5 = (np.full(len(score), np.nan) for _ in range(3))
    if options.bootstrap > 0 and usable.any():
        images, votes = (
            None if values is None else np.asarray(values, np.float64)[usable] for values in (per_image, extra)
        )
        drawn = _bootstrap_ranks(ranks[usable], dcd[usable], images, votes, options)
        tail = (1 - options.level) / 2
        rank_low[usable], rank_high[usable] = np.quantile(drawn, [tail, 1 - tail], axis=0)
        p_top5[usable] = (drawn <= 5).mean(axis=0)
    weights = np.where(usable[:, None], np.nan_to_num(weights), np.nan)
    return Ranking(score, fused, rank, rank_low, rank_high, p_top5, weights)
