"""Control methods: what any ranking must be held against.

Source of the idea: the control methods of Open Problems in Single-Cell Analysis (https://openproblems.bio).
"""

from __future__ import annotations

import numpy as np

from vlmrank.baselines.base import MODEL_SIZE, TRUTH, Method, View

REPEATS = 100


def random_order(view: View) -> np.ndarray:
    """[100, M] random scores: the table shows the mean of the 100 orders."""
    return view.random.random((REPEATS, view.models))


def biggest(view: View) -> np.ndarray:
    """[M] number of parameters."""
    return view.parameters


def oracle(view: View) -> np.ndarray:
    """[M] the true accuracy itself."""
    return view.true_accuracy


def noise_ceiling(view: View) -> np.ndarray:
    """[100, M] the truth measured a second time on as many images: Binomial(n, accuracy) / n.

    The true accuracy is itself measured on n images: no method can be expected to agree with it better than a second
    measurement does.
    """
    accuracy = view.true_accuracy
    known = np.isfinite(accuracy) & np.isfinite(view.test_images)
    count = np.where(known, view.test_images, 1).astype(int)
    probability = np.clip(np.where(known, accuracy, 0.0), 0.0, 1.0)
    second = view.random.binomial(count, probability, size=(REPEATS, view.models)) / count
    return np.where(known, second, np.nan)


METHODS = (
    Method("random", "random order", frozenset(), random_order, "control"),
    Method("biggest", "biggest model", frozenset({MODEL_SIZE}), biggest, "control"),
    Method("oracle", "oracle: the truth", frozenset({TRUTH}), oracle, "control"),
    Method("noise_ceiling", "ceiling: the truth measured again", frozenset({TRUTH}), noise_ceiling, "control"),
)
