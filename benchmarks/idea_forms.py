"""Forms that `benchmarks/ideas.py` tries and that the library does not have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from idea_zoo import Zoo, unit
from scipy.special import softmax

from vlmrank.predictions import mutual_information_score
from vlmrank.ranking import average_ranks, percentile_ranks

Score = Callable[[int], np.ndarray]


def by_probability(zoo: Zoo, target: int) -> np.ndarray:
    """[M] the committee without balancing, read by probabilities alone."""
    logits, average = zoo.logits(target), average_ranks(zoo.accuracy[:, zoo.sources(target)])
    p = softmax(logits, axis=2)
    known = np.stack([average, [mutual_information_score(one) for one in logits]], axis=1)
    votes = percentile_ranks(percentile_ranks(known).sum(axis=1, keepdims=True))[:, :, None] ** 10
    others = ((votes * p).sum(axis=0) - votes * p) / (votes.sum() - votes)
    return (p * others).sum(axis=2).mean(axis=1)


def interpolated(zoo: Zoo, divergence: np.ndarray, noise: float = 0.5, width: float = 0.3) -> Score:
    """Gaussian process over the datasets: the kernel falls with the zoo's mean divergence."""
    mean = (divergence / divergence.mean(axis=(1, 2), keepdims=True)).mean(axis=0)
    kernel = np.exp(-(mean + mean.T) / 2 / width)

    def score(target: int) -> np.ndarray:
        sources = zoo.sources(target)
        inner = kernel[np.ix_(sources, sources)] + noise * np.eye(len(sources))
        return (zoo.ranks[:, sources] - 0.5) @ np.linalg.solve(inner, kernel[sources, target])

    return score


def low_rank(zoo: Zoo, divergence: np.ndarray, rank: int = 4, ridge: float = 1.0) -> Score:
    """Factors of the models from the ranks on the sources; the target's loadings from those of similar sources."""

    def score(target: int) -> np.ndarray:
        sources = zoo.sources(target)
        left, size, right = np.linalg.svd(zoo.ranks[:, sources] - 0.5, full_matrices=False)
        features = divergence[:, sources][:, :, sources].mean(axis=0)
        own = divergence[:, sources, target].mean(axis=0)
        centre, spread = features.mean(axis=1), max(features.std(), 1e-12)
        a, b = (features - centre[:, None]) / spread, (own - centre) / spread
        gram = a.T @ a
        weights = np.linalg.solve(gram + ridge * len(sources) * np.eye(len(gram)), a.T @ b)
        loadings = right[:rank] @ (weights + 1.0 / len(sources))
        return (left[:, :rank] * size[:rank]) @ loadings

    return score


class Inside:
    """Estimates from labelled source images: a direction between right and wrong, and nearest images.

    One row a labelled image, features of conductance (blocks scaled to length 1) or of the embedding; per model.
    """

    def __init__(self, zoo: Zoo, what: str) -> None:
        self.zoo, self.what = zoo, what
        self.found: dict[str, np.ndarray] = {}
        for index in range(len(zoo.models)):
            for name, values in self._model(index).items():
                self.found.setdefault(name, np.full(zoo.accuracy.shape, np.nan))[index] = values

    def _features(self, model: str, part: str) -> np.ndarray:
        if self.what == "conductance":
            blocks = self.zoo.conductance(model, f"logit-{part}")
            return np.stack([np.concatenate([unit(v.astype(float)) for v in blocks[d]], 1) for d in self.zoo.datasets])
        read = getattr(self.zoo, self.what)
        return np.stack([read(model, d, part)[self.zoo.rows(d, part)] for d in self.zoo.datasets])

    def _model(self, index: int) -> dict[str, np.ndarray]:
        """[T] estimates of one model on every target."""
        zoo, model = self.zoo, self.zoo.models[index]
        labelled, own = self._features(model, "test"), self._features(model, "target")
        size = labelled.shape[2]
        flat = labelled.reshape(-1, size)
        centre, spread = flat.mean(axis=0), flat.std(axis=0) + 1e-9
        flat, own = (flat - centre) / spread / np.sqrt(size), (own - centre) / spread / np.sqrt(size)
        labels = [zoo.images[f"{d}/labels"][zoo.rows(d, "test")] for d in zoo.datasets]
        right = np.concatenate(
            [
                zoo.model_logits(model, d, "test")[zoo.rows(d, "test")].argmax(axis=1) == label
                for d, label in zip(zoo.datasets, labels, strict=True)
            ]
        ).astype(float)
        of_class = np.concatenate([zoo.class_accuracy[i][index][label] for i, label in enumerate(labels)])
        of_class = np.where(np.isfinite(of_class), of_class, np.nanmean(of_class))
        dataset = np.repeat(np.arange(len(zoo.datasets)), labelled.shape[1])
        near, inverse = unit(flat), np.linalg.inv(flat @ flat.T + 0.1 * np.eye(len(flat)))
        found: dict[str, np.ndarray] = {}
        for target in zoo.targets:
            seen = zoo.groups[dataset] != zoo.groups[target]
            for name, value in (
                ("ridge", _ridge(inverse, flat, right, seen, own[target])),
                ("difference of means", _means(flat, right, seen, own[target])),
                ("right, 20 nearest", _nearest(near, right, seen, own[target], 20)),
                ("class accuracy, 20 nearest", _nearest(near, of_class, seen, own[target], 20)),
                ("class accuracy, 100 nearest", _nearest(near, of_class, seen, own[target], 100)),
                ("rank on the source, 100 nearest", _nearest(near, zoo.ranks[index][dataset], seen, own[target], 100)),
            ):
                found.setdefault(name, np.full(len(zoo.datasets), np.nan))[target] = value
        return found

    def score(self, name: str) -> Score:
        """[M] an estimate by name."""
        return lambda target: self.found[name][:, target]


def _ridge(inverse, flat, right, seen, own) -> float:
    """Ridge regression on the seen rows; `inverse` is that of the regularised Gram matrix of all rows."""
    y, hidden = right[seen] - right[seen].mean(), ~seen
    across = inverse[np.ix_(seen, hidden)]  # the inverse of a part follows from the inverse of the whole
    dual = inverse[np.ix_(seen, seen)] @ y - across @ np.linalg.solve(inverse[np.ix_(hidden, hidden)], across.T @ y)
    return float(own.mean(axis=0) @ (flat[seen].T @ dual) + right[seen].mean())


def _means(flat, right, seen, own) -> float:
    known, y = flat[seen], right[seen] > 0.5
    return float(own.mean(axis=0) @ (known[y].mean(axis=0) - known[~y].mean(axis=0)))


def _nearest(near, values, seen, own, count: int) -> float:
    order = np.argpartition(-(unit(own) @ near[seen].T), count, axis=1)[:, :count]
    return float(values[seen][order].mean())
