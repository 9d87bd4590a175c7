"""Peers combined with the average rank on the sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from vlmrank.baselines.base import SOURCE_ACCURACIES, Method, View
from vlmrank.baselines.source_accuracy import average_rank
from vlmrank.ranking import percentile_ranks


def _parts(method: Method) -> Callable[[View], Mapping[str, np.ndarray]]:
    def parts(view: View) -> Mapping[str, np.ndarray]:
        """Percentile ranks [M] of the average rank over the sources and of the peer's score."""
        ranks = percentile_ranks(np.stack([average_rank(view), method.score(view)], axis=1))
        return {"average rank": ranks[:, 0], method.title: ranks[:, 1]}

    return parts


def _joined(method: Method) -> Callable[[View], np.ndarray]:
    def score(view: View) -> np.ndarray:
        """[M] sum of two percentile ranks: of the average rank over the sources and of the peer's score."""
        return np.sum(list(_parts(method)(view).values()), axis=0)

    return score


def with_average_rank(method: Method) -> Method:
    """`average_rank+<name>`: the sum of the percentile ranks of the average rank and of the method's score."""
    return Method(
        f"average_rank+{method.name}",
        f"average rank + {method.title}",
        method.looks_at | {SOURCE_ACCURACIES},
        _joined(method),
        method.group,
        _parts(method),
    )
