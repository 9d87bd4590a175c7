"""Statistics of zero-shot predictions on unlabelled images: confidence, entropy, mutual information, agreement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax

from vlmrank.ranking import percentile_ranks

FLOOR = 1e-9  # added to a probability: no class is impossible
MAX_ITERATIONS = 200  # of the transport; it ends where the classes' factors change by less than 1e-6


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


def _kept(logits: Sequence[np.ndarray | None]) -> list[bool]:
    """Which models' logits can be compared: those with the commonest number of classes."""
    classes = Counter(values.shape[1] for values in logits if values is not None and np.size(values))
    usual = max(classes, key=classes.get) if classes else None
    return [values is not None and np.size(values) > 0 and values.shape[1] == usual for values in logits]


def common_images(logits: Sequence[np.ndarray | None], image_ids: Sequence[Sequence[str]]) -> list[str]:
    """The images that every model has, as `align_logits` orders them; arguments as there."""
    lists = [list(ids) for ids, keep in zip(image_ids, _kept(logits), strict=True) if keep]
    everywhere = set.intersection(*map(set, lists)) if lists else set()
    return [name for name in lists[0] if name in everywhere] if lists else []


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
    kept, common = _kept(logits), common_images(logits, image_ids)
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


def balance_classes(probabilities: np.ndarray, strength: float = 3.0) -> np.ndarray:
    """Move predictions towards classes that are equally frequent, by entropic transport of images to classes.

    The plan G = argmin KL(G | p / K) + strength KL(G^T 1 | uniform) with G 1 = 1 / K, times K: a class that takes many
    images gives some to the others, the least certain ones first. A zero-shot classifier leans to some of its classes,
    and models that lean alike agree without being right.

    Parameters
    ----------
    probabilities : [K, C], rows sum to 1.
    strength : >= 0, in nats; 0 leaves the predictions as they are, inf makes the classes equally frequent.

    Returns
    -------
    [K, C], rows sum to 1.

    References
    ----------
    Chizat, Peyré, Schmitzer, Vialard: Scaling algorithms for unbalanced transport problems, 2016.

    Examples
    --------
    >>> balance_classes(np.array([[0.9, 0.1], [0.6, 0.4]]), np.inf).sum(axis=0).round(4)
    array([1., 1.])
    """
    if not strength >= 0:
        raise ValueError(f"the strength of balancing must be at least 0, not {strength}")
    kernel = np.asarray(probabilities, np.float64) + FLOOR
    classes = kernel.shape[1]
    hold = 1.0 if np.isinf(strength) else strength / (1.0 + strength)
    tilt = np.ones(classes)
    for _ in range(MAX_ITERATIONS if hold else 0):
        frequency = (kernel / (kernel @ tilt)[:, None]).mean(axis=0)  # of each class, before its own factor
        moved = (1.0 / (classes * frequency)) ** hold
        settled = np.abs(np.log(moved / tilt)).max() < 1e-6
        tilt = moved
        if settled:
            break
    plan = kernel * tilt
    return plan / plan.sum(axis=1, keepdims=True)


def _votes(logits: Sequence[np.ndarray], score: np.ndarray, sharpness: float) -> np.ndarray:
    """Weight [M] of each model's vote; 0 where nothing is known of it."""
    information = np.array([mutual_information_score(values) for values in logits])
    standing = percentile_ranks(np.stack([score, information], axis=1)).sum(axis=1, keepdims=True)
    rank = percentile_ranks(standing)[:, 0]
    return np.where(np.isfinite(rank), rank**sharpness, 0.0)


def _contrast(logits: np.ndarray) -> np.ndarray:
    """Logits minus the image's mean over the classes, in units of the standard deviation of all logits.

    The deviation is that over images and classes together, so that a model whose logits rise and fall for all classes
    alike from image to image has less contrast.
    """
    spread = logits.std()
    return (logits - logits.mean(axis=1, keepdims=True)) / (spread if spread > 0 else 1.0)


def committee_agreement(
    logits: Sequence[np.ndarray | None], score: np.ndarray, *, sharpness: float = 10.0, balance: float = 3.0
) -> np.ndarray:
    """How far each model's predictions agree with those of the rest of the zoo, image by image.

    Model m's vote counts w_m, proportional to (percentile rank of its standing) ** sharpness, where its standing is the
    percentile rank of `score` plus that of the mutual information of its predictions. The committee of all others gives
    image k the class c with the probability

        q_m[k, c] = (sum_{j != m} w_j b_j[k, c]) / (sum_{j != m} w_j),    b_j = balance_classes(p_j, balance).

    The model is read against it twice: by its probabilities, sum_c p_m[k, c] q_m[k, c], and by its contrast,
    sum_c u_m[k, c] q_m[k, c], where u_m are its logits minus the image's mean over the classes, in units of the
    standard deviation of all its logits. The first says how sure the model is where the committee is; the second does
    not depend on the scale of its logits, and falls where they differ more between images than between classes. Each is
    divided by the standard deviation, over the models that vote, of its mean over the images, and the agreement is
    their sum. No label is seen.

    Parameters
    ----------
    logits : M arrays [K, classes], the models' zero-shot logits on the same images in the same order; None = missing.
    score : [M], what is known of the models beforehand, higher is better; nan = nothing: the model has no vote.
    sharpness : >= 0; 0 lets all models vote alike.
    balance : >= 0, how strongly the classes are held to be equally frequent among the images.

    Returns
    -------
    [M, K]; rows of models without logits, and everything where no other model votes, are nan.

    Raises
    ------
    ValueError : logits of different shapes, or a negative `balance`.
    """
    score = np.asarray(score, np.float64)
    present = [index for index, values in enumerate(logits) if values is not None]
    if len(score) != len(logits) or len({np.shape(logits[index]) for index in present}) > 1:
        raise ValueError("logits must be of the same images and classes for all models, and score one number per model")
    if not present:
        return np.full((len(logits), 0), np.nan)
    given = [np.asarray(logits[index], np.float64) for index in present]
    weight = _votes(given, score[present], sharpness)
    total = np.zeros(given[0].shape)
    for index, values in enumerate(given):  # one at a time: a zoo times ImageNet's classes is too much at once
        total += weight[index] * balance_classes(np.exp(_log_probabilities(values)), balance)
    readings = np.full((2, len(present), len(total)), np.nan)
    for index, values in enumerate(given):
        left = weight.sum() - weight[index]
        if left > 1e-12:
            probabilities = np.exp(_log_probabilities(values))
            others = (total - weight[index] * balance_classes(probabilities, balance)) / left
            readings[:, index] = (probabilities * others).sum(axis=1), (_contrast(values) * others).sum(axis=1)
    spread = readings[:, weight > 0].mean(axis=2).std(axis=1)[:, None, None]
    readings = np.divide(readings, spread, out=np.zeros_like(readings), where=~(spread <= 1e-12))
    agreement = np.full((len(logits), len(total)), np.nan)
    agreement[present] = readings.sum(axis=0)
    return agreement
