"""Keep the scores behind an evaluation, and recompute it for other zoos.

R tries of a method (draws of the images, or repeats), M models, T datasets, H halves of the models.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import rankdata

from vlmrank.evaluation.evaluate import METRICS
from vlmrank.store import UTF8, create_hdf5, open_hdf5


@dataclass(frozen=True)
class Scores:
    """Scores of every method for every target.

    Attributes
    ----------
    models, datasets : M and T names.
    truth : float64 [M, T], nan where unknown.
    values : method -> float64 [R, M, T], higher is better; nan where a target was not scored.
    parts : method -> title -> float64 [M, T], whose sum is the score, as far as asked for.
    """

    models: Sequence[str]
    datasets: Sequence[str]
    truth: np.ndarray
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)


def write_scores(path: str | os.PathLike[str], scores: Scores) -> None:
    """Write as HDF5."""
    with create_hdf5(path, "scores") as file:
        for name in ("models", "datasets"):
            file.create_dataset(name, data=np.array(getattr(scores, name), dtype=object), dtype=UTF8)
        file["truth"] = np.asarray(scores.truth, np.float64)
        for method, values in scores.values.items():
            file.create_dataset(f"scores/{method}", data=np.asarray(values, np.float64), compression="gzip")
        for method, titles in scores.parts.items():
            for title, values in titles.items():
                file.create_dataset(f"parts/{method}/{title}", data=np.asarray(values, np.float64), compression="gzip")


def read_scores(path: str | os.PathLike[str]) -> Scores:
    """Read what `write_scores` wrote."""
    with open_hdf5(path, "scores") as file:
        return Scores(
            models=tuple(file["models"].asstr()[()]),
            datasets=tuple(file["datasets"].asstr()[()]),
            truth=file["truth"][()],
            values={method: values[()] for method, values in file.get("scores", {}).items()},
            parts={
                method: {title: values[()] for title, values in titles.items()}
                for method, titles in file.get("parts", {}).items()
            },
        )


def draw_halves(models: int, halves: int, seed: int = 0) -> np.ndarray:
    """int [H, M // 2], halves of the models, drawn without replacement; the same for all methods."""
    generator = np.random.default_rng(seed)
    return np.stack([np.sort(generator.permutation(models)[: models // 2]) for _ in range(halves)])


def _places(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each entry of each row, how many are above it, and how many are equal to it (itself included)."""
    above = rankdata(-score, method="min", axis=1) - 1
    return above, rankdata(-score, method="max", axis=1) - above


def _ndcg_at_5(truth: np.ndarray, score: np.ndarray) -> np.ndarray:
    """[H] NDCG@5 of each row; a tied model gets the mean discount of the places that it shares."""
    discounts = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, 7)))])
    relevance = np.maximum(0.0, 6 - rankdata(-truth, axis=1))

    def gain(values: np.ndarray) -> np.ndarray:
        above, level = _places(values)
        start, end = (np.minimum(place, 5).astype(int) for place in (above, above + level))
        return (relevance * (discounts[end] - discounts[start]) / level).sum(axis=1)

    return gain(score) / gain(relevance)


def _regret_at_1(truth: np.ndarray, score: np.ndarray) -> np.ndarray:
    first = score == score.max(axis=1, keepdims=True)
    return truth.max(axis=1) - (truth * first).sum(axis=1) / first.sum(axis=1)


def _hit_at_5(truth: np.ndarray, score: np.ndarray) -> np.ndarray:
    above, level = _places(score)
    best = truth == truth.max(axis=1, keepdims=True)
    return (np.clip((5 - above) / level, 0.0, 1.0) * best).sum(axis=1) / best.sum(axis=1)


# The metrics of `evaluate.METRICS` of these names, for all halves at once.
ON_ROWS = {"ndcg_at_5": _ndcg_at_5, "regret_at_1": _regret_at_1, "hit_at_5": _hit_at_5}


def metric_on_halves(
    scores: np.ndarray, truth: np.ndarray, halves: np.ndarray, metric: str, *, tries: int | None = None
) -> np.ndarray:
    """A metric of one method on each half of the models and each target, the mean over the tries.

    The scores stay as they were given to the whole zoo.

    Parameters
    ----------
    scores : [R, M, T]. truth : [M, T]. halves : int [H, M'].
    metric : name in `METRICS`.
    tries : number of tries to use; all by default.

    Returns
    -------
    [H, T], nan where fewer than two models of a half are known or no model was scored.
    """
    found = np.full((len(halves), truth.shape[1]), np.nan)
    for target in range(truth.shape[1]):
        given = scores[:tries, :, target]
        given = given[np.isfinite(given).any(axis=1)]
        if len(given):
            found[:, target] = np.mean([_on_rows(truth[:, target], one, halves, metric) for one in given], axis=0)
    return found


def _on_rows(truth: np.ndarray, score: np.ndarray, halves: np.ndarray, metric: str) -> np.ndarray:
    """[H] of one target and try; halves of less than all known models go one by one."""
    known = np.isfinite(truth)
    score = np.where(np.isnan(score), np.nanmin(score) - 1.0, score)
    if metric in ON_ROWS and known.all():
        return ON_ROWS[metric](truth[halves], score[halves])
    return np.array(
        [METRICS[metric](truth=truth[half], score=score[half]) if known[half].sum() > 1 else np.nan for half in halves]
    )


def interval_over_models(full: float, on_halves: np.ndarray) -> tuple[float, float]:
    """95 % interval of a mean over targets by resampling the models, from its values on halves of them.

    A mean on half of the models, drawn without replacement, deviates from the mean over such halves as one on as many
    models as there are deviates from its expectation: 1 / (M / 2) - 1 / M = 1 / M. So the quantiles of the deviations
    are put around the value on the full zoo.

    Parameters
    ----------
    full : mean over the targets on all models.
    on_halves : [H], the same mean on each half.

    References
    ----------
    McCarthy: Pseudo-replication: Half Samples, Review of the International Statistical Institute 1969.
    """
    known = on_halves[np.isfinite(on_halves)]
    if not len(known):
        return np.nan, np.nan
    low, high = full + np.quantile(known - known.mean(), [0.025, 0.975])
    return float(low), float(high)
