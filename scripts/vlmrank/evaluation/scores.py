"""The scores behind an evaluation, and what other models in the zoo would have changed.

R tries of a method (draws of the images, or repeats), M models, T datasets, H halves of the models.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import h5py
import numpy as np

from vlmrank.evaluation.evaluate import METRICS
from vlmrank.store import UTF8, atomic


@dataclass(frozen=True)
class Scores:
    """Scores of every method for every target.

    Attributes
    ----------
    models, datasets : M and T names.
    truth : float64 [M, T], nan where unknown.
    values : method -> float64 [R, M, T], higher is better; nan where a target was not scored.
    """

    models: Sequence[str]
    datasets: Sequence[str]
    truth: np.ndarray
    values: Mapping[str, np.ndarray] = field(default_factory=dict)


def write_scores(path: str | os.PathLike[str], scores: Scores) -> None:
    """Write as HDF5."""
    with atomic(path) as partial, h5py.File(partial, "w") as file:
        for name in ("models", "datasets"):
            file.create_dataset(name, data=np.array(getattr(scores, name), dtype=object), dtype=UTF8)
        file["truth"] = np.asarray(scores.truth, np.float64)
        for method, values in scores.values.items():
            file.create_dataset(f"scores/{method}", data=np.asarray(values, np.float64), compression="gzip")


def read_scores(path: str | os.PathLike[str]) -> Scores:
    """Read what `write_scores` wrote."""
    with h5py.File(path, "r", locking=False) as file:
        return Scores(
            models=tuple(file["models"].asstr()[()]),
            datasets=tuple(file["datasets"].asstr()[()]),
            truth=file["truth"][()],
            values={method: values[()] for method, values in file.get("scores", {}).items()},
        )


def draw_halves(models: int, halves: int, seed: int = 0) -> np.ndarray:
    """int [H, M // 2], halves of the models, drawn without replacement; the same for all methods."""
    generator = np.random.default_rng(seed)
    return np.stack([np.sort(generator.permutation(models)[: models // 2]) for _ in range(halves)])


def metric_on_halves(
    scores: np.ndarray, truth: np.ndarray, halves: np.ndarray, metric: str, *, tries: int | None = None
) -> np.ndarray:
    """A metric of one method on each half of the models and each target, the mean over the tries.

    The scores stay as they were given to the whole zoo.

    Parameters
    ----------
    scores : [R, M, T]. truth : [M, T]. halves : int [H, M'].
    metric : name in `METRICS`.
    tries : the first so many tries; all by default.

    Returns
    -------
    [H, T], nan where fewer than two models of a half are known or no model was scored.
    """
    found = np.full((len(halves), truth.shape[1]), np.nan)
    for target in range(truth.shape[1]):
        given = scores[:tries, :, target]
        given = given[np.isfinite(given).any(axis=1)]
        if not len(given):
            continue
        for row, half in enumerate(halves):
            own = truth[half, target]
            if np.isfinite(own).sum() > 1:
                found[row, target] = np.mean([METRICS[metric](truth=own, score=one[half]) for one in given])
    return found


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
