"""Expected accuracies on the target, and the expected loss of taking a model, with intervals.

Each drawn ranking (`calibration.draw_ranks`) becomes accuracies with the help of a known task drawn at random: the
model of rank i gets the accuracy of that task's i-th best model. If predictions on the target's images show how hard
the target is (`anchor`), the known task's accuracies are first shifted, in logits, by the difference in difficulty. T
tasks, M models, D draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

EDGE = 0.005  # accuracies are clipped to [EDGE, 1 - EDGE] before their logit is taken
ANCHOR_WEIGHT = 3.0  # weight of the prior slope of one, in tasks


@dataclass(frozen=True)
class Expectation:
    """Expected accuracy and loss of each model on the target; nan if a model has no score.

    Attributes
    ----------
    accuracy, accuracy_low, accuracy_high : float64 [M], mean and interval of the accuracy.
    loss, loss_low, loss_high : float64 [M], mean and interval of the best model's accuracy minus this model's.
    """

    accuracy: np.ndarray
    accuracy_low: np.ndarray
    accuracy_high: np.ndarray
    loss: np.ndarray
    loss_low: np.ndarray
    loss_high: np.ndarray


def _logits(accuracy: np.ndarray) -> np.ndarray:
    return logit(np.clip(accuracy, EDGE, 1 - EDGE))


def level_shifts(levels: np.ndarray, anchors: np.ndarray, anchor: float) -> np.ndarray:
    """Expected difference, in logits, between the target's mean accuracy and that of each known task.

    levels = c + b anchors + residual is fitted by ridge regression towards b = 1. The residual of task t is assumed for
    the target, whose level is then c + b anchor + residual_t, so the shift is b (anchor - anchors_t).

    Parameters
    ----------
    levels : [T], mean logit of the accuracies of each known task.
    anchors : [T], mean accuracy of each known task as the predictions suggest it, in logits; nan = unknown.
    anchor : the same of the target.

    Returns
    -------
    [T]; 0 if either anchor is unknown.
    """
    levels, anchors = np.asarray(levels, np.float64), np.asarray(anchors, np.float64)
    known = np.isfinite(anchors) & np.isfinite(levels)
    if not np.isfinite(anchor) or not known.any():
        return np.zeros(len(levels))
    x, y = anchors[known] - anchors[known].mean(), levels[known] - levels[known].mean()
    scale = max(float(x.var()), 1e-12)
    slope = (x @ y / scale + ANCHOR_WEIGHT) / (known.sum() + ANCHOR_WEIGHT)
    return np.where(known, slope * (anchor - np.nan_to_num(anchors)), 0.0)


def draw_accuracies(
    ranks: np.ndarray, accuracies: Sequence[np.ndarray], *, shifts: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """Accuracies [D, M] of drawn ranks [D, M], nan without a rank.

    Parameters
    ----------
    ranks : [D, M] from `calibration.draw_ranks`.
    accuracies : T arrays of the known tasks' accuracies, nan = unknown; at least one accuracy in all.
    shifts : [T], from `level_shifts`; default 0.
    seed : of the draw of the known tasks.

    Raises
    ------
    ValueError : no accuracy is known.
    """
    shapes = [np.sort(_logits(known[np.isfinite(known)]))[::-1] for known in map(np.asarray, accuracies)]
    moved = np.zeros(len(shapes)) if shifts is None else np.asarray(shifts, np.float64)
    usable = [(shape + shift) for shape, shift in zip(shapes, moved, strict=True) if len(shape)]
    if not usable:
        raise ValueError("no accuracy is known on any task")
    known = np.isfinite(ranks)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    share = (ranks - 0.5) / count
    task = np.random.default_rng(seed).integers(len(usable), size=len(ranks))
    drawn = np.full(ranks.shape, np.nan)
    for index, shape in enumerate(usable):
        rows = task == index
        place = share[rows] * len(shape) - 0.5
        drawn[rows] = np.where(known[rows], np.interp(np.nan_to_num(place), np.arange(len(shape)), shape), np.nan)
    return expit(drawn)


def expect(drawn: np.ndarray, *, level: float = 0.9, loss_factor: float = 1.0) -> Expectation:
    """Means and intervals of accuracy and loss from drawn accuracies [D, M].

    Parameters
    ----------
    drawn : from `draw_accuracies`.
    level : of the intervals.
    loss_factor : factor for the losses, from claimed and observed losses on known tasks.
    """
    known = np.isfinite(drawn).all(axis=0)
    tails = [(1 - level) / 2, (1 + level) / 2]
    results = []
    lost = drawn[:, known]
    if known.any():
        lost = loss_factor * (lost.max(axis=1, keepdims=True) - lost)
    for values in (drawn[:, known], lost):
        for found in (values.mean(axis=0), *np.quantile(values, tails, axis=0)) if known.any() else [np.empty(0)] * 3:
            full = np.full(drawn.shape[1], np.nan)
            full[known] = found
            results.append(full)
    return Expectation(*results)
