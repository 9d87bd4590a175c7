"""Gather from a model's pair files what the methods of an evaluation look at, for several draws of the images.

One file a model, so that a new model adds its file and changes no other. T datasets, D draws, K images of a pair.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist

from vlmrank.alignment import AlignmentError, align_blocks, block_prior
from vlmrank.baselines.base import Evidence
from vlmrank.divergence import directional_conductance_divergence
from vlmrank.errors import VlmrankError
from vlmrank.predictions import prediction_statistics
from vlmrank.representation import Representation, represent
from vlmrank.store import Pair, atomic

STATISTICS = ("mutual_information", "confidence", "entropy")


@dataclass(frozen=True)
class ModelEvidence:
    """What one model's pairs say; arrays of failed pairs are nan.

    Attributes
    ----------
    datasets : T names.
    divergence, statistics, labelled : as in `vlmrank.baselines.Evidence`, without the axis of models.
    class_embedding : T arrays float32 [C_t, E], class texts in the model's own text tower; [0, 0] where there are none.
    class_names : T sequences of names.
    """

    datasets: Sequence[str]
    divergence: Mapping[str, np.ndarray] = field(default_factory=dict)
    statistics: Mapping[str, np.ndarray] = field(default_factory=dict)
    labelled: Mapping[str, np.ndarray] = field(default_factory=dict)
    class_embedding: Sequence[np.ndarray] = ()
    class_names: Sequence[Sequence[str]] = ()


def draw_images(available: int, *, images: int | None, draw: int, seed: int) -> np.ndarray:
    """Indices of the images of one draw, sorted: `images` of `available` without replacement, all where it is None.

    The same for every model and dataset with as many images.
    """
    if images is None or images >= available:
        return np.arange(available)
    return np.sort(np.random.default_rng([seed, draw]).choice(available, size=images, replace=False))


def importance_of(
    tasks: Sequence[Representation | None], is_source: Sequence[bool], *, epsilon: float, rho: float, depth: float
) -> np.ndarray:
    """Block importance [T, B] of every dataset as target; nan rows for missing datasets.

    The prior is the mean profile of the sources among `tasks` (of all, where none of them is a source).
    """
    present = [task for task, source in zip(tasks, is_source, strict=True) if task is not None and source]
    present = present or [task for task in tasks if task is not None]
    prior = block_prior(np.stack([task.block_profile for task in present]), depth=depth)
    importance = np.full((len(tasks), len(prior)), np.nan)
    for index, task in enumerate(tasks):
        if task is not None:
            importance[index] = align_blocks(task.block_mass, prior, epsilon=epsilon, rho=rho).importance
    return importance


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
    tasks: Sequence[Representation | None],
    is_source: Sequence[bool],
    *,
    alignment: Mapping[str, Any],
    divergence: Mapping[str, Any],
) -> dict[str, np.ndarray]:
    """DCD and its counterparts [T, T] on the same representation; all nan where no dataset is there.

    Parameters
    ----------
    tasks : T representations of one model, None for a failed pair.
    is_source : T flags.
    alignment : epsilon, rho, depth.
    divergence : kind, rank, smoothing.
    """
    if all(task is None for task in tasks):
        nothing = np.full((len(tasks), len(tasks)), np.nan)
        return dict.fromkeys(("dcd", "symmetric", "cosine", "jensen_shannon", "uniform_blocks"), nothing)
    importance = importance_of(tasks, is_source, **alignment)
    uniform = np.where(np.isnan(importance), np.nan, 1.0 / importance.shape[1])
    dcd = directional_conductance_divergence(tasks, importance, **divergence).dcd
    return {
        "dcd": dcd,
        "symmetric": (dcd + dcd.T) / 2,
        "cosine": cosine_divergence(tasks, importance),
        "jensen_shannon": jensen_shannon_divergence(tasks, importance),
        "uniform_blocks": directional_conductance_divergence(tasks, uniform, **divergence).dcd,
    }


def _usable(pair: Pair | None) -> bool:
    return pair is not None and pair.ok and len(pair.image_id) > 0


def gather_evidence(
    pairs: Mapping[str, Pair | None],
    *,
    sources: Sequence[str],
    alignment: Mapping[str, Any],
    divergence: Mapping[str, Any],
    images: int | None = None,
    draws: int = 1,
    seed: int = 0,
) -> ModelEvidence:
    """Divergences and prediction statistics of one model for each draw of the images.

    Parameters
    ----------
    pairs : dataset -> pair of this model, None or failed where there is none.
    sources : names of the datasets that are sources.
    alignment, divergence : settings, as in `divergences_of`.
    images : images of a draw; None for all.
    draws : number of draws; they are all alike where `images` is None.
    seed : of the draws.
    """
    names = list(pairs)
    is_source = [name in set(sources) for name in names]
    divergence_draws: dict[str, list[np.ndarray]] = {}
    statistics = {name: np.full((draws, len(names)), np.nan) for name in STATISTICS}
    for draw in range(draws):
        tasks, embeddings = [], []
        for column, pair in enumerate(pairs.values()):
            if not _usable(pair):
                tasks.append(None)
                embeddings.append(None)
                continue
            chosen = draw_images(len(pair.image_id), images=images, draw=draw, seed=seed)
            tasks.append(represent([values[chosen] for values in pair.blocks.values()]))
            embeddings.append(None if pair.embedding is None else pair.embedding[chosen])
            if pair.logits is not None and pair.logits.size:
                for name, value in prediction_statistics(pair.logits[chosen]).items():
                    statistics[name][draw, column] = value
        try:
            found = divergences_of(tasks, is_source, alignment=alignment, divergence=divergence)
        except AlignmentError as error:
            raise VlmrankError(str(error)) from error
        found["embedding"] = embedding_divergence(embeddings)
        for name, values in found.items():
            divergence_draws.setdefault(name, []).append(values)
    usable = [pair if _usable(pair) else None for pair in pairs.values()]
    return ModelEvidence(
        datasets=tuple(names),
        divergence={name: np.stack(values) for name, values in divergence_draws.items()},
        statistics={name: values for name, values in statistics.items() if np.isfinite(values).any()},
        class_embedding=tuple(
            np.empty((0, 0), np.float32) if pair is None or pair.class_embedding is None else pair.class_embedding
            for pair in usable
        ),
        class_names=tuple(() if pair is None else tuple(pair.attributes.get("class_names") or ()) for pair in usable),
    )


def write_evidence(path: str | os.PathLike[str], evidence: ModelEvidence) -> None:
    """Write a model's evidence as HDF5."""
    text = h5py.string_dtype("utf-8")
    with atomic(path) as partial, h5py.File(partial, "w") as file:
        file.create_dataset("datasets", data=np.array(evidence.datasets, dtype=object), dtype=text)
        for group in ("divergence", "statistics", "labelled"):
            for name, values in getattr(evidence, group).items():
                file[f"{group}/{name}"] = np.asarray(values, np.float64)
        for index, (names, values) in enumerate(zip(evidence.class_names, evidence.class_embedding, strict=True)):
            file[f"classes/{index}/embedding"] = np.asarray(values, np.float32)
            file.create_dataset(f"classes/{index}/name", data=np.array(names, dtype=object), dtype=text)


def read_evidence(path: str | os.PathLike[str]) -> ModelEvidence:
    """Read a model's evidence."""
    with h5py.File(path, "r", locking=False) as file:
        datasets = tuple(file["datasets"].asstr()[()])
        groups = {
            group: {name: values[()] for name, values in file[group].items()} if group in file else {}
            for group in ("divergence", "statistics", "labelled")
        }
        classes = [file[f"classes/{index}"] for index in range(len(datasets))] if "classes" in file else []
        return ModelEvidence(
            datasets=datasets,
            class_embedding=tuple(part["embedding"][()] for part in classes),
            class_names=tuple(tuple(part["name"].asstr()[()]) for part in classes),
            **groups,
        )


def class_similarity_of(evidences: Sequence[ModelEvidence]) -> list[list[np.ndarray]]:
    """[T][T] arrays [C_s, C_t], cosine of class texts, averaged over the text towers of all models that have both.

    Empty where no model has class texts for all datasets that have any.
    """
    size = len(evidences[0].datasets) if evidences else 0
    counts = [
        max((len(one.class_embedding[t]) for one in evidences if one.class_embedding), default=0) for t in range(size)
    ]
    totals = [[np.zeros((counts[s], counts[t])) for t in range(size)] for s in range(size)]
    voices = np.zeros((size, size))
    for one in evidences:
        units = [_unit(values) if len(values) else None for values in one.class_embedding]
        for s, source in enumerate(units):
            for t, target in enumerate(units):
                if source is not None and target is not None and len(source) == counts[s] and len(target) == counts[t]:
                    totals[s][t] += source @ target.T
                    voices[s, t] += 1
    if not voices.any():
        return []
    return [[totals[s][t] / max(voices[s, t], 1) for t in range(size)] for s in range(size)]


def _unit(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def _stack(evidences: Sequence[ModelEvidence], group: str) -> dict[str, np.ndarray]:
    """name -> [D, M, ...]; models that lack a name get nan."""
    names = dict.fromkeys(name for one in evidences for name in getattr(one, group))
    result = {}
    for name in names:
        known = next(getattr(one, group)[name] for one in evidences if name in getattr(one, group))
        missing = np.full(known.shape, np.nan)
        result[name] = np.stack([getattr(one, group).get(name, missing) for one in evidences], axis=1)
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


def _longest_names(evidences: Sequence[ModelEvidence], size: int) -> Iterator[tuple[str, ...]]:
    for dataset in range(size):
        yield max((one.class_names[dataset] for one in evidences if one.class_names), key=len, default=())


def assemble_evidence(
    evidences: Mapping[str, ModelEvidence],
    accuracy: pd.DataFrame,
    *,
    per_class: pd.DataFrame | None = None,
    domains: Mapping[str, str] | None = None,
    parameters: Mapping[str, float] | None = None,
    class_similarity: Sequence[Sequence[np.ndarray]] | None = None,
) -> Evidence:
    """Put the evidence of all models together with the accuracies.

    Parameters
    ----------
    evidences : model -> its evidence; all with the same datasets.
    accuracy : columns model, dataset, acc1, n.
    per_class : columns model, dataset, class, acc1; None where no table has them.
    domains : dataset -> domain.
    parameters : model -> number of parameters.
    class_similarity : of a sentence encoder; the zoo's own text towers where it is None.

    Raises
    ------
    VlmrankError : the models were gathered over different datasets.
    """
    models = list(evidences)
    gathered = list(evidences.values())
    if not gathered:
        raise VlmrankError("no models to evaluate")
    datasets = list(gathered[0].datasets)
    if any(list(one.datasets) != datasets for one in gathered):
        raise VlmrankError("the models' evidence covers different datasets: run again from the pair files")
    class_names = list(_longest_names(gathered, len(datasets)))
    classes = (
        [] if per_class is None or per_class.empty else class_accuracy_of(per_class, models, datasets, class_names)
    )
    return Evidence(
        models=models,
        datasets=datasets,
        accuracy=table_of(accuracy, models, datasets, "acc1"),
        images=table_of(accuracy, models, datasets, "n"),
        domain=[(domains or {}).get(dataset) or "" for dataset in datasets],
        parameters=np.array([(parameters or {}).get(model) or np.nan for model in models], np.float64),
        divergence=_stack(gathered, "divergence"),
        statistics=_stack(gathered, "statistics"),
        labelled=_stack(gathered, "labelled"),
        class_accuracy=classes,
        class_names=class_names,
        class_similarity=class_similarity_of(gathered) if class_similarity is None else class_similarity,
    )
