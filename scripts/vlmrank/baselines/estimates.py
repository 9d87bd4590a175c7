"""Peers that estimate accuracy on the target from unlabelled predictions and known accuracies.

Each source gives an estimate; the score is the mean over the sources. M models, S sources, K images, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scipy.special import ndtri, softmax

from vlmrank.baselines.base import SOURCE_ACCURACIES, SOURCE_IMAGES, TARGET_IMAGES, Method, View, known_mean


def max_confidence(logits: np.ndarray) -> np.ndarray:
    """[K], largest softmax probability. logits: [K, C]."""
    return softmax(np.asarray(logits, np.float64), axis=1).max(axis=1)


def negative_entropy(logits: np.ndarray) -> np.ndarray:
    """[K], sum of p log p over log C, in [-1, 0], so that datasets of many and of few classes are comparable."""
    values = softmax(np.asarray(logits, np.float64), axis=1)
    entropy = (values * np.log(np.maximum(values, 1e-300))).sum(axis=1)
    return entropy / np.log(max(values.shape[1], 2))


def thresholded_confidence(*, source: np.ndarray, accuracy: float, target: np.ndarray) -> float:
    """ATC: share of the target's images whose score is above the threshold that the source's share of errors sets.

    The threshold t is the quantile of the source's scores at the error, so that as many of its images score below t as
    are wrong; the estimate is the share of the target's scores >= t. Only the accuracy on the source is needed, not
    which of its images are wrong.

    Parameters
    ----------
    source : [K_s], scores (confidence or negative entropy) on the source's images.
    accuracy : of the model on the source.
    target : [K_t], scores on the target's images.

    References
    ----------
    Garg et al.: Leveraging Unlabeled Data to Predict Out-of-Distribution Performance, ICLR 2022.
    """
    wrong = round((1.0 - accuracy) * len(source))
    threshold = np.inf if wrong >= len(source) else np.sort(source)[wrong]
    return float((np.asarray(target) >= threshold).mean())


def difference_of_confidences(*, source: np.ndarray, accuracy: float, target: np.ndarray) -> float:
    """DoC: accuracy on the source minus the drop of the mean confidence, acc_s - (mean source - mean target).

    References
    ----------
    Guillory et al.: Predicting with Confidence on Unseen Distributions, ICCV 2021.
    """
    return float(accuracy - (np.mean(source) - np.mean(target)))


def agreement(labels: np.ndarray) -> np.ndarray:
    """[M, M], share of the images on which two models predict the same class; nan rows for absent models.

    Parameters
    ----------
    labels : float [M, K], predicted classes; nan rows for models without predictions.
    """
    found = np.full((len(labels), len(labels)), np.nan)
    for index, own in enumerate(labels):
        found[index] = (labels == own).mean(axis=1)
    absent = np.isnan(labels).any(axis=1)
    found[absent], found[:, absent] = np.nan, np.nan
    return found


def agreement_on_the_line(
    *, source: np.ndarray, target: np.ndarray, accuracy: np.ndarray, images: int, probit: bool = True
) -> np.ndarray:
    """ALine-D: accuracies on the target from the line on which the pairs' agreements lie.

    Where the models' accuracies on two datasets lie on a line, so do the agreements of pairs of models, with the same
    slope a and intercept b (both after the probit transform f). With a and b by least squares over all pairs, the
    accuracies x_i = f(acc_t,i) solve in the least squares, for all pairs i, j,

        (x_i + x_j) / 2 = f(agr_t,ij) + a [ (f(acc_s,i) + f(acc_s,j)) / 2 - f(agr_s,ij) ].

    Parameters
    ----------
    source, target : [M, M], agreements on the source and on the target.
    accuracy : [M], on the source; models that are nan in any of the three are left out.
    images : K, by which shares are kept from 0 and 1: they are cut to [1 / 2K, 1 - 1 / 2K].
    probit : whether f is the probit; else the identity.

    Returns
    -------
    [M], x: an estimate of f(accuracy); nan for models left out, and everywhere if fewer than three are in.

    References
    ----------
    Baek et al.: Agreement-on-the-Line, NeurIPS 2022.
    """

    def transform(values: np.ndarray) -> np.ndarray:
        edge = 0.5 / images
        return ndtri(np.clip(values, edge, 1.0 - edge)) if probit else values

    result = np.full(len(accuracy), np.nan)
    present = np.flatnonzero(np.isfinite(accuracy) & np.isfinite(np.diag(source)) & np.isfinite(np.diag(target)))
    count = len(present)
    if count < 3:
        return result
    first, second = np.triu_indices(count, 1)
    rows, columns = present[first], present[second]
    agreed_s, agreed_t = transform(source[rows, columns]), transform(target[rows, columns])
    centred = agreed_s - agreed_s.mean()
    spread = centred @ centred
    slope = (centred @ agreed_t) / spread if spread > 1e-12 else 0.0
    known = transform(accuracy[present])
    pairs = agreed_t + slope * ((known[first] + known[second]) / 2 - agreed_s)
    # normal equations of the pairs' means: ((M - 2) I + 1 1^T) x / 4 = the sum over each model's pairs / 2
    totals = np.bincount(first, pairs, count) + np.bincount(second, pairs, count)
    mean = totals.sum() / (count - 1) / count
    result[present] = (2 * totals - count * mean) / (count - 2)
    return result


Estimate = Callable[..., float]


def _each(measure: Callable[[np.ndarray], np.ndarray], logits: Sequence[np.ndarray | None]) -> list[np.ndarray | None]:
    return [None if values is None else measure(values) for values in logits]


def _by_model(estimate: Estimate, measure: Callable[[np.ndarray], np.ndarray]) -> Callable[[View], np.ndarray]:
    def score(view: View) -> np.ndarray:
        """[M] mean over the sources of each model's own estimate."""
        accuracy = view.source_accuracy
        name, measured = measure.__name__, partial(_each, measure)
        target = view.of_logits(name, measured)
        found = np.full(accuracy.shape, np.nan)
        for column, source in enumerate(view.sources):
            values = view.of_logits(name, measured, source)
            for model in np.flatnonzero(np.isfinite(accuracy[:, column])):
                if target[model] is not None and values[model] is not None:
                    found[model, column] = estimate(
                        source=values[model], accuracy=accuracy[model, column], target=target[model]
                    )
        return known_mean(found)

    return score


def _agreements(logits: Sequence[np.ndarray | None]) -> tuple[np.ndarray, int]:
    """Agreement matrix [M, M], and the number of images."""
    images = next((len(values) for values in logits if values is not None), 0)
    found = np.full((len(logits), images), np.nan)
    for model, values in enumerate(logits):
        if values is not None:
            found[model] = values.argmax(axis=1)
    return agreement(found), images


def _on_the_line(probit: bool) -> Callable[[View], np.ndarray]:
    def score(view: View) -> np.ndarray:
        """[M] mean over the sources of the estimates that their lines give."""
        accuracy = view.source_accuracy
        target, images = view.of_logits("agreement", _agreements)
        found = []
        for column, source in enumerate(view.sources):
            own, count = view.of_logits("agreement", _agreements, source)
            least = max(1, min(images, count))
            found.append(
                agreement_on_the_line(
                    source=own, target=target, accuracy=accuracy[:, column], images=least, probit=probit
                )
            )
        return known_mean(np.stack(found, axis=1))

    return score


SEES = frozenset({TARGET_IMAGES, SOURCE_IMAGES, SOURCE_ACCURACIES})
METHODS = (
    Method("atc", "ATC (confidence)", SEES, _by_model(thresholded_confidence, max_confidence)),
    Method("atc_entropy", "ATC (entropy)", SEES, _by_model(thresholded_confidence, negative_entropy)),
    Method("doc", "difference of confidences", SEES, _by_model(difference_of_confidences, max_confidence)),
    Method("aline", "agreement on the line", SEES, _on_the_line(probit=False)),
    Method("aline_probit", "agreement on the line (probit)", SEES, _on_the_line(probit=True)),
)
