"""The pair file: the result of one model on one dataset. K images, B blocks, C_b channels of block b."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vlmrank.errors import OK
from vlmrank.store.files import DamagedFile
from vlmrank.store.hdf5 import UTF8, attributes_of, create_hdf5, open_hdf5, set_attribute, texts, unverified_attributes

FORMAT = 2
"""Written into every pair file. Version 1 had none: its secant rule was wrong in passes of a single sample."""
PAIR_ATTRIBUTES = (
    "model",
    "architecture",
    "pretrained",
    "dataset",
    "objective",
    "baseline",
    "quadrature",
    "precision",
    "device",
    "seed",
    "class_names",
    "templates",
    "preprocess",
    "weights_sha256",
    "code",
    "versions",
    "seconds",
    "status",
    "reason",
)


@dataclass(frozen=True)
class Pair:
    """Layer conductance of one model's visual encoder on one dataset's images.

    Attributes
    ----------
    blocks : module path of each residual block -> float32 [K, C_b], signed channel conductance in logits.
    score : float64 [K, 2], F(x) and F(x') in logits.
    delta : float32 [K, B], completeness gap: sum over channels minus (F(x) - F(x')).
    pseudo_label : int64 [K], index of the class whose logit was attributed, -1 where there are no classes.
    image_id : K identifiers of the images.
    alphas : float64 [n+1], nodes of the path from the baseline (0) to the image (1).
    predicted_id : P identifiers of the images with predictions, of which the K above are a part; by default those.
    predicted_sha256 : P hashes of these images' content, empty texts where they are not known.
    logits : float32 [P, classes] or None, zero-shot logits.
    embedding : float32 [P, D] or None, image embeddings of unit length.
    class_embedding : float32 [classes, D] or None, class-text embeddings of unit length.
    error : float32 [K] or None, relative change of the attributions at the last refinement of an adaptive quadrature.
    failed_images : image identifier -> reason, for images that could not be used.
    attributes : the file attributes (`PAIR_ATTRIBUTES`, and `identity`); lists and mappings are stored as JSON.
    """

    blocks: Mapping[str, np.ndarray] = field(default_factory=dict)
    score: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    delta: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    pseudo_label: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    image_id: Sequence[str] = ()
    alphas: np.ndarray = field(default_factory=lambda: np.empty(0))
    predicted_id: Sequence[str] = ()
    predicted_sha256: Sequence[str] = ()
    logits: np.ndarray | None = None
    embedding: np.ndarray | None = None
    class_embedding: np.ndarray | None = None
    error: np.ndarray | None = None
    failed_images: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if not len(self.predicted_id):
            object.__setattr__(self, "predicted_id", tuple(self.image_id))
        if not len(self.predicted_sha256):
            object.__setattr__(self, "predicted_sha256", ("",) * len(self.predicted_id))

    def __repr__(self) -> str:
        name, status = (self.attributes.get(key, "?") for key in ("dataset", "status"))
        size = f"{len(self.image_id)} images, {len(self.blocks)} blocks, {len(self.predicted_id)} predicted"
        return f"Pair({self.attributes.get('model', '?')} on {name}: {size}, {status})"

    @property
    def ok(self) -> bool:
        """Whether the pair could be computed."""
        return self.attributes.get("status") == OK


def distrusted_models(folder: str | os.PathLike[str]) -> list[str]:
    """Models of a folder `<model>/<dataset>.h5` whose first pair file used the secant rule of version 1.

    That rule was wrong for ResNets in passes of a single sample. Files of version 1 have no seal: nothing reads them.
    """
    found = []
    for model in sorted(path for path in Path(folder).glob("*") if path.is_dir()):
        first = min(model.glob("*.h5"), default=None)
        attributes = unverified_attributes(first) if first is not None else {}
        if "secant" in str(attributes.get("quadrature", "")) and int(attributes.get("format", 1)) < 2:
            found.append(model.name)
    return found


def write_pair(path: str | os.PathLike[str], pair: Pair) -> None:
    """Write `/blocks/00, 01, ...` and the rest of the pair file; a failed pair is a file of attributes alone."""
    with create_hdf5(path, "pair") as file:
        blocks = file.create_group("blocks")
        for index, (module, values) in enumerate(pair.blocks.items()):
            dataset = blocks.create_dataset(f"{index:02d}", data=np.asarray(values, np.float32))
            dataset.attrs["module"] = module
        file["score"] = np.asarray(pair.score, np.float64)
        file["delta"] = np.asarray(pair.delta, np.float32)
        file["pseudo_label"] = np.asarray(pair.pseudo_label, np.int64)
        file.create_dataset("image_id", data=texts(pair.image_id), dtype=UTF8)
        file["alphas"] = np.asarray(pair.alphas, np.float64)
        file.create_dataset("predicted_id", data=texts(pair.predicted_id), dtype=UTF8)
        file.create_dataset("predicted_sha256", data=texts(pair.predicted_sha256), dtype=UTF8)
        for name in ("logits", "embedding", "class_embedding", "error"):
            value = getattr(pair, name)
            if value is not None:
                file[name] = np.asarray(value, np.float32)
        file.create_dataset("failed_images", data=texts(list(pair.failed_images)), dtype=UTF8)
        file.create_dataset("failed_reasons", data=texts(list(pair.failed_images.values())), dtype=UTF8)
        for name, value in {**pair.attributes, "format": FORMAT}.items():
            set_attribute(file, name, value)


def read_pair(path: str | os.PathLike[str], *, blocks: bool = True, of: tuple[str, str] | None = None) -> Pair:
    """Read a pair file; on request without its large parts: `blocks`, and with them the logits and embeddings.

    Parameters
    ----------
    of : the expected model and dataset.

    Raises
    ------
    DamagedFile : the file is not what `write_pair` wrote, or belongs to another model or dataset.
    """
    with open_hdf5(path, "pair") as file:
        attributes = attributes_of(file)
        found = (attributes.get("model"), attributes.get("dataset"))
        if of is not None and found != of:
            raise DamagedFile(path, f"holds {found[0]} on {found[1]}, not {of[0]} on {of[1]}")
        read = {
            file["blocks"][name].attrs["module"]: file["blocks"][name][()]
            for name in (sorted(file["blocks"], key=int) if blocks else ())
        }
        optional = {
            name: file[name][()] if name in file and (blocks or name == "error") else None
            for name in ("logits", "embedding", "class_embedding", "error")
        }
        failed = dict(zip(file["failed_images"].asstr()[()], file["failed_reasons"].asstr()[()], strict=True))
        return Pair(
            blocks=read,
            score=file["score"][()],
            delta=file["delta"][()],
            pseudo_label=file["pseudo_label"][()],
            image_id=tuple(file["image_id"].asstr()[()]),
            alphas=file["alphas"][()],
            predicted_id=tuple(file["predicted_id"].asstr()[()]),
            predicted_sha256=tuple(file["predicted_sha256"].asstr()[()]),
            failed_images=failed,
            attributes=attributes,
            **optional,
        )


def read_pair_attributes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read only a pair file's attributes: cheap, for gathers over many pairs."""
    with open_hdf5(path, "pair") as file:
        return attributes_of(file)


def read_logits(path: str | os.PathLike[str]) -> tuple[tuple[str, ...], np.ndarray] | None:
    """Identifiers of the P predicted images and their logits [P, classes]; None of a pair that has none."""
    with open_hdf5(path, "pair") as file:
        if "logits" not in file or not file["logits"].size:
            return None
        return tuple(file["predicted_id"].asstr()[()]), file["logits"][()]
