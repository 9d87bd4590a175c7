"""Statistics of unlabelled predictions and embeddings, from the literature on label-free accuracy estimation.

K images, C classes, D dimensions. A statistic is a number for one model and one dataset; higher is better in all of
them. Those that are as large for a constant prediction as for a good one are kept for comparison.
"""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax, logsumexp, softmax

MANO_ORDER = 4  # of the norm: the authors' choice
MANO_THRESHOLD = 5.0  # of the criterion above which softmax normalises: the authors' choice


def _probabilities(logits: np.ndarray) -> np.ndarray:
    return softmax(np.asarray(logits, np.float64), axis=1)


def nuclear_norm_score(logits: np.ndarray) -> float:
    """Nuclear norm of the softmax matrix P [K, C] over its bound: |P|_* / sqrt(K min(K, C)), in (0, 1].

    Large where predictions are sure and spread over the classes.

    References
    ----------
    Deng et al.: Confidence and Dispersity Speak, ICML 2023.
    """
    images, classes = np.shape(logits)
    return float(np.linalg.norm(_probabilities(logits), "nuc") / np.sqrt(images * min(images, classes)))


def mano_score(logits: np.ndarray, *, order: int = MANO_ORDER, threshold: float = MANO_THRESHOLD) -> float:
    """MaNo: entry-wise norm of the normalised logits Q, (sum of Q^p / (K C))^(1/p).

    Q is the softmax where the mean cross-entropy between the uniform distribution and it exceeds the threshold; else it
    is proportional to 1 + q + q^2 / 2 minus its smallest value in the row.

    References
    ----------
    Xie et al.: MaNo, NeurIPS 2024; the normalisation as in its authors' code.
    """
    logits = np.asarray(logits, np.float64)
    criterion = -log_softmax(logits, axis=1).mean()
    if criterion > threshold:
        normalised = _probabilities(logits)
    else:
        taylor = 1.0 + logits + np.square(logits) / 2
        taylor -= taylor.min(axis=1, keepdims=True)
        normalised = taylor / np.maximum(taylor.sum(axis=1, keepdims=True), 1e-12)
    return float(np.mean(normalised**order) ** (1 / order))


def dispersity_score(logits: np.ndarray) -> float:
    """Prediction dispersity: entropy of the mean prediction, H(mean_k p_k), in [0, log C] nats.

    References
    ----------
    Deng et al.: Confidence and Dispersity Speak, ICML 2023 (the part of the nuclear norm that is not confidence).
    """
    mean = _probabilities(logits).mean(axis=0)
    return float(-(mean * np.log(np.maximum(mean, 1e-300))).sum())


def energy_score(logits: np.ndarray) -> float:
    """Mean over the images of the negative free energy, log sum_c exp(logit_c).

    References
    ----------
    Liu et al.: Energy-based Out-of-distribution Detection, NeurIPS 2020.
    """
    return float(logsumexp(np.asarray(logits, np.float64), axis=1).mean())


def meta_distribution_energy_score(logits: np.ndarray) -> float:
    """Minus the meta-distribution energy, mean_k log softmax over the images of their free energies.

    It is largest, -log K, where all images have the same free energy -log sum_c exp(logit_c).

    References
    ----------
    Peng et al.: Energy-based Automated Model Evaluation, ICLR 2024.
    """
    return float(log_softmax(-logsumexp(np.asarray(logits, np.float64), axis=1)).mean())


def dispersion_score(embedding: np.ndarray, labels: np.ndarray) -> float:
    """Log of the spread of the pseudo-classes' mean embeddings, log(sum_c n_c |mean_c - mean|^2 / (C' - 1)).

    C' counts the pseudo-classes that occur; minus infinity where it is one.

    Parameters
    ----------
    embedding : [K, D].
    labels : int [K], the predicted classes.

    References
    ----------
    Xie et al.: On the Importance of Feature Separability in Predicting Out-Of-Distribution Error, NeurIPS 2023.
    """
    embedding = np.asarray(embedding, np.float64)
    means, counts, _ = _clusters(embedding, labels)
    if len(counts) < 2:
        return -np.inf
    spread = (counts * np.square(means - embedding.mean(axis=0)).sum(axis=1)).sum()
    return float(np.log(max(spread, 1e-300) / (len(counts) - 1)))


def _clusters(embedding: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means [C', D], sizes [C'] and classes [C'] of the pseudo-classes that occur."""
    classes, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.zeros((len(classes), embedding.shape[1]))
    np.add.at(means, index, embedding)
    return means / counts[:, None], counts, classes


def vega_score(logits: np.ndarray, embedding: np.ndarray, class_embedding: np.ndarray, *, floor: float = 1e-4) -> float:
    """VEGA: how alike the graph of the class texts and the graph of the image clusters are, nodes plus edges.

    Each image belongs to the cluster of the class that the model predicts. Nodes: the mean over the clusters of their
    images' mean probability of that class (the cosine itself tells nothing about models that differ in its scale).
    Edges: the Pearson correlation, over pairs of clusters, of the texts' cosine and minus the Bhattacharyya distance of
    the clusters, taken as Gaussians of diagonal covariance

        1/8 sum_d (m_i - m_j)^2 / v + 1/2 sum_d log(v / sqrt(v_i v_j)),   v = (v_i + v_j) / 2.

    With few images a cluster has no variance of its own: v_i = (n_i var_i + D var) / (n_i + D), where `var` is that
    pooled over all clusters. Fewer than three clusters have no edges to compare: 0.

    Parameters
    ----------
    logits : [K, C].
    embedding : [K, D], of unit length.
    class_embedding : [C, D], of unit length.
    floor : least variance, relative to the mean pooled one.

    References
    ----------
    Ding et al.: Learning to Rank Pre-trained Vision-Language Models for Downstream Tasks, arXiv 2412.20682. Its code is
    not public; diagonal covariances and their shrinkage are ours.
    """
    images, texts = np.asarray(embedding, np.float64), np.asarray(class_embedding, np.float64)
    labels = np.argmax(logits, axis=1)
    means, counts, classes = _clusters(images, labels)
    own = np.bincount(labels, _probabilities(logits).max(axis=1), minlength=len(texts))[classes] / counts
    return float(own.mean() + _edge_similarity(images, labels, means, counts, texts[classes], floor=floor))


def _edge_similarity(images, labels, means, counts, texts, *, floor: float) -> float:
    if len(counts) < 3:
        return 0.0
    index = np.unique(labels, return_inverse=True)[1]
    squares = np.zeros_like(means)
    np.add.at(squares, index, np.square(images - means[index]))
    pooled = squares.sum(axis=0) / len(images)
    dimensions = images.shape[1]
    variance = (squares + dimensions * pooled) / (counts[:, None] + dimensions)
    variance = np.maximum(variance, floor * max(pooled.mean(), 1e-12))
    first, second = np.triu_indices(len(counts), 1)
    both = (variance[first] + variance[second]) / 2
    distance = (np.square(means[first] - means[second]) / both).sum(axis=1) / 8
    log_variance = np.log(variance)
    distance += (np.log(both) - (log_variance[first] + log_variance[second]) / 2).sum(axis=1) / 2
    cosine = (texts[first] * texts[second]).sum(axis=1)
    if min(np.ptp(cosine), np.ptp(distance)) < 1e-12:
        return 0.0
    return float(np.corrcoef(cosine, -distance)[0, 1])


ON_LOGITS = {
    "nuclear_norm": nuclear_norm_score,
    "mano": mano_score,
    "dispersity": dispersity_score,
    "energy": energy_score,
    "meta_distribution_energy": meta_distribution_energy_score,
}


def unlabelled_statistics(
    logits: np.ndarray, embedding: np.ndarray | None = None, class_embedding: np.ndarray | None = None
) -> dict[str, float]:
    """All statistics of this module that the arrays allow, by name; infinite ones are left out.

    Parameters
    ----------
    logits : [K, C]. embedding : [K, D] or None. class_embedding : [C, D] or None.
    """
    found = {name: function(logits) for name, function in ON_LOGITS.items()}
    if embedding is not None:
        found["dispersion"] = dispersion_score(embedding, np.argmax(logits, axis=1))
        if class_embedding is not None:
            found["vega"] = vega_score(logits, embedding, class_embedding)
    return {name: value for name, value in found.items() if np.isfinite(value)}
