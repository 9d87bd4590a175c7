"""Control methods that every ranking is compared with: random, model size, oracle.

Source of the idea: the control methods of Open Problems in Single-Cell Analysis (https://openproblems.bio).
"""

from __future__ import annotations

import numpy as np

from vlmrank.baselines.base import MODEL_SIZE, SOURCE_ACCURACIES, TRUTH, Method, View
from vlmrank.ranking import percentile_ranks

REPEATS = 100
SHARPNESS = 4


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
    measurement.
    """
    accuracy = view.true_accuracy
    known = np.isfinite(accuracy) & np.isfinite(view.test_images)
    count = np.where(known, view.test_images, 1).astype(int)
    probability = np.clip(np.where(known, accuracy, 0.0), 0.0, 1.0)
    second = view.random.binomial(count, probability, size=(REPEATS, view.models)) / count
    return np.where(known, second, np.nan)


def oracle_weights(view: View) -> np.ndarray:
    """[M] source ranks weighted by max(0, Spearman correlation with the truth) ** 4, over the models known on both.

    Upper bound for source weights common to all models, if the similarity of the tasks were known.
    """
    sources, truth = percentile_ranks(view.source_accuracy), view.true_accuracy
    weights = np.zeros(sources.shape[1])
    for column, ranks in enumerate(sources.T):
        both = np.isfinite(ranks) & np.isfinite(truth)
        if both.sum() > 2:
            pair = percentile_ranks(np.stack([ranks[both], truth[both]], axis=1))
            spread = pair.std(axis=0).min()
            weights[column] = max(0.0, np.corrcoef(pair.T)[0, 1]) ** SHARPNESS if spread > 0 else 0.0
    weights = weights * np.isfinite(sources)
    total = weights.sum(axis=1)
    return np.divide(
        (weights * np.nan_to_num(sources)).sum(axis=1), total, out=np.full(len(total), np.nan), where=total > 0
    )


METHODS = (
    Method("random", "random order", frozenset(), random_order, "control"),
    Method("biggest", "biggest model", frozenset({MODEL_SIZE}), biggest, "control"),
    Method("oracle", "oracle: the truth", frozenset({TRUTH}), oracle, "control"),
    Method(
        "oracle_weights",
        "oracle weights: sources weighted by their true rank correlation with the target",
        frozenset({TRUTH, SOURCE_ACCURACIES}),
        oracle_weights,
        "control",
    ),
    Method("noise_ceiling", "ceiling: the truth measured again", frozenset({TRUTH}), noise_ceiling, "control"),
)
