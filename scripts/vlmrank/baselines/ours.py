"""The method itself, its fused form, and counterparts with one part exchanged: the claim is that each part matters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vlmrank.baselines.base import CLASS_NAMES, SOURCE_ACCURACIES, TARGET_IMAGES, Method, View, known_mean
from vlmrank.ranking import aggregate_ranks

# Divergences that take the place of DCD in the same aggregation.
COUNTERPARTS = {
    "symmetric": "symmetric: mean of both directions of DCD",
    "cosine": "symmetric: cosine of mean channel conductances",
    "jensen_shannon": "symmetric: Jensen-Shannon of channel distributions",
    "embedding": "embedding-space similarity of the images",
    "uniform_blocks": "DCD with uniform block weights",
}


def _weighted(name: str, kappa: float) -> Callable[[View], np.ndarray]:
    def score(view: View) -> np.ndarray:
        """[M] percentile ranks on the sources, weighted by each model's own divergence to the target."""
        return aggregate_ranks(view.source_accuracy, view.divergence(name), kappa=kappa).score

    return score


def _fused(kappa: float, fuse: float, statistic: str) -> Callable[[View], np.ndarray]:
    def score(view: View) -> np.ndarray:
        """[M] the weighted ranks plus `fuse` times the percentile rank of a statistic of the predictions."""
        extra = view.statistic(statistic)
        return aggregate_ranks(view.source_accuracy, view.divergence("dcd"), kappa=kappa, extra=extra, fuse=fuse).fused

    return score


def standardised(divergence: np.ndarray) -> np.ndarray:
    """Each row of a divergence [M, S] minus its mean, over its standard deviation; a constant row gives 0."""
    centred = divergence - known_mean(divergence)[:, None]
    deviation = np.sqrt(known_mean(np.square(centred)))[:, None]
    return np.divide(centred, deviation, out=np.where(np.isnan(centred), np.nan, 0.0), where=deviation > 1e-12)


def _task_level(kappa: float) -> Callable[[View], np.ndarray]:
    def score(view: View) -> np.ndarray:
        """[M] the same weights for all models: from DCD standardised in each model and averaged over the models."""
        shared = known_mean(standardised(view.divergence("dcd")), axis=0)
        return aggregate_ranks(view.source_accuracy, np.tile(shared, (view.models, 1)), kappa=kappa).score

    return score


def methods(*, kappa: float = 0.6, fuse: float = 0.5, statistic: str = "mutual_information") -> tuple[Method, ...]:
    """The method, its fused form and its counterparts.

    Parameters
    ----------
    kappa : temperature of the source weights (`vlmrank.ranking.aggregate_ranks`).
    fuse : weight of the statistic in the fused score.
    statistic : of the unlabelled predictions, added in the fused score.
    """
    sees = frozenset({TARGET_IMAGES, SOURCE_ACCURACIES, CLASS_NAMES})
    return (
        Method("vlmrank", "vlmrank", sees, _weighted("dcd", kappa), "ours"),
        Method("fused", "vlmrank, fused", sees, _fused(kappa, fuse, statistic), "ours"),
        Method("task_level", "vlmrank with one set of weights for all models", sees, _task_level(kappa), "counterpart"),
        *(
            Method(f"by_{name}", title, sees, _weighted(name, kappa), "counterpart")
            for name, title in COUNTERPARTS.items()
        ),
    )
