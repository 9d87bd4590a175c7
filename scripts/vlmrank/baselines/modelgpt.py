"""ModelGPT: accuracy by linear regression on text features, from class names and source accuracies.

M models, S sources, F features, C classes, P captions per class, D dimensions.

References
----------
Zohar et al.: LOVM, Language-Only Vision Model Selection, NeurIPS 2023.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LinearRegression
from sklearn.metrics import accuracy_score, f1_score

from vlmrank.baselines.base import CLASS_NAMES, SOURCE_ACCURACIES, Method, View, known_mean
from vlmrank.baselines.source_accuracy import reference_accuracy

TEXT_FEATURES = ("text_f1", "text_accuracy", "class_similarity", "own_closeness", "other_closeness")
SIGMA = 0.1  # noise added to the captions' embeddings


def text_features(
    captions: Sequence[np.ndarray], classifier: np.ndarray, *, sigma: float = SIGMA, seed: int = 0
) -> dict[str, float]:
    """ModelGPT's features of a dataset's texts in one model's text tower.

    `text_f1` and `text_accuracy`: captions plus Gaussian noise, classified by the class texts; `class_similarity`: mean
    over classes of the largest product with another class; `own_closeness` and `other_closeness`: products of the
    normalised captions with their own class, and the largest mean product with another class.

    Parameters
    ----------
    captions : C arrays [P, D], embeddings of the captions of each class.
    classifier : [C, D], embeddings of the class texts.
    sigma : standard deviation of the noise.
    seed : of the noise.
    """
    generator = np.random.default_rng(seed)
    classifier = np.asarray(classifier, np.float64)
    captions = [np.asarray(values, np.float64) for values in captions]
    noisy = [values + sigma * generator.standard_normal(values.shape) for values in captions]
    predicted = np.concatenate([np.argmax(values @ classifier.T, axis=1) for values in noisy])
    labels = np.repeat(np.arange(len(captions)), [len(values) for values in captions])
    means = np.stack(
        [
            (values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)).mean(axis=0)
            for values in captions
        ]
    )
    closeness = means @ classifier.T
    others = np.where(np.eye(len(captions), dtype=bool), -np.inf, closeness)
    similarity = classifier @ classifier.T
    np.fill_diagonal(similarity, 0.0)
    return {
        "text_f1": float(f1_score(labels, predicted, average="macro")),
        "text_accuracy": float(accuracy_score(labels, predicted)),
        "class_similarity": float(similarity.max(axis=0).mean()),
        "own_closeness": float(np.diag(closeness).mean()),
        "other_closeness": float(others.max(axis=1).mean()) if len(captions) > 1 else 0.0,
    }


def predict_by_features(features: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Linear regression of the accuracy minus its mean over a dataset's models, fitted on all sources.

    Parameters
    ----------
    features : [M, S + 1, F], the target last.
    accuracy : [M, S], nan where unknown.

    Returns
    -------
    [M], predicted accuracy on the target, relative to the models' mean; nan where a feature of the target is.
    """
    centred = accuracy - known_mean(accuracy, axis=0)[None, :]
    training, answers = features[:, :-1].reshape(-1, features.shape[2]), centred.ravel()
    usable = np.isfinite(training).all(axis=1) & np.isfinite(answers)
    asked = np.isfinite(features[:, -1]).all(axis=1)
    predicted = np.full(len(features), np.nan)
    if usable.any() and asked.any():
        fitted = LinearRegression().fit(training[usable], answers[usable])
        predicted[asked] = fitted.predict(features[asked, -1])
    return predicted


def regression(view: View, *, bridged: bool) -> np.ndarray:
    """[M] accuracy predicted from text features, plain or with the modality gap bridged, and the reference accuracy."""
    features = view.text_features(TEXT_FEATURES, bridged=bridged)
    reference = np.broadcast_to(reference_accuracy(view)[:, None, None], (*features.shape[:2], 1))
    return predict_by_features(np.concatenate([features, reference], axis=2), view.source_accuracy)


def modelgpt(view: View) -> np.ndarray:
    """[M] accuracy predicted from text features and the reference accuracy."""
    return regression(view, bridged=False)


SEES = frozenset({CLASS_NAMES, SOURCE_ACCURACIES})
METHODS = (Method("modelgpt", "ModelGPT", SEES, modelgpt),)
