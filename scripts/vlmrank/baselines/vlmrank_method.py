"""The method itself, its fused form, and its ablations with one part exchanged."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from vlmrank.baselines.base import CLASS_NAMES, SOURCE_ACCURACIES, TARGET_IMAGES, Method, View, known_mean
from vlmrank.predictions import committee_agreement
from vlmrank.ranking import RankingOptions, aggregate_ranks, average_ranks, fuse_parts, fuse_scores

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
        return aggregate_ranks(view.source_accuracy, view.divergence(name), RankingOptions(**options)).score

    return score


def _fused_parts(
    fuse: float, name: str = "dcd", drawn: str = "", **options: float
) -> Callable[[View], Mapping[str, np.ndarray]]:
    def parts(view: View) -> Mapping[str, np.ndarray]:
        """[M] the weighted ranks and, `fuse` times, the agreement with the committee, both standardised."""
        weighted = aggregate_ranks(view.source_accuracy, view.divergence(name), RankingOptions(**options)).score
        agreement = known_mean(committee_agreement(view.logits(drawn), average_ranks(view.source_accuracy)))
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
        settings = RankingOptions(fuse=fuse, **options)
        return aggregate_ranks(view.source_accuracy, view.divergence("dcd"), settings, extra=extra).fused

    return score


def _unweighted(fuse: float) -> Callable[[View], np.ndarray]:
    def score(view: View) -> np.ndarray:
        """[M] as the fused score, with the average rank in place of the weighted ranks."""
        average = average_ranks(view.source_accuracy)
        return fuse_scores(average, known_mean(committee_agreement(view.logits(), average)), fuse)

    return score


def _agreement(**options: float) -> Callable[[View], np.ndarray]:
    def score(view: View) -> np.ndarray:
        """[M] agreement with the committee of the other models, whose votes rise with their average rank."""
        return known_mean(committee_agreement(view.logits(), view.standing, **options))

    return score


def _weighted_votes(**options: float) -> Callable[[View], np.ndarray]:
    def score(view: View) -> np.ndarray:
        """[M] the same with votes that rise with the weighted ranks."""
        prior = aggregate_ranks(view.source_accuracy, view.divergence("dcd"), RankingOptions(**options)).score
        return known_mean(committee_agreement(view.logits(), prior))

    return score


SEES = frozenset({TARGET_IMAGES, SOURCE_ACCURACIES, CLASS_NAMES})


def variant(
    name: str,
    changed: Mapping[str, Mapping[str, float]],
    *,
    kappa: float = 0.6,
    shrink: float = 1.0,
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


def methods(*, kappa: float = 0.6, shrink: float = 1.0, fuse: float = 2.0) -> tuple[Method, ...]:
    """The method, its fused form and its counterparts.

    Parameters
    ----------
    kappa, shrink : of the source weights (`vlmrank.ranking.source_weights`).
    fuse : weight of the agreement in the fused score (`vlmrank.ranking.aggregate_ranks`).
    """
    used = {"kappa": kappa, "shrink": shrink}
    information = _fused_statistic(fuse, "mutual_information", **used)
    title = "vlmrank + agreement with the committee"
    return (
        Method("agreement", "agreement with the committee", SEES, _agreement(), "ours"),
        Method("vlmrank", "vlmrank", SEES, _weighted("dcd", **used), "ours"),
        Method("fused", title, SEES, _fused(fuse, **used), "ours", _fused_parts(fuse, **used)),
        *(
            Method(name, title, SEES, score, "counterpart")
            for name, title, score in (
                ("model_level", "vlmrank with each model's own weights", _weighted("dcd", **used | {"shrink": 0.0})),
                ("half_level", "vlmrank with weights half the model's own", _weighted("dcd", **used | {"shrink": 0.5})),
                ("fused_information", "vlmrank + mutual information of the predictions", information),
                ("average_rank+agreement", "average rank + agreement with the committee", _unweighted(fuse)),
                ("agreement_by_vlmrank", "agreement, votes by vlmrank", _weighted_votes(**used)),
                ("agreement_unbalanced", "agreement, classes not balanced", _agreement(balance=0.0)),
                *((f"by_{name}", title, _weighted(name, **used)) for name, title in COUNTERPARTS.items()),
            )
        ),
    )
