"""Distances between tasks: the divergences of all models, averaged."""

from __future__ import annotations

import numpy as np

from vlmrank import store
from vlmrank.report.collect import Run


def pooled_divergence(run: Run) -> np.ndarray:
    """Mean over models of their divergences [D, D] in the order of `run.datasets`; row = source, column = target."""
    names = [card["dataset"] for card in run.datasets]
    total, count = np.zeros((len(names),) * 2), np.zeros((len(names),) * 2)
    for divergences in run.divergences.values():
        matrix = reorder(divergences, names)
        known = np.isfinite(matrix)
        total[known] += matrix[known]
        count += known
    with np.errstate(invalid="ignore"):
        return total / np.where(count, count, np.nan)


def reorder(divergences: store.Divergences, names: list[str]) -> np.ndarray:
    """One model's divergences [D, D] in the order of `names`, nan if missing."""
    place = {name: i for i, name in enumerate(divergences.datasets)}
    index = np.array([place.get(name, -1) for name in names])
    matrix = np.full((len(names),) * 2, np.nan)
    have = np.flatnonzero(index >= 0)
    matrix[np.ix_(have, have)] = divergences.dcd[np.ix_(index[have], index[have])]
    return matrix
