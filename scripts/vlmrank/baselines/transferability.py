"""Peers that use labels of the target: transferability scores and zero-shot accuracy on K labelled images.

They are shown apart, because they see what the method does not. N images, D dimensions, C classes, Z source labels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import softmax
from sklearn.covariance import LedoitWolf

from vlmrank.baselines.base import CLASS_NAMES, TARGET_IMAGES, TARGET_LABELS, Method, View


def _indices(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Labels as 0..C-1 over the classes that occur, and C."""
    classes, indices = np.unique(np.asarray(labels), return_inverse=True)
    return indices, len(classes)


def logme_score(*, features: np.ndarray, labels: np.ndarray) -> float:
    """Log of the maximum evidence of a Bayesian linear regression of each class indicator on the features.

    The mean over the classes, per image.

    For class c with indicator y the evidence p(y | f, alpha, beta) is maximised over the precision alpha of the weights
    and beta of the noise, by the fixed-point iteration of the journal version: with singular values s_i of `features`,
    x = U^T y and t = alpha / beta,

        gamma = sum s_i^2 / (s_i^2 + t),  alpha = gamma / |m|^2,  beta = (N - gamma) / |f m - y|^2.

    Parameters
    ----------
    features : [N, D].
    labels : int [N].

    References
    ----------
    You et al.: Ranking and Tuning Pre-trained Models, JMLR 2022.
    """
    features = np.asarray(features, np.float64)
    indices, count = _indices(labels)
    images, dimensions = features.shape
    left, singular, _ = np.linalg.svd(features, full_matrices=False)
    kept = np.square(singular) > 1e-10
    left, square = left[:, kept], np.square(singular[kept])
    evidences = []
    for label in range(count):
        target = (indices == label).astype(np.float64)
        projected = np.square(left.T @ target)
        outside = np.square(target).sum() - projected.sum()
        alpha = beta = 1.0
        for _ in range(11):
            ratio = alpha / beta
            gamma = (square / (square + ratio)).sum()
            weights = (square * projected / np.square(ratio + square)).sum()
            residual = (projected / np.square(1 + square / ratio)).sum() + outside
            alpha, beta = gamma / (weights + 1e-5), (images - gamma) / (residual + 1e-5)
            if abs(alpha / beta - ratio) / ratio <= 1e-3:
                break
        evidence = dimensions * np.log(alpha) + images * np.log(beta) - np.log(alpha + beta * square).sum()
        evidence -= beta * residual + alpha * weights + images * np.log(2 * np.pi)
        evidences.append(evidence / 2 / images)
    return float(np.mean(evidences))


def leep_score(*, probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean log of the expected empirical prediction: log of sum over z of p(y | z) p(z | x).

    Parameters
    ----------
    probabilities : [N, Z], p(z | x) of the model's own labels z; rows sum to 1.
    labels : int [N], target labels y.

    References
    ----------
    Nguyen et al.: LEEP, ICML 2020.
    """
    probabilities = np.asarray(probabilities, np.float64)
    indices, count = _indices(labels)
    joint = np.eye(count)[indices].T @ probabilities / len(indices)
    total = joint.sum(axis=0)
    given = np.divide(joint, total, out=np.zeros_like(joint), where=total > 0)
    predicted = (probabilities @ given.T)[np.arange(len(indices)), indices]
    return float(np.log(np.maximum(predicted, 1e-300)).mean())


def nce_score(*, predicted: np.ndarray, labels: np.ndarray) -> float:
    """Negative conditional entropy -H(y | z) of the target labels y given the model's predicted labels z, in nats.

    Parameters
    ----------
    predicted : int [N], z.
    labels : int [N], y.

    References
    ----------
    Tran et al.: Transferability and Hardness of Supervised Classification Tasks, ICCV 2019.
    """
    given, count_given = _indices(predicted)
    indices, count = _indices(labels)
    joint = np.zeros((count_given, count))
    np.add.at(joint, (given, indices), 1.0 / len(indices))
    conditional = joint / joint.sum(axis=1, keepdims=True)
    return float((joint * np.log(np.maximum(conditional, 1e-300))).sum())


def _class_means(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    indices, count = _indices(labels)
    one_hot = np.eye(count)[indices]
    return (one_hot @ (one_hot.T @ features / one_hot.sum(axis=0)[:, None])).astype(np.float64)


def h_score(*, features: np.ndarray, labels: np.ndarray) -> float:
    """tr(cov(f)^-1 cov(E[f | y])), with the pseudo-inverse.

    Parameters
    ----------
    features : [N, D].
    labels : int [N].

    References
    ----------
    Bao et al.: An Information-Theoretic Approach to Transferability in Task Transfer Learning, ICIP 2019.
    """
    features = np.asarray(features, np.float64)
    between = np.cov(_class_means(features, labels), rowvar=False)
    return float(np.trace(np.linalg.pinv(np.cov(features, rowvar=False), rcond=1e-15) @ between))


def regularised_h_score(*, features: np.ndarray, labels: np.ndarray) -> float:
    """(1 - alpha) tr(cov_alpha(f)^-1 cov(E[f | y])), with Ledoit-Wolf shrinkage alpha.

    Parameters
    ----------
    features : [N, D].
    labels : int [N].

    References
    ----------
    Ibrahim et al.: Newer is not always better, ECML PKDD 2022.
    """
    features = np.asarray(features, np.float64)
    features = features - features.mean(axis=0)
    shrunk = LedoitWolf().fit(features)
    between = np.cov(_class_means(features, labels), rowvar=False)
    inverse = np.linalg.pinv(shrunk.covariance_, rcond=1e-15)
    return float((1 - shrunk.shrinkage_) * np.trace(inverse @ between))


def _coding_rate(features: np.ndarray, epsilon: float) -> float:
    images, _ = features.shape
    gram = features @ features.T if images < features.shape[1] else features.T @ features
    return 0.5 * float(np.linalg.slogdet(np.eye(len(gram)) + gram / (images * epsilon))[1])


def transrate_score(*, features: np.ndarray, labels: np.ndarray, epsilon: float = 1e-4) -> float:
    """Coding rate of the centred features minus the mean coding rate of the classes.

    R(f) = 1/2 log det(I + f^T f / (N epsilon)); `epsilon` is the square of the paper's distortion.

    Parameters
    ----------
    features : [N, D].
    labels : int [N].
    epsilon : > 0.

    References
    ----------
    Huang et al.: Frustratingly Easy Transferability Estimation, ICML 2022.
    """
    features = np.asarray(features, np.float64)
    features = features - features.mean(axis=0)
    indices, count = _indices(labels)
    classes = [_coding_rate(features[indices == label], epsilon) for label in range(count)]
    return _coding_rate(features, epsilon) - float(np.mean(classes))


def few_shot_accuracy(*, logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of the N labelled images whose largest zero-shot logit is that of their class."""
    return float((np.argmax(logits, axis=1) == np.asarray(labels)).mean())


def labelled_scores(*, embedding: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """All scores of this module for one model and one draw of labelled images.

    A vision-language model has no head of source classes: its own labels z are its zero-shot predictions of the
    target's classes.

    Parameters
    ----------
    embedding : [N, D], image embeddings.
    logits : [N, C], zero-shot logits.
    labels : int [N], in 0..C-1.
    """
    return {
        "logme": logme_score(features=embedding, labels=labels),
        "leep": leep_score(probabilities=softmax(np.asarray(logits, np.float64), axis=1), labels=labels),
        "nce": nce_score(predicted=np.argmax(logits, axis=1), labels=labels),
        "h_score": h_score(features=embedding, labels=labels),
        "regularised_h_score": regularised_h_score(features=embedding, labels=labels),
        "transrate": transrate_score(features=embedding, labels=labels),
        "few_shot_accuracy": few_shot_accuracy(logits=logits, labels=labels),
    }


TITLES = {
    "logme": "LogME",
    "leep": "LEEP",
    "nce": "NCE",
    "h_score": "H-score",
    "regularised_h_score": "regularised H-score",
    "transrate": "TransRate",
    "few_shot_accuracy": "few-shot accuracy",
}
NAMING_CLASSES = {"leep", "nce", "few_shot_accuracy"}


def _score(name: str) -> Callable[[View], np.ndarray]:
    def score(view: View) -> np.ndarray:
        """[M] the score of this name from a few labelled images of the target."""
        return view.labelled(name)

    return score


METHODS = tuple(
    Method(
        name,
        title,
        frozenset({TARGET_IMAGES, TARGET_LABELS, *((CLASS_NAMES,) if name in NAMING_CLASSES else ())}),
        _score(name),
        "labelled",
    )
    for name, title in TITLES.items()
)
