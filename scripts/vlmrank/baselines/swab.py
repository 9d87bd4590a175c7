"""SWAB: ModelGPT with the modality gap bridged, and ranks moved from source classes to target classes.

It looks at class names and source accuracies. M models, S sources, C_s classes of a source, C_t of the target, P
captions per class, D dimensions.

References
----------
Yi et al.: Bridge the Modality and Capability Gaps in Vision-Language Model Selection (SWAB), NeurIPS 2024.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from vlmrank.alignment import ot
from vlmrank.baselines.base import Method, Unavailable, View
from vlmrank.baselines.modelgpt import SEES, modelgpt, regression, text_features
from vlmrank.baselines.source_accuracy import reference_accuracy

SIGMA = 0.15  # noise added to the captions' embeddings
THRESHOLD = 0.5  # cosine above which a source class is related to the target
MASS = 0.9  # share of the classes that is transported for the ranks


def related_classes(similarity: Sequence[np.ndarray], *, threshold: float = THRESHOLD) -> list[np.ndarray]:
    """Indices of the classes of each source whose cosine with some class of the target exceeds the threshold.

    Parameters
    ----------
    similarity : S arrays [C_s, C_t].
    """
    return [np.flatnonzero(part.max(axis=1, initial=-np.inf) > threshold) for part in similarity]


def class_transport(similarity: np.ndarray, *, mass: float = 1.0, scale: float = 1.0) -> np.ndarray:
    """Optimal transport [N, C_t] of source classes to target classes, both uniform, at cost exp(scale (1 - cosine)).

    Parameters
    ----------
    similarity : [N, C_t], cosine of class names.
    mass : share that is moved; below 1 the transport is partial.
    scale : of the cost.
    """
    source = np.full(similarity.shape[0], 1.0 / similarity.shape[0])
    target = np.full(similarity.shape[1], 1.0 / similarity.shape[1])
    cost = np.exp(scale * (1.0 - np.asarray(similarity, np.float64)))
    if mass == 1.0:
        return ot.emd(source, target, cost)
    return ot.partial.partial_wasserstein(source, target, cost, m=mass)


def transported_ranks(
    similarity: Sequence[np.ndarray],
    class_accuracy: Sequence[np.ndarray],
    *,
    threshold: float = THRESHOLD,
    mass: float = MASS,
) -> np.ndarray | None:
    """Rank of each model on the target: its ranks on related source classes, moved along the class transport.

    Ties of a class share the mean of their ranks (the authors' code breaks them in the order of the zoo). A model
    without an accuracy on a class is judged on the others.

    Parameters
    ----------
    similarity : S arrays [C_s, C_t].
    class_accuracy : S arrays [M, C_s], nan where unknown.

    Returns
    -------
    [M], higher is better; None where no class of a source is related to the target.
    """
    usable = [
        (part[chosen], accuracy[:, chosen])
        for part, accuracy, chosen in zip(
            similarity, class_accuracy, related_classes(similarity, threshold=threshold), strict=True
        )
        if len(chosen) and part.shape[1]
    ]
    if not usable:
        return None
    cosine = np.concatenate([part for part, _ in usable])
    accuracy = np.concatenate([part for _, part in usable], axis=1)
    known = np.isfinite(accuracy)
    kept = known.sum(axis=0) > 1
    if not kept.any():
        return None
    cosine, accuracy, known = cosine[kept], accuracy[:, kept], known[:, kept]
    ranks = rankdata(accuracy, axis=0, nan_policy="omit") - 1.0
    ranks *= (len(accuracy) - 1.0) / (known.sum(axis=0) - 1.0)
    share = class_transport(cosine, mass=mass).sum(axis=1)
    weight = known @ share
    total = np.where(known, ranks, 0.0) @ share * share.sum()
    return np.divide(total, weight, out=np.full(len(accuracy), np.nan), where=weight > 0)


def borda_count(*scores: np.ndarray) -> np.ndarray:
    """Mean over the lists of M minus the place of each model (0 = first); ties share the mean of their places.

    Parameters
    ----------
    scores : lists [M], higher is better; nan is last.
    """
    places = [rankdata(-np.where(np.isfinite(one), one, -np.inf), method="average") - 1.0 for one in scores]
    return np.mean([len(one) - one for one in places], axis=0)


def modality_gap(
    embedding: np.ndarray, labels: np.ndarray, captions: Sequence[np.ndarray], classifier: np.ndarray
) -> np.ndarray:
    """Mean over each class's images of the image embedding minus the class text, each standardised in its modality.

    Parameters
    ----------
    embedding : [N, D], images of a source. labels : int [N].
    captions : C arrays [P, D]. classifier : [C, D].

    Returns
    -------
    [C, D]; nan for a class without images.
    """
    texts, images = np.concatenate(captions).astype(np.float64), np.asarray(embedding, np.float64)
    images = (images - images.mean(axis=0)) / np.maximum(images.std(axis=0, ddof=1), 1e-12)
    gaps = np.full(np.shape(classifier), np.nan)
    standard = standardise_texts(classifier, texts)
    for label in np.unique(labels):
        gaps[label] = images[labels == label].mean(axis=0) - standard[label]
    return gaps


def standardise_texts(values: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """`values` minus the mean of `texts` [N, D], over their standard deviation."""
    return (np.asarray(values, np.float64) - texts.mean(axis=0)) / np.maximum(texts.std(axis=0, ddof=1), 1e-12)


def bridged_features(
    captions: Sequence[np.ndarray],
    classifier: np.ndarray,
    gaps: np.ndarray,
    *,
    sigma: float = SIGMA,
    seed: int = 0,
) -> dict[str, float]:
    """`text_features` of standardised texts, each class's captions moved by its predicted gap, `gaps` [C, D]."""
    texts = np.concatenate(captions).astype(np.float64)
    moved = [standardise_texts(values, texts) + gap for values, gap in zip(captions, gaps, strict=True)]
    return text_features(moved, standardise_texts(classifier, texts), sigma=sigma, seed=seed)


def predicted_gaps(similarity: Sequence[np.ndarray], gaps: Sequence[np.ndarray], *, classes: int) -> np.ndarray:
    """Modality gap [C, D] of each class of a dataset: gaps of related source classes, moved along the class transport.

    Parameters
    ----------
    similarity : S arrays [C_s, C]. gaps : S arrays [C_s, D], nan for classes without images, which are left out.
    classes : C.

    Returns
    -------
    zeros where no class of a source is related.
    """
    chosen = [
        np.intersect1d(related, np.flatnonzero(np.isfinite(gap).all(axis=1)))
        for related, gap in zip(related_classes(similarity), gaps, strict=True)
    ]
    if not sum(map(len, chosen)):
        return np.zeros((classes, gaps[0].shape[1]))
    cosine = np.concatenate([part[index] for part, index in zip(similarity, chosen, strict=True)])
    known = np.concatenate([gap[index] for gap, index in zip(gaps, chosen, strict=True)])
    return class_transport(cosine).T @ known * classes


def swab_m(view: View) -> np.ndarray:
    """[M] ModelGPT's regression after the modality gap has been bridged."""
    return regression(view, bridged=True)


def _ranks(view: View) -> np.ndarray | None:
    return transported_ranks(view.class_similarity(), view.class_accuracy())


def swab_transport(view: View) -> np.ndarray:
    """[M] the transported ranks alone."""
    ranks = _ranks(view)
    return np.full(view.models, np.nan) if ranks is None else ranks


def _borda(view: View, regression: np.ndarray) -> np.ndarray:
    ranks = _ranks(view)
    return borda_count(regression) if ranks is None else borda_count(regression, ranks)


def swab_c(view: View) -> np.ndarray:
    """[M] Borda count of ModelGPT and the transported ranks."""
    return _borda(view, modelgpt(view))


def swab(view: View) -> np.ndarray:
    """[M] Borda count of the gap-bridged regression and the transported ranks.

    Where the models' text towers were not asked for captions, the accuracy on the broadest source, the strongest of the
    regression's features, takes the regression's place.
    """
    try:
        return _borda(view, swab_m(view))
    except Unavailable:
        return _borda(view, reference_accuracy(view))


METHODS = (
    Method("swab", "SWAB", SEES, swab),
    Method("swab_c", "SWAB-C", SEES, swab_c),
    Method("swab_m", "SWAB-M", SEES, swab_m),
    Method("swab_transport", "SWAB, transported ranks alone", SEES, swab_transport),
)
