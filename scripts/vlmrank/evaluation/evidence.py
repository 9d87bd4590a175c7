"""The evidence file: what the methods of an evaluation look at of one model, for several draws of the images.

One file per model, so that a new model adds its file and changes no other. T datasets, D draws, K images of a pair.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from vlmrank.baselines.base import Evidence
from vlmrank.errors import VlmrankError
from vlmrank.evaluation.class_similarity import ClassRelations
from vlmrank.store import UTF8, create_hdf5, open_hdf5


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
    """[M, T] of one column of an accuracy table, nan where there is no row; the first of several rows counts."""
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
    published: Mapping[str, float] | None = None,
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
    published : model -> average rank by published accuracies.

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
        published=np.array([(published or {}).get(model, np.nan) for model in models], np.float64),
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
