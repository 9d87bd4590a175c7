"""The interface of a ranking method: its inputs (`View`), and the evidence that they are taken from.

A method scores the zoo for one target. It declares its inputs (`Method.looks_at`), and its `View` refuses everything
else, so a method cannot see labels by accident. M models, T datasets, S sources of a target, D draws of the target's
images, C_t classes of dataset t.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vlmrank.errors import VlmrankError
from vlmrank.predictions import align_logits
from vlmrank.ranking import average_ranks

TARGET_IMAGES = "target images"
TARGET_LABELS = "target labels"
SOURCE_ACCURACIES = "source accuracies"
SOURCE_IMAGES = "source images"
CLASS_NAMES = "class names"
MODEL_SIZE = "model size"
TRUTH = "true accuracies"
INPUTS = (TARGET_IMAGES, TARGET_LABELS, SOURCE_IMAGES, SOURCE_ACCURACIES, CLASS_NAMES, MODEL_SIZE, TRUTH)


class Unavailable(VlmrankError):
    """The evidence that a method needs was not gathered in this run."""


@dataclass(frozen=True)
class Evidence:
    """All that a run knows about a zoo; a method sees the part that its `View` allows.

    Attributes
    ----------
    models, datasets : M and T names.
    accuracy : float64 [M, T], true top-1 accuracies in 0..1, nan where unknown.
    images : float64 [M, T], number of test images behind each accuracy, nan where unknown.
    domain : T texts, empty where unknown: a dataset without a domain is its own domain.
    group : T texts, or nothing; datasets of one group are siblings, which share pictures. Empty: no siblings.
    parameters : float64 [M], number of parameters of each model, nan where unknown.
    published : float64 [M], average rank of each model in the published accuracies that the package ships, nan where
        unknown; looked at where no source has an accuracy.
    statistics : name -> float64 [D, M, T], of unlabelled predictions: `mutual_information`, `confidence`, `entropy`,
        and those of `vlmrank.baselines.statistics`.
    divergence : name -> float64 [D, M, T, T], row = source, column = target, lower is nearer.
    logits : "" -> [T][M], the zero-shot logits of each draw: D pairs of float32 [K, C_t] and K image identifiers, or
        None; `[name]` -> those of a variant that draws other images.
    labelled : name -> float64 [D, M, T], scores from K labelled images, higher is better.
    class_accuracy : T arrays float64 [M, C_t], nan where unknown; empty where no table has accuracies per class.
    class_names : T sequences of C_t names.
    class_embedding : T arrays float64 [C_t, E] of one text encoder, or empty: then `class_similarity` is used.
    class_similarity : [T][T] arrays float64 [C_s, C_t], cosine of class names.
    text_features : name -> float64 [M, T], features of the classes' texts in each model's own text tower.
    bridged_features : name -> float64 [M, T, T], the same after the modality gap has been bridged; first dataset axis:
        the target whose images and accuracies were held back, second: the dataset described.
    """

    models: Sequence[str]
    datasets: Sequence[str]
    accuracy: np.ndarray
    images: np.ndarray | None = None
    domain: Sequence[str] = ()
    group: Sequence[str] = ()
    parameters: np.ndarray | None = None
    published: np.ndarray | None = None
    statistics: Mapping[str, np.ndarray] = field(default_factory=dict)
    divergence: Mapping[str, np.ndarray] = field(default_factory=dict)
    labelled: Mapping[str, np.ndarray] = field(default_factory=dict)
    logits: Mapping[str, Sequence[Sequence[Sequence[tuple[np.ndarray, Sequence[str]]] | None]]] = field(
        default_factory=dict
    )
    class_accuracy: Sequence[np.ndarray] = ()
    class_names: Sequence[Sequence[str]] = ()
    class_similarity: Sequence[Sequence[np.ndarray]] = ()
    text_features: Mapping[str, np.ndarray] = field(default_factory=dict)
    bridged_features: Mapping[str, np.ndarray] = field(default_factory=dict)
    _found: dict[object, object] = field(default_factory=dict, init=False, repr=False, compare=False)

    def once(self, key: object, compute: Callable[[], Any]) -> Any:
        """The result of `compute`, computed once per key."""
        if key not in self._found:
            self._found[key] = compute()
        return self._found[key]

    @property
    def draws(self) -> int:
        """Number of draws of the target's images; 1 if no method uses images."""
        arrays = [*self.statistics.values(), *self.divergence.values(), *self.labelled.values()]
        return max((len(array) for array in arrays), default=1)

    def domain_of(self, dataset: int) -> str:
        """Domain of a dataset; its own name if unknown."""
        return (self.domain[dataset] if len(self.domain) else "") or f"only {self.datasets[dataset]}"

    def are_siblings(self, dataset: int, other: int) -> bool:
        """Whether two datasets share pictures, so that neither may be a source of the other."""
        return bool(len(self.group) and self.group[dataset] and self.group[dataset] == self.group[other])


def _draw(array: np.ndarray, draw: int) -> np.ndarray:
    return array[draw if len(array) > 1 else 0]


class View:
    """The part of the evidence that one method may look at, for one target and one draw of its images.

    Raises
    ------
    PermissionError : the method uses something that it did not declare.
    Unavailable : it was declared, but this run has not gathered it.
    """

    def __init__(
        self,
        evidence: Evidence,
        target: int,
        sources: Sequence[int],
        looks_at: frozenset[str],
        *,
        draw: int = 0,
        seed: int = 0,
    ) -> None:
        self._evidence = evidence
        self._looks_at = looks_at
        self._draw = draw
        self.target = int(target)
        self.sources = np.asarray(sources, dtype=int)
        self.seed = seed

    def _check(self, *inputs: str) -> None:
        for name in inputs:
            if name not in self._looks_at:
                raise PermissionError(f"the method looks at {name} but does not say so")

    @property
    def models(self) -> int:
        """Number of models M."""
        return len(self._evidence.models)

    @property
    def random(self) -> np.random.Generator:
        """A generator that depends only on the seed and the target's name, so that further datasets change nothing."""
        name = hashlib.sha256(self._evidence.datasets[self.target].encode()).digest()
        return np.random.default_rng([self.seed, int.from_bytes(name[:8], "big")])

    @property
    def source_accuracy(self) -> np.ndarray:
        """[M, S], nan where unknown.

        Raises
        ------
        Unavailable : there is no source.
        """
        self._check(SOURCE_ACCURACIES)
        if not len(self.sources):
            raise Unavailable("no dataset of the role source has a known accuracy")
        return self._evidence.accuracy[:, self.sources]

    @property
    def standing(self) -> np.ndarray:
        """[M], average rank over the sources; without sources, over published accuracies; if none is known, zeros."""
        self._check(SOURCE_ACCURACIES)
        if len(self.sources):
            return average_ranks(self.source_accuracy)
        published = self._evidence.published
        return np.zeros(self.models) if published is None or not np.isfinite(published).any() else published

    @property
    def true_accuracy(self) -> np.ndarray:
        """[M], for controls only."""
        self._check(TRUTH)
        return self._evidence.accuracy[:, self.target]

    @property
    def test_images(self) -> np.ndarray:
        """[M], number of test images behind the true accuracy, for controls only."""
        self._check(TRUTH)
        if self._evidence.images is None or not np.isfinite(self._evidence.images[:, self.target]).any():
            raise Unavailable("the number of test images is not known")
        return self._evidence.images[:, self.target]

    @property
    def parameters(self) -> np.ndarray:
        """[M], number of parameters."""
        self._check(MODEL_SIZE)
        if self._evidence.parameters is None or not np.isfinite(self._evidence.parameters).any():
            raise Unavailable("the models' sizes are not known")
        return self._evidence.parameters

    def statistic(self, name: str) -> np.ndarray:
        """[M], a statistic of the unlabelled predictions on the target's images."""
        self._check(TARGET_IMAGES)
        if name not in self._evidence.statistics:
            raise Unavailable(f"no {name} of the predictions on the target images")
        return _draw(self._evidence.statistics[name], self._draw)[:, self.target]

    def logits(self, variant: str = "") -> list[np.ndarray | None]:
        """M arrays [K, C_t], zero-shot logits on the target's images that all models have; None = missing."""
        self._check(TARGET_IMAGES)
        return self._logits(self.target, variant)

    def source_logits(self, source: int) -> list[np.ndarray | None]:
        """M arrays [K, C_s], the same on the images of one of `sources`, a dataset's index; None = missing."""
        self._check(SOURCE_IMAGES)
        if source not in self.sources:
            raise PermissionError(f"{self._evidence.datasets[source]} is no source of this target")
        return self._logits(int(source), "")

    def _logits(self, dataset: int, variant: str) -> list[np.ndarray | None]:
        found = self._evidence.logits[variant][dataset] if variant in self._evidence.logits else []
        if not any(draws is not None for draws in found):
            raise Unavailable("no zero-shot logits on the images")
        drawn = [(None, ()) if draws is None else draws[self._draw if len(draws) > 1 else 0] for draws in found]
        return self._evidence.once(
            ("logits", variant, dataset, self._draw),
            lambda: align_logits([values for values, _ in drawn], [ids for _, ids in drawn]),
        )

    def of_logits(self, name: str, measure: Callable[[list[np.ndarray | None]], Any], source: int | None = None) -> Any:
        """`measure` of the logits on the target's or a source's images, computed once for all targets and methods.

        Parameters
        ----------
        name : of the measure; different measures need different names.
        source : the index of one of `sources`; None for the target.
        """
        logits = self.logits() if source is None else self.source_logits(source)
        dataset = self.target if source is None else int(source)
        return self._evidence.once((name, dataset, self._draw), lambda: measure(logits))

    def divergence(self, name: str) -> np.ndarray:
        """[M, S], from each source to the target."""
        self._check(TARGET_IMAGES)
        if name not in self._evidence.divergence:
            raise Unavailable(f"no divergence `{name}` between the datasets")
        return _draw(self._evidence.divergence[name], self._draw)[:, self.sources, self.target]

    def labelled(self, name: str) -> np.ndarray:
        """[M], a score from a few labelled images of the target."""
        self._check(TARGET_IMAGES, TARGET_LABELS)
        if name not in self._evidence.labelled:
            raise Unavailable(f"no {name}: labelled images of the target were not embedded")
        return _draw(self._evidence.labelled[name], self._draw)[:, self.target]

    @property
    def class_counts(self) -> np.ndarray:
        """[S], number of classes of each source; zeros where class names are unknown."""
        names = self._evidence.class_names
        return np.array([len(names[source]) if len(names) else 0 for source in self.sources])

    def class_accuracy(self) -> list[np.ndarray]:
        """S arrays [M, C_s], accuracy of each class of each source."""
        self._check(SOURCE_ACCURACIES)
        if not len(self._evidence.class_accuracy):
            raise Unavailable("no accuracies per class")
        return [self._evidence.class_accuracy[source] for source in self.sources]

    def class_similarity(self) -> list[np.ndarray]:
        """S arrays [C_s, C_t], cosine between the class names of each source and of the target."""
        self._check(CLASS_NAMES)
        if not len(self._evidence.class_similarity):
            raise Unavailable("no embeddings of the class names")
        return [self._evidence.class_similarity[source][self.target] for source in self.sources]

    def text_features(self, names: Sequence[str], *, bridged: bool = False) -> np.ndarray:
        """[M, S + 1, F], features of the texts of the sources and, last, of the target."""
        self._check(CLASS_NAMES)
        features = self._evidence.bridged_features if bridged else self._evidence.text_features
        if any(name not in features for name in names):
            raise Unavailable("no features of the class texts in the models' text towers")
        columns = [*self.sources, self.target]
        arrays = [features[name][:, self.target] if bridged else features[name] for name in names]
        return np.stack([array[:, columns] for array in arrays], axis=-1)


@dataclass(frozen=True)
class Method:
    """One way to rank the zoo.

    Attributes
    ----------
    name : in tables and files.
    title : in reports.
    looks_at : subset of `INPUTS`.
    score : takes a `View`, gives scores [M] or, for the mean of several tries, [R, M]; higher is better, nan is last.
    group : `ours`, `control`, `peer`, `labelled` (peers that see the target's labels) or `counterpart` (ours with one
        part exchanged).
    parts : takes a `View`, gives title -> [M], whose sum is the score; None: the score is one part.
    """

    name: str
    title: str
    looks_at: frozenset[str]
    score: Callable[[View], np.ndarray]
    group: str = "peer"
    parts: Callable[[View], Mapping[str, np.ndarray]] | None = None

    def __post_init__(self) -> None:
        unknown = self.looks_at - set(INPUTS)
        if unknown:
            raise ValueError(f"{self.name} looks at {sorted(unknown)}; known are {INPUTS}")

    @property
    def needs_no_labels(self) -> bool:
        """Whether it sees neither labels nor accuracies of the target."""
        return not self.looks_at & {TARGET_LABELS, TRUTH}

    @property
    def sees_images(self) -> bool:
        """Whether the scores depend on the draw of the target's images."""
        return bool({TARGET_IMAGES, TARGET_LABELS} & self.looks_at)


def known_mean(values: np.ndarray, axis: int = 1) -> np.ndarray:
    """Mean over the values that are not nan; nan if there is none, without a warning."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
