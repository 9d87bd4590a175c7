"""What the zero-shot predictions on unlabelled images say about a model: statistics of the logits, in nats."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax


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
