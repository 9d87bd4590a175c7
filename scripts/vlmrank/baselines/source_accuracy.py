"""Peers that use accuracies on the sources only, such as the average rank."""

from __future__ import annotations

import numpy as np

from vlmrank.baselines.base import SOURCE_ACCURACIES, Method, View, known_mean
from vlmrank.ranking import percentile_ranks


def average_rank(view: View) -> np.ndarray:
    """[M] mean percentile rank over the sources."""
    return known_mean(percentile_ranks(view.source_accuracy))


def reference_accuracy(view: View) -> np.ndarray:
    """[M] accuracy on the broadest source, as models are commonly chosen by ImageNet accuracy.

    The broadest source is the one with most classes; if class names are unknown, the one whose ranking agrees best with
    the average rank.
    """
    accuracy = view.source_accuracy
    if view.class_counts.any():
        return accuracy[:, int(np.argmax(view.class_counts))]
    ranks = percentile_ranks(accuracy)
    mean = known_mean(ranks)
    distance = known_mean(np.abs(ranks - mean[:, None]), axis=0)
    return accuracy[:, int(np.nanargmin(distance))]


METHODS = (
    Method("average_rank", "average rank", frozenset({SOURCE_ACCURACIES}), average_rank),
    Method("reference_accuracy", "accuracy on the broadest source", frozenset({SOURCE_ACCURACIES}), reference_accuracy),
)
