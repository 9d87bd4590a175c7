"""Gather from a model's pair files what the methods of an evaluation look at, for several draws of the images.

One file a model, so that a new model adds its file and changes no other. T datasets, D draws, K images of a pair.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist

from vlmrank.alignment import AlignmentError, align_blocks, block_prior
from vlmrank.baselines import language
from vlmrank.baselines.base import Evidence
from vlmrank.baselines.statistics import unlabelled_statistics
from vlmrank.baselines.transferability import labelled_scores
from vlmrank.divergence import directional_conductance_divergence
from vlmrank.errors import RUN_AGAIN, VlmrankError
from vlmrank.evaluation.class_similarity import ClassRelations
from vlmrank.evaluation.peer_features import PeerFeatures
from vlmrank.predictions import prediction_statistics
from vlmrank.representation import Representation, represent
from vlmrank.store import UTF8, Alignment, Divergences, Pair, create_hdf5, open_hdf5


@dataclass(frozen=True)
class ModelEvidence:
    """What one model's pairs say; arrays of failed pairs are nan.

    Attributes
    ----------
    datasets : T names.
    divergence, statistics, labelled, text_features, bridged_features : as in `vlmrank.baselines.Evidence`, without the
        axis of models. A divergence `dcd[name]` is that of a variant of the settings.
    logits : T arrays float32 [P, C_t] of all predicted images of each dataset; [0, 0] where there are none.
    image_ids : T sequences of P identifiers.
    drawn : "" -> T arrays int [D, P'], the predicted images of each draw; `[name]` -> those of a variant.
    """

    datasets: Sequence[str]
    divergence: Mapping[str, np.ndarray] = field(default_factory=dict)
    statistics: Mapping[str, np.ndarray] = field(default_factory=dict)
    labelled: Mapping[str, np.ndarray] = field(default_factory=dict)
    text_features: Mapping[str, np.ndarray] = field(default_factory=dict)
    bridged_features: Mapping[str, np.ndarray] = field(default_factory=dict)
    logits: Sequence[np.ndarray] = ()
    image_ids: Sequence[Sequence[str]] = ()
    drawn: Mapping[str, Sequence[np.ndarray]] = field(default_factory=dict)


GROUPS = ("divergence", "statistics", "labelled", "text_features", "bridged_features")


def draw_images(available: int, *, images: int | None, draw: int, seed: int) -> np.ndarray:
    """Indices of the images of one draw, sorted: `images` of `available` without replacement, all where it is None.

    The same for every model and dataset with as many images.
    """
    if images is None or images >= available:
        return np.arange(available)
    return np.sort(np.random.default_rng([seed, draw]).choice(available, size=images, replace=False))


def importance_of(
    tasks: Sequence[Representation | None], is_source: Sequence[bool], *, epsilon: float, rho: float | str, depth: float
) -> np.ndarray:
    """Block importance [T, B] of every dataset as target; nan rows for missing ones and those that cannot be aligned.

    The prior is the mean profile of the sources among `tasks` (of all, where none of them is a source).
    """
    present = [task for task, source in zip(tasks, is_source, strict=True) if task is not None and source]
    present = present or [task for task in tasks if task is not None]
    if not present:
        return np.full((len(tasks), 0), np.nan)
    prior = block_prior(np.stack([task.block_profile for task in present]), depth=depth)
    importance = np.full((len(tasks), len(prior)), np.nan)
    for index, task in enumerate(tasks):
        if task is not None:
            with contextlib.suppress(AlignmentError):  # the stage that aligns says so
                importance[index] = align_blocks(task.block_mass, prior, epsilon=epsilon, rho=float(rho)).importance
    return importance


def _aligned(tasks: Sequence[Representation | None], importance: np.ndarray) -> list[Representation | None]:
    """The representations that have an importance."""
    known = np.isfinite(importance).all(axis=1) & (importance.shape[1] > 0)
    return [task if there else None for task, there in zip(tasks, known, strict=True)]


def jensen_shannon_divergence(tasks: Sequence[Representation | None], importance: np.ndarray) -> np.ndarray:
    """Symmetric [T, T]: sum over blocks of both's mean importance times the Jensen-Shannon distance of P_s and P_t."""
    return _symmetric(tasks, importance, lambda values: cdist(values, values, "jensenshannon"), "channel_distribution")


def cosine_divergence(tasks: Sequence[Representation | None], importance: np.ndarray) -> np.ndarray:
    """Symmetric [T, T]: sum over blocks of both's mean importance times 1 - cosine of the mean signed conductances.

    The model's mean over its datasets is subtracted first, as in the directional divergence.
    """
    return _symmetric(tasks, importance, _centred_cosine, "blocks")


def _centred_cosine(values: np.ndarray) -> np.ndarray:
    return _cosine_distance(values - values.mean(axis=0))


def _cosine_distance(values: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(values, axis=1, keepdims=True)
    unit = np.divide(values, length, out=np.zeros_like(values), where=length > 0)
    return 1.0 - unit @ unit.T


def _symmetric(tasks, importance, distance, name: str) -> np.ndarray:
    present = [index for index, task in enumerate(tasks) if task is not None]
    result = np.full((len(tasks), len(tasks)), np.nan)
    if not present:
        return result
    total = np.zeros((len(present), len(present)))
    for block in range(importance.shape[1]):
        parts = [getattr(tasks[index], name)[block] for index in present]
        vectors = np.stack([part.mean(axis=0) if part.ndim == 2 else part for part in parts])
        weight = importance[present, block]
        total += (weight[:, None] + weight[None, :]) / 2 * np.nan_to_num(distance(vectors), nan=1.0)
    np.fill_diagonal(total, 0.0)
    result[np.ix_(present, present)] = total
    return result


def embedding_divergence(embeddings: Sequence[np.ndarray | None]) -> np.ndarray:
    """Symmetric [T, T]: 1 - cosine of the mean image embeddings, minus the mean over the datasets."""
    present = [index for index, values in enumerate(embeddings) if values is not None and len(values)]
    result = np.full((len(embeddings), len(embeddings)), np.nan)
    if present:
        means = np.stack([np.asarray(embeddings[index], np.float64).mean(axis=0) for index in present])
        distance = _centred_cosine(means)
        np.fill_diagonal(distance, 0.0)
        result[np.ix_(present, present)] = distance
    return result


def divergences_of(
    tasks: Sequence[Representation | None], importance: np.ndarray, dcd: np.ndarray | None = None, **divergence: Any
) -> dict[str, np.ndarray]:
    """DCD and its counterparts [T, T] on the same representation; all nan where no dataset is there.

    Parameters
    ----------
    tasks : T representations of one model, None for a failed pair.
    importance : [T, B], as `importance_of` gives it.
    dcd : where it is known already.
    divergence : settings of `vlmrank.divergence.directional_conductance_divergence`.
    """
    dcd = dcd_of(tasks, importance, **divergence) if dcd is None else dcd
    uniform = np.where(np.isnan(importance), np.nan, 1.0 / max(importance.shape[1], 1))
    return {
        "dcd": dcd,
        "symmetric": (dcd + dcd.T) / 2,
        "cosine": cosine_divergence(tasks, importance),
        "jensen_shannon": jensen_shannon_divergence(tasks, importance),
        "uniform_blocks": dcd_of(tasks, uniform, **divergence),
    }


def dcd_of(tasks: Sequence[Representation | None], importance: np.ndarray, **divergence: Any) -> np.ndarray:
    """DCD alone [T, T], nan where there is no pair; arguments as in `divergences_of`."""
    if all(task is None for task in tasks):
        return np.full((len(tasks), len(tasks)), np.nan)
    return directional_conductance_divergence(tasks, importance, **divergence).dcd


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


def gather_evidence(
    pairs: Mapping[str, Pair | None],
    *,
    sources: Sequence[str],
    alignment: Mapping[str, Any],
    divergence: Mapping[str, Any],
    images: int | None = None,
    draws: int = 1,
    seed: int = 0,
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    variant_draws: int = 3,
    known: tuple[Alignment, Divergences] | None = None,
) -> ModelEvidence:
    """Divergences and prediction statistics of one model for each draw of the images.

    Parameters
    ----------
    pairs : dataset -> pair of this model, None or failed where there is none.
    sources : names of the datasets that are sources.
    alignment, divergence : settings, as in `importance_of` and `divergences_of`.
    images : images of a draw, of the attributed and of the predicted ones; None for all.
    draws : number of draws; they are all alike where `images` is None.
    seed : of the draws.
    variants : name -> settings that replace these (`alignment`, `divergence`, `images`), for ablations.
    variant_draws : variants are computed for the first so many draws.
    known : what was computed of all images with the same settings; it is taken, by the names of the datasets.
    """
    is_source = [name in set(sources) for name in pairs]
    found: dict[str, list[np.ndarray]] = {}
    statistics: dict[str, np.ndarray] = {}

    texts = [pair.class_embedding if _usable(pair) else None for pair in pairs.values()]

    def keep(logits: Sequence[np.ndarray | None], images: Sequence[np.ndarray | None], draw: int, suffix: str) -> None:
        for column, (values, embedding, text) in enumerate(zip(logits, images, texts, strict=True)):
            if values is None:
                continue
            for name, value in (prediction_statistics(values) | unlabelled_statistics(values, embedding, text)).items():
                empty = np.full((draws, len(pairs)), np.nan)
                statistics.setdefault(name + suffix, empty)[draw, column] = value

    whole = _by_name(known, list(pairs)) if known is not None and images is None else None
    for draw in range(draws):
        tasks, embeddings, logits = _drawn(pairs, images=images, draw=draw, seed=seed)
        keep(logits, embeddings, draw, "")
        importance, dcd = whole or (importance_of(tasks, is_source, **alignment), None)
        tasks = _aligned(tasks, importance)
        one = divergences_of(tasks, importance, dcd, **divergence)
        one["embedding"] = embedding_divergence(embeddings)
        for name, changed in (variants or {}).items() if draw < variant_draws else ():
            if not set(changed) - {"ranking"}:
                continue
            other, weights = tasks, importance
            if "images" in changed:
                other, embedded, logits = _drawn(pairs, images=changed["images"], draw=draw, seed=seed)
                keep(logits, embedded, draw, f"[{name}]")
            if "images" in changed or "alignment" in changed:
                weights = importance_of(other, is_source, **{**alignment, **changed.get("alignment", {})})
                other = _aligned(other, weights)
            one[f"dcd[{name}]"] = dcd_of(other, weights, **{**divergence, **changed.get("divergence", {})})
        for name, values in one.items():
            found.setdefault(name, []).append(values)
    divergences = {name: np.stack(values) for name, values in found.items()}
    with_logits = [pair if _usable(pair) and pair.logits is not None else None for pair in pairs.values()]
    counts = [0 if pair is None else len(pair.logits) for pair in with_logits]
    sizes = {"": images, **{f"[{n}]": one["images"] for n, one in (variants or {}).items() if "images" in one}}
    return ModelEvidence(
        datasets=tuple(pairs),
        divergence=divergences,
        statistics=statistics,
        logits=tuple(np.empty((0, 0), np.float32) if pair is None else pair.logits for pair in with_logits),
        image_ids=tuple(() if pair is None else tuple(pair.predicted_id) for pair in with_logits),
        drawn={
            name: tuple(
                np.stack([draw_images(count, images=size, draw=draw, seed=seed) for draw in range(draws)])
                for count in counts
            )
            for name, size in sizes.items()
        },
    )


def add_peers(
    evidence: ModelEvidence,
    features: Mapping[str, PeerFeatures],
    relations: ClassRelations,
    *,
    images: int,
    groups: Mapping[str, str] | None = None,
    seed: int = 0,
) -> ModelEvidence:
    """The evidence with what peers look at: scores from labelled images, and features of the class texts.

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
    plain = {name: np.full(size, np.nan) for name in language.TEXT_FEATURES}
    bridged = {name: np.full((size, size), np.nan) for name in language.TEXT_FEATURES}
    gaps = {}
    for index in known:
        one = features[names[index]]
        for name, value in language.text_features(one.captions, one.class_embedding, seed=seed).items():
            plain[name][index] = value
        if len(one.labels) > 1:
            gaps[index] = language.modality_gap(one.embedding, one.labels, one.captions, one.class_embedding)
    for held in range(size):
        for index in known:
            sources = [source for source in gaps if own[source] not in (own[held], own[index])]
            if not sources:
                continue
            one = features[names[index]]
            gap = language.predicted_gaps(
                [similarity[source][index] for source in sources],
                [gaps[source] for source in sources],
                classes=len(one.class_embedding),
            )
            moved = language.bridged_features(one.captions, one.class_embedding, gap, seed=seed)
            for name, value in moved.items():
                bridged[name][held, index] = value
    return plain, bridged


def write_evidence(path: str | os.PathLike[str], evidence: ModelEvidence) -> None:
    """Write a model's evidence as HDF5."""
    with create_hdf5(path, "evidence") as file:
        file.create_dataset("datasets", data=np.array(evidence.datasets, dtype=object), dtype=UTF8)
        for group in GROUPS:
            for name, values in getattr(evidence, group).items():
                file[f"{group}/{name}"] = np.asarray(values, np.float64)
        for index, (values, ids) in enumerate(zip(evidence.logits, evidence.image_ids, strict=True)):
            file[f"logits/{index}"] = np.asarray(values, np.float32)
            file.create_dataset(f"image_ids/{index}", data=np.array(ids, dtype=object), dtype=UTF8)
            for name, drawn in evidence.drawn.items():
                file[f"drawn/{name or 'run'}/{index}"] = np.asarray(drawn[index], np.int64)


def read_evidence(path: str | os.PathLike[str]) -> ModelEvidence:
    """Read a model's evidence."""
    with open_hdf5(path, "evidence") as file:
        groups = {
            group: {name: values[()] for name, values in file[group].items()} if group in file else {}
            for group in GROUPS
        }
        datasets = tuple(file["datasets"].asstr()[()])
        order = [str(index) for index in range(len(datasets))] if "logits" in file else []
        return ModelEvidence(
            datasets=datasets,
            logits=tuple(file["logits"][index][()] for index in order),
            image_ids=tuple(tuple(file["image_ids"][index].asstr()[()]) for index in order),
            drawn={
                name.removeprefix("run"): tuple(part[index][()] for index in order)
                for name, part in file.get("drawn", {}).items()
            },
            **groups,
        )


def _drawn_logits(one: ModelEvidence, name: str, dataset: int) -> list[tuple[np.ndarray, Sequence[str]]] | None:
    """The logits and image identifiers of each draw of a dataset's images; None where there are no logits."""
    if name not in one.drawn or not one.logits[dataset].size:
        return None
    values, ids = one.logits[dataset], np.array(one.image_ids[dataset], dtype=object)
    return [(values[chosen], tuple(ids[chosen])) for chosen in one.drawn[name][dataset]]


def _stack(evidences: Sequence[ModelEvidence], group: str, axis: int = 1) -> dict[str, np.ndarray]:
    """name -> [D, M, ...], or [M, ...] with axis 0; models that lack a name get nan."""
    names = dict.fromkeys(name for one in evidences for name in getattr(one, group))
    result = {}
    for name in names:
        known = next(getattr(one, group)[name] for one in evidences if name in getattr(one, group))
        missing = np.full(known.shape, np.nan)
        result[name] = np.stack([getattr(one, group).get(name, missing) for one in evidences], axis=axis)
    return result


def table_of(accuracy: pd.DataFrame, models: Sequence[str], datasets: Sequence[str], column: str) -> np.ndarray:
    """[M, T] of one column of an accuracy table, nan where there is no row; of several rows the first counts."""
    table = accuracy.drop_duplicates(["model", "dataset"]).pivot(index="model", columns="dataset", values=column)
    return table.reindex(index=list(models), columns=list(datasets)).to_numpy(np.float64)


def class_accuracy_of(
    per_class: pd.DataFrame, models: Sequence[str], datasets: Sequence[str], class_names: Sequence[Sequence[str]]
) -> list[np.ndarray]:
    """T arrays [M, C_t] of accuracies per class, nan where the table has no row.

    Parameters
    ----------
    per_class : columns model, dataset, class, acc1.
    """
    result = []
    for dataset, names in zip(datasets, class_names, strict=True):
        part = per_class[per_class["dataset"] == dataset].drop_duplicates(["model", "class"])
        wide = part.pivot(index="model", columns="class", values="acc1")
        result.append(wide.reindex(index=list(models), columns=list(names)).to_numpy(np.float64))
    return result


def assemble_evidence(
    evidences: Mapping[str, ModelEvidence],
    accuracy: pd.DataFrame,
    *,
    per_class: pd.DataFrame | None = None,
    domains: Mapping[str, str] | None = None,
    groups: Mapping[str, str] | None = None,
    parameters: Mapping[str, float] | None = None,
    relations: ClassRelations | None = None,
) -> Evidence:
    """Put the evidence of all models together with the accuracies.

    Parameters
    ----------
    evidences : model -> its evidence; all with the same datasets.
    accuracy : columns model, dataset, acc1, n.
    per_class : columns model, dataset, class, acc1; None where no table has them.
    domains : dataset -> domain.
    groups : dataset -> group of siblings, that is of datasets with the same pictures.
    parameters : model -> number of parameters.
    relations : of the class names; None where they are not known.

    Raises
    ------
    VlmrankError : the files were gathered over different datasets.
    """
    models = list(evidences)
    gathered = list(evidences.values())
    if not gathered:
        raise VlmrankError("no models to evaluate")
    datasets = list(gathered[0].datasets)
    others = [list(one.datasets) for one in gathered] + ([list(relations.datasets)] if relations else [])
    if any(other != datasets for other in others):
        raise VlmrankError("the models' evidence covers different datasets: run again from the pair files")
    class_names = list(relations.names) if relations else [()] * len(datasets)
    known = relations is not None and per_class is not None and not per_class.empty
    return Evidence(
        models=models,
        datasets=datasets,
        accuracy=table_of(accuracy, models, datasets, "acc1"),
        images=table_of(accuracy, models, datasets, "n"),
        domain=[(domains or {}).get(dataset) or "" for dataset in datasets],
        group=[(groups or {}).get(dataset) or "" for dataset in datasets],
        parameters=np.array([(parameters or {}).get(model) or np.nan for model in models], np.float64),
        divergence=_stack(gathered, "divergence"),
        statistics=_stack(gathered, "statistics"),
        labelled=_stack(gathered, "labelled"),
        logits={
            name: [[_drawn_logits(one, name, dataset) for one in gathered] for dataset in range(len(datasets))]
            for name in dict.fromkeys(name for one in gathered for name in one.drawn)
        },
        class_accuracy=class_accuracy_of(per_class, models, datasets, class_names) if known else [],
        class_names=class_names,
        class_similarity=relations.blocks() if relations else [],
        text_features=_stack(gathered, "text_features", axis=0),
        bridged_features=_stack(gathered, "bridged_features", axis=0),
    )
