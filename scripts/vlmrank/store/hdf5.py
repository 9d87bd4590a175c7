"""The one place where HDF5 files are opened, for writing and for reading.

Never with locks, which network file systems often lack: a file has one writer, appears whole and does not change.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np

from vlmrank.errors import VlmrankError
from vlmrank.store.files import atomic

UTF8 = h5py.string_dtype("utf-8")


@contextlib.contextmanager
def create_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Yield a new file beside `path`, which gets that name if the block ends without an error."""
    with atomic(path) as partial, h5py.File(partial, "w", locking=False) as file:
        yield file


@contextlib.contextmanager
def open_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Yield a file to read from.

    Raises
    ------
    VlmrankError : it is no HDF5 file, or not one of the layout that is read inside the block.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (OSError, KeyError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise VlmrankError(f"{path}: not a readable result file ({error}); delete it and run again") from error


def texts(values: Sequence[str]) -> np.ndarray:
    """Texts as an array that `UTF8` can hold."""
    return np.array([str(value) for value in values], dtype=object)


def set_attribute(file: h5py.File, name: str, value: Any) -> None:
    """Store an attribute; lists and mappings as JSON, None as an empty text."""
    if value is None:
        value = ""
    if isinstance(value, (list, tuple, dict)):
        value = json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and len(value.encode()) > 60_000:
        # HDF5 keeps at most 64 KiB in an attribute: longer texts go to a dataset of the same name.
        file.create_dataset(f"attributes/{name}", data=value, dtype=UTF8)
        return
    file.attrs[name] = value


def attributes_of(file: h5py.File) -> dict[str, Any]:
    """Read all attributes, long ones and JSON included."""
    attributes = {name: value.item() if isinstance(value, np.generic) else value for name, value in file.attrs.items()}
    for name, value in file.get("attributes", {}).items():
        attributes[name] = value.asstr()[()]
    for name in ("class_names", "templates", "preprocess", "versions"):
        if isinstance(attributes.get(name), str) and attributes[name][:1] in ("[", "{"):
            attributes[name] = json.loads(attributes[name])
    return attributes
