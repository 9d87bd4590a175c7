"""The method itself, its fused form, and counterparts with one part exchanged: the claim is that each part matters."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from vlmrank.baselines.base import CLASS_NAMES, SOURCE_ACCURACIES, TARGET_IMAGES, Method, View, known_mean
from vlmrank.predictions import committee_agreement
from vlmrank.ranking import aggregate_ranks, fuse_parts, fuse_scores, percentile_ranks

# Divergences that take the place of DCD in the same aggregation.
COUNTERPARTS = {
    "symmetric": "symmetric: mean of both directions of DCD",
    "cosine": "symmetric: cosine of mean channel conductances",
    "jensen_shannon": "symmetric: Jensen-Shannon of channel distributions",
    "embedding": "embedding-space similarity of the images",
    "uniform_blocks": "DCD with uniform block weights",
}


def _weighted(name: str, **options: float) -> Callable[[View], np.ndarray]:
    def score(view: View) -> np.ndarray:
        """[M] percentile ranks on the sources, weighted by each model's divergence to the target."""
        return aggregate_ranks(view.source_accuracy, view.divergence(name), **options).score

    return score


def _fused_parts(
    fuse: float, name: str = "dcd", drawn: str = "", **options: float
) -> Callable[[View], Mapping[str, np.ndarray]]:
    def parts(view: View) -> Mapping[str, np.ndarray]:
        """[M] the weighted ranks and, `fuse` times, the agreement with the other models, both standardised."""
        weighted = aggregate_ranks(view.source_accuracy, view.divergence(name), **options).score
        agreement = known_mean(committee_agreement(view.logits(drawn), weighted))
        agreement = np.where(np.isfinite(weighted), agreement, np.nan)
        return dict(zip(("known tasks", "agreement"), fuse_parts(weighted, agreement, fuse), strict=True))

    return parts


def _fused(fuse: float, name: str = "dcd", drawn: str = "", **options: float) -> Callable[[View], np.ndarray]:
    def score(view: View) -> np.ndarray:
        """[M] the sum of the parts."""
        return np.sum(list(_fused_parts(fuse, name, drawn, **options)(view).values()), axis=0)

    return score


def _fused_statistic(fuse: float, statistic: str, **options: float) -> Callable[[View], np.ndarray]:
    def score(view: View) -> np.ndarray:
        """[M] the weighted ranks and, `fuse` times, a statistic of the predictions, both standardised."""
        extra = view.statistic(statistic)
        return aggregate_ranks(view.source_accuracy, view.divergence("dcd"), extra=extra, fuse=fuse, **options).fused

    return score


def _unweighted(fuse: float) -> Callable[[View], np.ndarray]:
    def score(view: View) -> np.ndarray:
        """[M] as the fused score, with the average rank in place of the weighted ranks, in the votes too."""
        average = known_mean(percentile_ranks(view.source_accuracy))
        return fuse_scores(average, known_mean(committee_agreement(view.logits(), average)), fuse)

    return score


SEES = frozenset({TARGET_IMAGES, SOURCE_ACCURACIES, CLASS_NAMES})


def variant(
    name: str,
    changed: Mapping[str, Mapping[str, float]],
    *,
    kappa: float = 0.8,
    shrink: float = 0.5,
    fuse: float = 2.0,
) -> tuple[Method, ...]:
    """The method and its fused form under changed settings, for an ablation.

    Parameters
    ----------
    name : of the variant; its divergence is `dcd[name]` unless it changes only the ranking.
    changed : settings that differ: `ranking` (kappa, shrink, fuse), and what `vlmrank.evaluation.evidence` has applied.
    kappa, shrink, fuse : of the main run.
    """
    used = {"kappa": kappa, "shrink": shrink, "fuse": fuse}
    used |= {key: value for key, value in changed.get("ranking", {}).items() if key in used}
    fuse = used.pop("fuse")
    dcd = f"dcd[{name}]" if set(changed) - {"ranking"} else "dcd"
    drawn = f"[{name}]" if "images" in changed else ""
    return (
        Method("vlmrank", name, SEES, _weighted(dcd, **used), "ours"),
        Method("fused", name, SEES, _fused(fuse, dcd, drawn, **used), "ours"),
    )


def methods(*, kappa: float = 0.8, shrink: float = 0.5, fuse: float = 2.0) -> tuple[Method, ...]:
    """The method, its fused form and its counterparts.

    Parameters
    ----------
    kappa, shrink : of the source weights (`vlmrank.ranking.source_weights`).
    fuse : weight of the agreement in the fused score (`vlmrank.ranking.aggregate_ranks`).
    """
    used = {"kappa": kappa, "shrink": shrink}
    own, same = used | {"shrink": 0.0}, used | {"shrink": 1.0}
    information = _fused_statistic(fuse, "mutual_information", **used)
    titles = {
        "model_level": "vlmrank with each model's own weights alone",
        "task_level": "vlmrank with one set of weights for all models",
        "fused_information": "vlmrank + mutual information of the predictions",
        "average_rank+agreement": "average rank + agreement with the other models",
    }
    return (
        Method("vlmrank", "vlmrank", SEES, _weighted("dcd", **used), "ours"),
        Method("fused", "vlmrank, fused", SEES, _fused(fuse, **used), "ours", _fused_parts(fuse, **used)),
        Method("model_level", titles["model_level"], SEES, _weighted("dcd", **own), "counterpart"),
        Method("task_level", titles["task_level"], SEES, _weighted("dcd", **same), "counterpart"),
        Method("fused_information", titles["fused_information"], SEES, information, "counterpart"),
        Method("average_rank+agreement", titles["average_rank+agreement"], SEES, _unweighted(fuse), "counterpart"),
        *(
            Method(f"by_{name}", title, SEES, _weighted(name, **used), "counterpart")
            for name, title in COUNTERPARTS.items()
        ),
    )
