"""What the zero-shot predictions on unlabelled images say about a model: statistics of the logits, in nats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax

from vlmrank.ranking import percentile_ranks

HELD = 10_000_000  # probabilities of all models that the committee holds at once


def _log_probabilities(logits: np.ndarray) -> np.ndarray:
    logits = np.asarray(logits, np.float64)
    if logits.ndim != 2 or not logits.size:
        raise ValueError(f"logits must be [K, classes], not {logits.shape}")
    return log_softmax(logits, axis=1)


def mean_confidence_score(logits: np.ndarray) -> float:
    """Mean over the K images of the largest softmax probability; in [1/classes, 1]. logits: [K, classes]."""
    return float(np.exp(_log_probabilities(logits).max(axis=1)).mean())


def mean_entropy_error(logits: np.ndarray) -> float:
    """Mean over the K images of the entropy of the softmax probabilities; in [0, log classes] nats, low is sure."""
    log_p = _log_probabilities(logits)
    return float(-(np.exp(log_p) * log_p).sum(axis=1).mean())


def mutual_information_score(logits: np.ndarray) -> float:
    """Mutual information of image and predicted class: H(mean_k p_k) - mean_k H(p_k), in [0, log classes] nats.

    High where each image is predicted surely and the images are spread over the classes; a model that gives every
    image the same prediction scores 0.

    Examples
    --------
    >>> round(mutual_information_score(np.array([[50.0, 0.0], [0.0, 50.0]])), 6)
    0.693147
    """
    log_p = _log_probabilities(logits)
    mean = np.exp(log_p).mean(axis=0)
    marginal = -(mean * np.log(np.maximum(mean, 1e-300))).sum()
    return max(float(marginal + (np.exp(log_p) * log_p).sum(axis=1).mean()), 0.0)


def prediction_statistics(logits: np.ndarray) -> dict[str, float]:
    """`mutual_information`, `confidence` and `entropy` of logits [K, classes]."""
    return {
        "mutual_information": mutual_information_score(logits),
        "confidence": mean_confidence_score(logits),
        "entropy": mean_entropy_error(logits),
    }


def align_logits(logits: Sequence[np.ndarray | None], image_ids: Sequence[Sequence[str]]) -> list[np.ndarray | None]:
    """Logits of all models on the images that every model has, in one order; None for models that have none.

    Parameters
    ----------
    logits : M arrays [K_m, classes] or None. A model whose number of classes is not the commonest counts as None.
    image_ids : M sequences of K_m identifiers.

    Returns
    -------
    M arrays [K, classes] or None; all None where no image is common to all.
    """
    classes = Counter(values.shape[1] for values in logits if values is not None and np.size(values))
    if not classes:
        return [None] * len(logits)
    usual = max(classes, key=classes.get)
    kept = [values is not None and np.size(values) > 0 and values.shape[1] == usual for values in logits]
    lists = [list(ids) for ids, keep in zip(image_ids, kept, strict=True) if keep]
    everywhere = set.intersection(*map(set, lists))
    common = [name for name in lists[0] if name in everywhere]
    if not common:
        return [None] * len(logits)
    places = [
        {name: place for place, name in enumerate(ids)} if keep else {}
        for ids, keep in zip(image_ids, kept, strict=True)
    ]
    return [
        values[[place[name] for name in common]] if keep else None
        for values, place, keep in zip(logits, places, kept, strict=True)
    ]


def committee_agreement(
    logits: Sequence[np.ndarray | None], score: np.ndarray, *, sharpness: float = 10.0
) -> np.ndarray:
    """How far each model's predictions agree with those of the rest of the zoo, image by image.

    Model m's vote counts w_m, proportional to (percentile rank of its standing) ** sharpness, where its standing is the
    percentile rank of `score` plus that of the mutual information of its predictions. Then

        a[m, k] = sum_c p_m[k, c] * (sum_{j != m} w_j p_j[k, c]) / (sum_{j != m} w_j),

    the probability that the model and the committee of all others would draw the same class for image k. It is high
    for models that are sure where the committee is, and of the same mind. No label is seen.

    Parameters
    ----------
    logits : M arrays [K, classes], the models' zero-shot logits on the same images in the same order; None = missing.
    score : [M], what is known of the models beforehand, higher is better; nan = nothing: the model has no vote.
    sharpness : >= 0; 0 lets all models vote alike.

    Returns
    -------
    [M, K], in [0, 1]; rows of models without logits, and everything where no other model votes, are nan.

    Raises
    ------
    ValueError : logits of different shapes.
    """
    score = np.asarray(score, np.float64)
    present = [index for index, values in enumerate(logits) if values is not None]
    if len(score) != len(logits) or len({np.shape(logits[index]) for index in present}) > 1:
        raise ValueError("logits must be of the same images and classes for all models, and score one number a model")
    if not present:
        return np.full((len(logits), 0), np.nan)
    information = np.array([mutual_information_score(logits[index]) for index in present])
    standing = percentile_ranks(np.stack([score[present], information], axis=1)).sum(axis=1, keepdims=True)
    weight = np.nan_to_num(percentile_ranks(standing)[:, 0] ** sharpness)[:, None, None]
    left = weight.sum() - weight
    images, classes = np.shape(logits[present[0]])
    agreement = np.full((len(logits), images), np.nan)
    step = max(1, HELD // (len(present) * max(classes, 1)))
    for start in range(0, images, step):
        part = slice(start, start + step)
        probabilities = np.exp(np.stack([_log_probabilities(logits[index][part]) for index in present]))
        others = (weight * probabilities).sum(axis=0) - weight * probabilities
        voted = np.divide(others, left, out=np.full_like(others, np.nan), where=left > 1e-12)
        agreement[present, part] = (probabilities * voted).sum(axis=2)
    return agreement
