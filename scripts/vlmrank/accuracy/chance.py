"""Find models whose accuracies look like a set-up error: at chance where other models are far above it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SLACK = 0.02  # accuracy above chance that always still counts as chance
DEVIATIONS = 3  # standard deviations of a random guesser's accuracy on the test images
LEAST = 2  # sources, and other models, that are needed


def near_chance(accuracy: np.ndarray, classes: Sequence[int], images: np.ndarray) -> list[str]:
    r"""Find models at chance where others are not: a sign of a wrong tag, tokenizer or preprocessing.

    On a source of C classes and n test images a guesser's accuracy is 1/C, with the standard deviation
    sqrt(1/C (1 - 1/C) / n). An accuracy is at chance up to the bound b = 1/C + max(0.02, 3 deviations). A source is
    informative about a model if the median of the others is above 1/C + 2 (b - 1/C).

    Parameters
    ----------
    accuracy : [M, S], nan where unknown.
    classes : C of each source, 0 where unknown.
    images : [M, S], n; nan where unknown.

    Returns
    -------
    A warning for each model that is at chance on all of at least two informative sources; else an empty text.

    Examples
    --------
    >>> accuracy = np.array([[0.7, 0.8], [0.6, 0.9], [0.11, 0.09]])
    >>> [bool(found) for found in near_chance(accuracy, [10, 10], np.full((3, 2), 1000))]
    [False, False, True]
    """
    accuracy = np.asarray(accuracy, np.float64)
    count = np.asarray(classes, np.float64)
    chance = np.where(count >= 2, 1 / np.maximum(count, 2), np.nan)
    deviation = np.sqrt(chance * (1 - chance) / np.asarray(images, np.float64))
    bound = chance + np.fmax(SLACK, DEVIATIONS * deviation)
    warnings = []
    for model in range(len(accuracy)):
        others = np.delete(accuracy, model, axis=0)
        known = np.isfinite(others).sum(axis=0) >= LEAST
        median = np.full(len(count), np.nan)
        median[known] = np.nanmedian(others[:, known], axis=0)
        telling = np.isfinite(accuracy[model]) & (median > chance + 2 * (bound[model] - chance))
        low = telling & (accuracy[model] <= bound[model])
        if telling.sum() >= LEAST and (low == telling).all():
            warnings.append(
                f"at chance on all {telling.sum()} sources on which the others are far above it: check its tag, its "
                "tokenizer and its preprocessing (the model's card names them)"
            )
        else:
            warnings.append("")
    return warnings
