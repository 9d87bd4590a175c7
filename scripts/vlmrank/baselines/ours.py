"""The method itself, its fused form, and counterparts with one part exchanged: the claim is that each part matters."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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


def _fused(kappa: float, fuse: float, statistic: str, name: str = "dcd") -> Callable[[View], np.ndarray]:
    def score(view: View) -> np.ndarray:
        """[M] the weighted ranks plus `fuse` times the percentile rank of a statistic of the predictions."""
        extra = view.statistic(statistic)
        return aggregate_ranks(view.source_accuracy, view.divergence(name), kappa=kappa, extra=extra, fuse=fuse).fused

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


SEES = frozenset({TARGET_IMAGES, SOURCE_ACCURACIES, CLASS_NAMES})


def variant(
    name: str,
    changed: Mapping[str, Mapping[str, float]],
    *,
    kappa: float = 0.6,
    fuse: float = 0.5,
    statistic: str = "mutual_information",
) -> tuple[Method, ...]:
    """The method and its fused form under changed settings, for an ablation.

    Parameters
    ----------
    name : of the variant; its divergence is `dcd[name]` unless it changes only the ranking.
    changed : settings that differ: `ranking` (kappa, fuse), and those that `vlmrank.evidence` has applied before.
    kappa, fuse, statistic : of the main run.
    """
    kappa = changed.get("ranking", {}).get("kappa", kappa)
    fuse = changed.get("ranking", {}).get("fuse", fuse)
    dcd = f"dcd[{name}]" if set(changed) - {"ranking"} else "dcd"
    other = f"{statistic}[{name}]" if "images" in changed else statistic
    return (
        Method("vlmrank", name, SEES, _weighted(dcd, kappa), "ours"),
        Method("fused", name, SEES, _fused(kappa, fuse, other, dcd), "ours"),
    )


def methods(*, kappa: float = 0.6, fuse: float = 0.5, statistic: str = "mutual_information") -> tuple[Method, ...]:
    """The method, its fused form and its counterparts.

    Parameters
    ----------
    kappa : temperature of the source weights (`vlmrank.ranking.aggregate_ranks`).
    fuse : weight of the statistic in the fused score.
    statistic : of the unlabelled predictions, added in the fused score.
    """
    return (
        Method("vlmrank", "vlmrank", SEES, _weighted("dcd", kappa), "ours"),
        Method("fused", "vlmrank, fused", SEES, _fused(kappa, fuse, statistic), "ours"),
        Method("task_level", "vlmrank with one set of weights for all models", SEES, _task_level(kappa), "counterpart"),
        *(
            Method(f"by_{name}", title, SEES, _weighted(name, kappa), "counterpart")
            for name, title in COUNTERPARTS.items()
        ),
    )
