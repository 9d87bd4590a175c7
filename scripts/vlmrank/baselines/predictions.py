"""Peers that score each model by a statistic of its predictions or embeddings on unlabelled target images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vlmrank.baselines.base import TARGET_IMAGES, Method, View

# Sign that makes higher values better, and title.
STATISTICS = {
    "mutual_information": (1.0, "mutual information of the predictions"),
    "confidence": (1.0, "mean confidence of the predictions"),
    "entropy": (-1.0, "entropy of the predictions"),
    "nuclear_norm": (1.0, "nuclear norm of the predictions"),
    "mano": (1.0, "MaNo"),
    "dispersity": (1.0, "dispersity of the predictions"),
    "dispersion": (1.0, "dispersion of the embeddings"),
    "energy": (1.0, "energy of the predictions"),
    "meta_distribution_energy": (1.0, "meta-distribution energy"),
    "vega": (1.0, "VEGA"),
}


def _statistic(name: str, sign: float) -> Callable[[View], np.ndarray]:
    def score(view: View) -> np.ndarray:
        """[M] the statistic, signed so that higher is better."""
        return sign * view.statistic(name)

    return score


METHODS = tuple(
    Method(name, title, frozenset({TARGET_IMAGES}), _statistic(name, sign))
    for name, (sign, title) in STATISTICS.items()
)
