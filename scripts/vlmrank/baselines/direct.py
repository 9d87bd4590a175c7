"""Peers that look at the models' predictions on the target's unlabelled images, alone and added to the average rank."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vlmrank.baselines.base import SOURCE_ACCURACIES, TARGET_IMAGES, Method, View
from vlmrank.baselines.history import average_rank
from vlmrank.ranking import percentile_ranks

# Sign that makes a higher value the better one.
STATISTICS = {"mutual_information": 1.0, "confidence": 1.0, "entropy": -1.0}
TITLES = {
    "mutual_information": "mutual information of the predictions",
    "confidence": "mean confidence of the predictions",
    "entropy": "entropy of the predictions",
}


def _alone(name: str) -> Callable[[View], np.ndarray]:
    def score(view: View) -> np.ndarray:
        """[M] the statistic, signed so that higher is better."""
        return STATISTICS[name] * view.statistic(name)

    return score


def _added(name: str) -> Callable[[View], np.ndarray]:
    def score(view: View) -> np.ndarray:
        """[M] sum of two percentile ranks: of the average rank over the sources and of the statistic."""
        both = np.stack([average_rank(view), STATISTICS[name] * view.statistic(name)], axis=1)
        return percentile_ranks(both).sum(axis=1)

    return score


METHODS = tuple(
    method
    for name in STATISTICS
    for method in (
        Method(name, TITLES[name], frozenset({TARGET_IMAGES}), _alone(name)),
        Method(
            f"average_rank+{name}",
            f"average rank + {TITLES[name]}",
            frozenset({TARGET_IMAGES, SOURCE_ACCURACIES}),
            _added(name),
        ),
    )
)
