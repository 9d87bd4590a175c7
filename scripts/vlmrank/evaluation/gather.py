"""Gather one model's evidence from its pair files: divergences and predictions for several draws of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vlmrank.baselines import modelgpt, swab
from vlmrank.baselines.statistics import unlabelled_statistics
from vlmrank.baselines.transferability import labelled_scores
from vlmrank.errors import RUN_AGAIN, VlmrankError
from vlmrank.evaluation.class_similarity import ClassRelations
from vlmrank.evaluation.counterparts import aligned, dcd_of, divergences_of, embedding_divergence, importance_of
from vlmrank.evaluation.evidence import ModelEvidence
from vlmrank.evaluation.peer_features import PeerFeatures
from vlmrank.predictions import prediction_statistics
from vlmrank.representation import represent
from vlmrank.store import Alignment, Divergences, Pair


def draw_images(available: int, *, images: int | None, draw: int, seed: int) -> np.ndarray:
    """Indices of the images of one draw, sorted: `images` of `available` without replacement, all where it is None.

    The same for every model and dataset with as many images.
    """
    if images is None or images >= available:
        return np.arange(available)
    return np.sort(np.random.default_rng([seed, draw]).choice(available, size=images, replace=False))


def _by_name(known: tuple[Alignment, Divergences], datasets: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Importance and DCD of these datasets in this order.

    Raises
    ------
    VlmrankError : one is not there.
    """
    alignment, divergences = known
    found = []
    for one in known:
        lacking = [name for name in datasets if name not in one.datasets]
        if lacking:
            raise VlmrankError(f"the alignment or the divergences lack {', '.join(lacking)}: {RUN_AGAIN}")
        found.append([list(one.datasets).index(name) for name in datasets])
    return alignment.importance[found[0]], divergences.dcd[np.ix_(found[1], found[1])]


def _usable(pair: Pair | None) -> bool:
    return pair is not None and pair.ok and len(pair.image_id) > 0


def _drawn(pairs: Mapping[str, Pair | None], *, images: int | None, draw: int, seed: int):
    """Representations of the attributed images of one draw, embeddings and logits of the predicted ones; or None."""
    tasks, embeddings, logits = [], [], []
    for pair in pairs.values():
        if not _usable(pair):
            tasks.append(None)
            embeddings.append(None)
            logits.append(None)
            continue
        chosen = draw_images(len(pair.image_id), images=images, draw=draw, seed=seed)
        tasks.append(represent([values[chosen] for values in pair.blocks.values()]))
        chosen = draw_images(len(pair.predicted_id), images=images, draw=draw, seed=seed)
        embeddings.append(None if pair.embedding is None else pair.embedding[chosen])
        logits.append(None if pair.logits is None or not pair.logits.size else pair.logits[chosen])
    return tasks, embeddings, logits


@dataclass(frozen=True)
class Draws:
    """Which images are looked at, and which ablations are computed.

    Attributes
    ----------
    images : images of a draw, of the attributed and of the predicted ones; None for all.
    draws : number of draws; all equal if `images` is None.
    seed : of the draws.
    variants : name -> settings that replace these (`alignment`, `divergence`, `images`), for ablations.
    variant_draws : number of draws for which variants are computed.
    """

    images: int | None = None
    draws: int = 1
    seed: int = 0
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    variant_draws: int = 3


def gather_evidence(
    pairs: Mapping[str, Pair | None],
    draws: Draws = Draws(),
    *,
    sources: Sequence[str],
    alignment: Mapping[str, Any],
    divergence: Mapping[str, Any],
    known: tuple[Alignment, Divergences] | None = None,
) -> ModelEvidence:
    """Divergences and prediction statistics of one model for each draw of the images.

    Parameters
    ----------
    pairs : dataset -> pair of this model, None or failed where there is none.
    draws : of the images.
    sources : names of the datasets that are sources.
    alignment, divergence : settings, as in `importance_of` and `divergences_of`.
    known : results on all images with the same settings, to be reused by dataset name.
    """
    whole = _by_name(known, list(pairs)) if known is not None and draws.images is None else None
    gathering = _Gathering(pairs, draws, [name in set(sources) for name in pairs], alignment, divergence, whole)
    for draw in range(draws.draws):
        gathering.add(draw)
    with_logits = [pair if _usable(pair) and pair.logits is not None else None for pair in pairs.values()]
    counts = [0 if pair is None else len(pair.logits) for pair in with_logits]
    changed = {f"[{name}]": one["images"] for name, one in draws.variants.items() if "images" in one}
    return ModelEvidence(
        datasets=tuple(pairs),
        divergence={name: np.stack(values) for name, values in gathering.divergences.items()},
        statistics=gathering.statistics,
        logits=tuple(np.empty((0, 0), np.float32) if pair is None else pair.logits for pair in with_logits),
        image_ids=tuple(() if pair is None else tuple(pair.predicted_id) for pair in with_logits),
        drawn={
            name: tuple(
                np.stack([draw_images(count, images=size, draw=draw, seed=draws.seed) for draw in range(draws.draws)])
                for count in counts
            )
            for name, size in {"": draws.images, **changed}.items()
        },
    )


@dataclass
class _Gathering:
    """What has been gathered so far: name -> an array per draw, and name -> [draws, datasets]."""

    pairs: Mapping[str, Pair | None]
    draws: Draws
    is_source: Sequence[bool]
    alignment: Mapping[str, Any]
    divergence: Mapping[str, Any]
    whole: tuple[np.ndarray, np.ndarray] | None = None
    divergences: dict[str, list[np.ndarray]] = field(default_factory=dict)
    statistics: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, draw: int) -> None:
        """Add one draw, and the variants of it."""
        tasks, embeddings, logits = self.drawn(draw, self.draws.images)
        self.keep(logits, embeddings, draw, "")
        importance, dcd = self.whole or (importance_of(tasks, self.is_source, **self.alignment), None)
        tasks = aligned(tasks, importance)
        found = divergences_of(tasks, importance, dcd, **self.divergence)
        done = set() if self.whole is None else {"dcd"}
        found = {name: values if name in done else self.of_one_objective(values) for name, values in found.items()}
        found["embedding"] = embedding_divergence(embeddings)
        for name, changed in self.draws.variants.items() if draw < self.draws.variant_draws else ():
            if not set(changed) - {"ranking"}:
                continue
            other, weights = tasks, importance
            if "images" in changed:
                other, embedded, logits = self.drawn(draw, changed["images"])
                self.keep(logits, embedded, draw, f"[{name}]")
            if "images" in changed or "alignment" in changed:
                weights = importance_of(other, self.is_source, **{**self.alignment, **changed.get("alignment", {})})
                other = aligned(other, weights)
            changed_dcd = dcd_of(other, weights, **{**self.divergence, **changed.get("divergence", {})})
            found[f"dcd[{name}]"] = self.of_one_objective(changed_dcd)
        for name, values in found.items():
            self.divergences.setdefault(name, []).append(values)

    def of_one_objective(self, values: np.ndarray) -> np.ndarray:
        """Divergences [datasets, datasets] with nan for two pairs of different objectives."""
        kinds = [str(pair.attributes.get("objective")) if _usable(pair) else "" for pair in self.pairs.values()]
        kinds = np.array(kinds)
        return np.where(np.equal.outer(kinds, kinds), values, np.nan)

    def drawn(self, draw: int, images: int | None):
        return _drawn(self.pairs, images=images, draw=draw, seed=self.draws.seed)

    def keep(
        self, logits: Sequence[np.ndarray | None], images: Sequence[np.ndarray | None], draw: int, suffix: str
    ) -> None:
        """Keep the statistics of one draw's predictions and embeddings."""
        texts = [pair.class_embedding if _usable(pair) else None for pair in self.pairs.values()]
        for column, (values, embedding, text) in enumerate(zip(logits, images, texts, strict=True)):
            if values is None:
                continue
            for name, value in (prediction_statistics(values) | unlabelled_statistics(values, embedding, text)).items():
                empty = np.full((self.draws.draws, len(self.pairs)), np.nan)
                self.statistics.setdefault(name + suffix, empty)[draw, column] = value


def add_peers(
    evidence: ModelEvidence,
    features: Mapping[str, PeerFeatures],
    relations: ClassRelations,
    *,
    images: int,
    groups: Mapping[str, str] | None = None,
    seed: int = 0,
) -> ModelEvidence:
    """Add what peers use: scores from labelled images, and features of the class texts.

    Parameters
    ----------
    evidence : of one model.
    features : dataset -> the same model's features for peers.
    relations : of the class names.
    images : K, labelled images of a draw.
    groups : dataset -> group of siblings: they don't serve each other when the modality gap is bridged.
    seed : of the draws and of the noise on the captions.
    """
    names = list(evidence.datasets)
    draws = max((len(values) for values in evidence.divergence.values()), default=1)
    labelled: dict[str, np.ndarray] = {}
    for column, name in enumerate(names):
        one = features.get(name, PeerFeatures())
        if not len(one.labels):
            continue
        for draw in range(draws):
            chosen = draw_images(len(one.labels), images=images, draw=draw, seed=seed)
            scores = labelled_scores(
                embedding=one.embedding[chosen], logits=one.logits[chosen], labels=one.labels[chosen]
            )
            for score, value in scores.items():
                labelled.setdefault(score, np.full((draws, len(names)), np.nan))[draw, column] = value
    plain, bridged = _texts(names, features, relations, groups=groups or {}, seed=seed)
    return replace(evidence, labelled=labelled, text_features=plain, bridged_features=bridged)


def _texts(
    names: Sequence[str],
    features: Mapping[str, PeerFeatures],
    relations: ClassRelations,
    *,
    groups: Mapping[str, str],
    seed: int,
):
    """Plain features [T] and bridged features [T, T] of one model's class texts."""
    similarity = relations.blocks()
    size = len(names)
    own = [("group", groups[name]) if groups.get(name) else ("dataset", name) for name in names]
    known = [index for index, name in enumerate(names) if name in features and len(features[name].captions) > 1]
    plain = {name: np.full(size, np.nan) for name in modelgpt.TEXT_FEATURES}
    bridged = {name: np.full((size, size), np.nan) for name in modelgpt.TEXT_FEATURES}
    gaps = {}
    for index in known:
        one = features[names[index]]
        for name, value in modelgpt.text_features(one.captions, one.class_embedding, seed=seed).items():
            plain[name][index] = value
        if len(one.labels) > 1:
            gaps[index] = swab.modality_gap(one.embedding, one.labels, one.captions, one.class_embedding)
    for held in range(size):
        for index in known:
            sources = [source for source in gaps if own[source] not in (own[held], own[index])]
            if not sources:
                continue
            one = features[names[index]]
            gap = swab.predicted_gaps(
                [similarity[source][index] for source in sources],
                [gaps[source] for source in sources],
                classes=len(one.class_embedding),
            )
            moved = swab.bridged_features(one.captions, one.class_embedding, gap, seed=seed)
            for name, value in moved.items():
                bridged[name][held, index] = value
    return plain, bridged
