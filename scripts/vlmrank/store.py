"""Read and write every file that passes between two stages.

Each writer writes beside its destination and renames, so that a reader on another node sees the old file, the new file
or none, never a half. Each reader opens HDF5 without locks, which network file systems often lack. Shapes below use K
images, B blocks, C_b channels of block b, T datasets and n path steps.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from vlmrank.errors import VlmrankError

OK, FAILED = "ok", "failed"
UTF8 = h5py.string_dtype("utf-8")
TEXT_COLUMNS = (
    "model",
    "dataset",
    "target",
    "source",
    "stage",
    "method",
    "metric",
    "variant",
    "title",
    "group",
    "looks_at",
    "reference",
    "status",
    "reason",
    "origin",
    "class",
    "domain",
    "family",
)
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
    logits : float32 [K, classes] or None, zero-shot logits.
    embedding : float32 [K, D] or None, image embeddings of unit length.
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
    logits: np.ndarray | None = None
    embedding: np.ndarray | None = None
    class_embedding: np.ndarray | None = None
    error: np.ndarray | None = None
    failed_images: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the pair could be computed."""
        return self.attributes.get("status") == OK


@dataclass(frozen=True)
class Alignment:
    """Block importance of every dataset as target, for one model; rows of failed pairs are nan.

    Attributes
    ----------
    datasets : T names.
    importance : float64 [T, B], each row sums to 1.
    prior : float64 [B], sums to 1.
    marginal_error : float64 [T], largest absolute gap between the plan's row sums and the images' mass 1/K.
    iterations : int64 [T], of the transport solver; 0 for a closed form.
    """

    datasets: Sequence[str]
    importance: np.ndarray
    prior: np.ndarray
    marginal_error: np.ndarray
    iterations: np.ndarray


@dataclass(frozen=True)
class Divergences:
    """Directional conductance divergences between all datasets, for one model; failed pairs give nan.

    Attributes
    ----------
    datasets : T names.
    dcd : float64 [T, T], row = source, column = target, zero diagonal.
    per_image : float64 [T, T, K], the share of each target image (nan beyond a dataset's images); its mean over the
        images is `dcd`.
    """

    datasets: Sequence[str]
    dcd: np.ndarray
    per_image: np.ndarray


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path beside `path` to write to, and rename it to `path` if the block ends without an error.

    The temporary name is unique, so that two processes that write the same file do not meet: the last one wins whole.

    Raises
    ------
    VlmrankError : the disk or the quota is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{secrets.token_hex(8)}{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # HDF5 raises either, with the system's words in it
        full = next((code for code in (errno.ENOSPC, errno.EDQUOT) if os.strerror(code) in str(error)), None)
        if full is None:
            raise
        raise VlmrankError(f"{path}: {os.strerror(full)}; make room and run again, what is finished stays") from error
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write `content` as indented JSON."""
    with atomic(path) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_csv(path: str | os.PathLike[str], table: pd.DataFrame) -> None:
    """Write a table as CSV without its index; floats keep 17 significant digits, so that they read back the same."""
    with atomic(path) as partial:
        table.to_csv(partial, index=False, float_format="%.17g")


def read_csv(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table; the columns of `TEXT_COLUMNS` stay text: a dataset may be called `1e5`."""
    header = pd.read_csv(path, nrows=0).columns
    text = [name for name in header if name in TEXT_COLUMNS]
    numbers = {name: ["", "nan"] for name in header if name not in TEXT_COLUMNS}
    return pd.read_csv(path, dtype=dict.fromkeys(text, object), keep_default_na=False, na_values=numbers)


@contextlib.contextmanager
def _create(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    with atomic(path) as partial, h5py.File(partial, "w") as file:
        yield file


@contextlib.contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (OSError, KeyError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise VlmrankError(f"{path}: not a readable result file ({error}); delete it and run again") from error


def _texts(values: Sequence[str]) -> np.ndarray:
    return np.array([str(value) for value in values], dtype=object)


def _set_attribute(file: h5py.File, name: str, value: Any) -> None:
    if value is None:
        value = ""
    if isinstance(value, (list, tuple, dict)):
        value = json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and len(value.encode()) > 60_000:
        # HDF5 keeps at most 64 KiB in an attribute: longer texts go to a dataset of the same name.
        file.create_dataset(f"attributes/{name}", data=value, dtype=UTF8)
        return
    file.attrs[name] = value


def _attributes(file: h5py.File) -> dict[str, Any]:
    attributes = {name: value.item() if isinstance(value, np.generic) else value for name, value in file.attrs.items()}
    for name, value in file.get("attributes", {}).items():
        attributes[name] = value.asstr()[()]
    for name in ("class_names", "templates", "preprocess", "versions"):
        if isinstance(attributes.get(name), str) and attributes[name][:1] in ("[", "{"):
            attributes[name] = json.loads(attributes[name])
    return attributes


def write_pair(path: str | os.PathLike[str], pair: Pair) -> None:
    """Write `/blocks/00, 01, ...` and the rest of the pair file; a failed pair is a file of attributes alone."""
    with _create(path) as file:
        blocks = file.create_group("blocks")
        for index, (module, values) in enumerate(pair.blocks.items()):
            dataset = blocks.create_dataset(f"{index:02d}", data=np.asarray(values, np.float32))
            dataset.attrs["module"] = module
        file["score"] = np.asarray(pair.score, np.float64)
        file["delta"] = np.asarray(pair.delta, np.float32)
        file["pseudo_label"] = np.asarray(pair.pseudo_label, np.int64)
        file.create_dataset("image_id", data=_texts(pair.image_id), dtype=UTF8)
        file["alphas"] = np.asarray(pair.alphas, np.float64)
        for name in ("logits", "embedding", "class_embedding", "error"):
            value = getattr(pair, name)
            if value is not None:
                file[name] = np.asarray(value, np.float32)
        file.create_dataset("failed_images", data=_texts(list(pair.failed_images)), dtype=UTF8)
        file.create_dataset("failed_reasons", data=_texts(list(pair.failed_images.values())), dtype=UTF8)
        for name, value in pair.attributes.items():
            _set_attribute(file, name, value)


def read_pair(path: str | os.PathLike[str], *, blocks: bool = True) -> Pair:
    """Read a pair file; on request without its large parts: `blocks`, and with them the logits and embeddings.

    Raises
    ------
    VlmrankError : the file is not a complete HDF5 file of this layout.
    """
    with _open(path) as file:
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
            failed_images=failed,
            attributes=_attributes(file),
            **optional,
        )


def read_pair_attributes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read only a pair file's attributes: cheap, for gathers over many pairs."""
    with _open(path) as file:
        return _attributes(file)


def write_alignment(path: str | os.PathLike[str], alignment: Alignment) -> None:
    """Write a model's block importances."""
    with _create(path) as file:
        file.create_dataset("datasets", data=_texts(alignment.datasets), dtype=UTF8)
        file["importance"] = np.asarray(alignment.importance, np.float64)
        file["prior"] = np.asarray(alignment.prior, np.float64)
        file["marginal_error"] = np.asarray(alignment.marginal_error, np.float64)
        file["iterations"] = np.asarray(alignment.iterations, np.int64)


def read_alignment(path: str | os.PathLike[str]) -> Alignment:
    """Read a model's block importances."""
    with _open(path) as file:
        return Alignment(
            datasets=tuple(file["datasets"].asstr()[()]),
            importance=file["importance"][()],
            prior=file["prior"][()],
            marginal_error=file["marginal_error"][()],
            iterations=file["iterations"][()],
        )


def write_dcd(path: str | os.PathLike[str], divergences: Divergences) -> None:
    """Write a model's divergences between all datasets."""
    with _create(path) as file:
        file.create_dataset("datasets", data=_texts(divergences.datasets), dtype=UTF8)
        file["dcd"] = np.asarray(divergences.dcd, np.float64)
        file["dcd"].attrs["axes"] = "row = source, column = target"
        file["per_image"] = np.asarray(divergences.per_image, np.float64)


def read_dcd(path: str | os.PathLike[str]) -> Divergences:
    """Read a model's divergences between all datasets."""
    with _open(path) as file:
        return Divergences(
            datasets=tuple(file["datasets"].asstr()[()]), dcd=file["dcd"][()], per_image=file["per_image"][()]
        )
