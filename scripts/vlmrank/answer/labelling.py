"""Choose images to label when several models could be best, and update the choice with the labels.

An implementation of consensus-driven active model selection (CODA, Kay et al., arXiv 2507.23771). Each model has a
confusion matrix with Dirichlet distributed rows. The committee's pseudo-labels are the prior, and labels add to its
counts. The accuracy of a model is the sum over classes of the class's share times the chance to recognise it. The image
to label next is the one whose label is expected to reduce the entropy of "which model is best" most. M models, K
images, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, softmax

GRID = 96  # points of the integral for the chance to be best
CLASSES_TRIED = 5  # most likely classes of an image, over which its expected entropy is summed


@dataclass(frozen=True)
class LabellingPrior:
    """How much the committee's pseudo-labels count.

    Attributes
    ----------
    diagonal : pseudo-count of "recognises the class", spread over the diagonal.
    off : pseudo-count of each row's errors, spread over the other classes.
    consensus : images that the pseudo-labels of all images together count for.
    """

    diagonal: float = 2.0
    off: float = 1.0
    consensus: float = 12.0


@dataclass(frozen=True)
class Posterior:
    """The posterior of each model's accuracy.

    Attributes
    ----------
    mean, deviation : float64 [M], of the accuracy.
    p_best : float64 [M], chance to be the most accurate; sums to 1.
    """

    mean: np.ndarray
    deviation: np.ndarray
    p_best: np.ndarray


def chance_of_best(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Chance of each of M independent normal variables to be the largest, [..., M]; sums to 1.

    integral of pdf_m(x) prod_{j != m} cdf_j(x) dx by the trapezoid rule on `GRID` points.

    Examples
    --------
    >>> chance_of_best(np.array([0.0, 0.0]), np.array([1.0, 1.0])).round(6)
    array([0.5, 0.5])
    """
    deviation = np.sqrt(np.maximum(variance, 1e-12))
    low = (mean - 4 * deviation).max(axis=-1, keepdims=True)
    high = (mean + 4 * deviation).max(axis=-1, keepdims=True)
    x = low + (high - low) * np.linspace(0, 1, GRID)
    z = (x[..., None, :] - mean[..., :, None]) / deviation[..., :, None]
    log_cdf = np.log(np.maximum(ndtr(z), 1e-300))
    density = np.exp(-0.5 * z**2 + log_cdf.sum(axis=-2, keepdims=True) - log_cdf) / deviation[..., :, None]
    mass = density.sum(axis=-1)
    return mass / mass.sum(axis=-1, keepdims=True)


def _moments(right: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of Beta(right, wrong)."""
    total = right + wrong
    mean = right / total
    return mean, mean * (1 - mean) / (total + 1)


def entropy(p: np.ndarray) -> np.ndarray:
    """Entropy of probabilities over the last axis, in nats."""
    return -(p * np.log(np.maximum(p, 1e-300))).sum(axis=-1)


class Labelling:
    """The state of labelling one target's images.

    Parameters
    ----------
    logits : [M, K, C], zero-shot logits of the models to choose among, on the same images.
    expected : [M], the accuracies expected before any label (`expectation.expect`); only their differences count.
    deviation : the standard deviation of their errors, in accuracy.
    weight : [M], the models' weight in the committee, such as a softmax of the score; default equal.
    prior : how much the committee counts.
    """

    def __init__(
        self,
        logits: np.ndarray,
        *,
        expected: np.ndarray | None = None,
        deviation: float = 0.1,
        weight: np.ndarray | None = None,
        prior: LabellingPrior | None = None,
    ):
        prior = prior or LabellingPrior()
        logits = np.asarray(logits, np.float64)
        models, images, classes = logits.shape
        weight = np.full(models, 1.0 / models) if weight is None else np.asarray(weight, np.float64) / np.sum(weight)
        self.guess = np.einsum("m,mkc->kc", weight, softmax(logits, axis=2))
        self.predicted = logits.argmax(axis=2)
        self.share = self.guess.mean(axis=0)
        self.labels: dict[int, int] = {}
        self.skipped: set[int] = set()
        self.expected = None if expected is None else np.asarray(expected, np.float64)
        self.deviation = deviation
        agreed = np.stack(
            [np.bincount(row, weights=self.guess[np.arange(images), row], minlength=classes) for row in self.predicted]
        )
        scale, strength = prior.consensus / images, (prior.diagonal + prior.off) / classes
        even = prior.diagonal / (prior.diagonal + prior.off)
        self.right = strength * even + scale * agreed
        self.wrong = strength * (1 - even) + scale * (self.guess.sum(axis=0) - agreed)

    def add(self, image: int, label: int | None) -> None:
        """Count a label; None is "I don't know": the image is not asked for again."""
        if label is None:
            self.skipped.add(image)
            return
        self.labels[image] = label
        correct = self.predicted[:, image] == label
        self.right[:, label] += correct
        self.wrong[:, label] += ~correct

    def _accuracy(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Mean and variance of each class's chance [M, C], and of each model's accuracy [M]."""
        mean, variance = _moments(self.right, self.wrong)
        return mean, variance, mean @ self.share, variance @ self.share**2

    def _with_expected(self, accuracy: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Combine accuracies [..., M] from labels with those expected before, weighted by precision."""
        if self.expected is None:
            return accuracy, variance
        level = accuracy.mean(axis=-1, keepdims=True) - self.expected.mean()
        told, before = 1 / variance, 1 / self.deviation**2
        return (told * accuracy + before * (self.expected + level)) / (told + before), 1 / (told + before)

    def posterior(self) -> Posterior:
        """The current posterior of each model's accuracy."""
        _, _, accuracy, variance = self._accuracy()
        accuracy, variance = self._with_expected(accuracy, variance)
        return Posterior(accuracy, np.sqrt(variance), chance_of_best(accuracy, variance))

    def expected_gain(self) -> np.ndarray:
        """[K] expected reduction of the entropy of p_best by labelling the image; -inf if it was asked already."""
        mean, variance, accuracy, spread = self._accuracy()
        now = entropy(self.posterior().p_best)
        gain = np.full(len(self.guess), -np.inf)
        open_images = [k for k in range(len(self.guess)) if k not in self.labels and k not in self.skipped]
        if not open_images:
            return gain
        likely = np.argsort(-self.guess[open_images], axis=1, kind="stable")[:, :CLASSES_TRIED]  # [O, L]
        chance = np.take_along_axis(self.guess[open_images], likely, axis=1)
        chance /= chance.sum(axis=1, keepdims=True)
        correct = self.predicted[:, open_images, None] == likely  # [M, O, L]
        new_mean, new_variance = _moments(self.right[:, likely] + correct, self.wrong[:, likely] + ~correct)
        share = self.share[likely]
        means = accuracy[:, None, None] + share * (new_mean - mean[:, likely])
        spreads = spread[:, None, None] + share**2 * (new_variance - variance[:, likely])
        believed = self._with_expected(np.moveaxis(means, 0, -1), np.moveaxis(spreads, 0, -1))
        gain[open_images] = now - (chance * entropy(chance_of_best(*believed))).sum(axis=1)
        return gain

    def ask(self) -> int | None:
        """The image to label next, None when all were asked."""
        gain = self.expected_gain()
        best = int(np.argmax(gain))
        return best if np.isfinite(gain[best]) else None
