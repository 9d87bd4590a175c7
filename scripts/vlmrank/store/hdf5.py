"""Open HDF5 files, with checksums and without locks. The only module that does.

No locks, which network file systems often lack: a file has one writer, appears complete and does not change. Each file
stores its kind, and ends with the SHA-256 of all bytes before it, which is verified on reading. HDF5 ignores bytes
beyond its own end.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from vlmrank.errors import VlmrankError
from vlmrank.store.files import DamagedFile, atomic, passing_errno

UTF8 = h5py.string_dtype("utf-8")
KIND = "kind"
SEAL = b"vlmrank:"  # comes before the checksum at the end of a file
END = len(SEAL) + hashlib.sha256().digest_size


@contextlib.contextmanager
def create_hdf5(path: str | os.PathLike[str], kind: str) -> Iterator[h5py.File]:
    """Yield a new file beside `path`; if the block ends without an error, it is sealed and renamed.

    Parameters
    ----------
    kind : what the file holds: `pair`, `alignment`, ...
    """
    with atomic(path) as partial:
        with h5py.File(partial, "w", locking=False) as file:
            yield file
            file.attrs[KIND] = kind
        _seal(partial)


@contextlib.contextmanager
def open_hdf5(path: str | os.PathLike[str], kind: str = "") -> Iterator[h5py.File]:
    """Yield a file to read from, after verifying its checksum.

    Parameters
    ----------
    kind : what the file should hold; empty for anything.

    Raises
    ------
    FileNotFoundError : there is no such file.
    DamagedFile : its checksum differs, or its layout is not the expected one.
    VlmrankError : it cannot be read at the moment.
    """
    try:
        _verify(path)
        with h5py.File(path, "r", locking=False) as file:
            if kind and file.attrs[KIND] != kind:
                raise DamagedFile(path, f"holds {file.attrs[KIND]!r}, not {kind!r}")
            yield file
    except (FileNotFoundError, DamagedFile):
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:  # whatever HDF5 raises
        passing = passing_errno(error)
        if passing is not None:
            raise VlmrankError(f"{path}: cannot be read now ({os.strerror(passing)}); run again") from error
        raise DamagedFile(path, f"not a readable result file ({error})") from error


def unverified_attributes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Attributes of a file of any version, which may have no checksum; empty if it is not HDF5."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return attributes_of(file)
    except (OSError, KeyError, RuntimeError, ValueError, TypeError):
        return {}


def change_attributes(path: Path, values: Mapping[str, Any]) -> None:
    """Change attributes of a file that no other process uses yet, and seal it again."""
    os.truncate(path, path.stat().st_size - END)
    with h5py.File(path, "r+", locking=False) as file:
        file.attrs.update(values)
    _seal(path)


def _sha256(path: str | os.PathLike[str], end: int) -> tuple[bytes, bytes]:
    """SHA-256 of all but the last `end` bytes of a file, and those bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        left = os.fstat(file.fileno()).st_size - end
        while left > 0:
            block = file.read(min(left, 1 << 20))
            digest.update(block)
            left -= len(block) or left
        return digest.digest(), file.read()


def has_end(path: str | os.PathLike[str]) -> bool:
    """Whether a file ends with a seal, so was written completely; the checksum is not verified."""
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - END))
        return file.read(len(SEAL)) == SEAL


def _seal(path: Path) -> None:
    checksum, _ = _sha256(path, 0)
    with path.open("ab") as file:
        file.write(SEAL + checksum)


def _verify(path: str | os.PathLike[str]) -> None:
    checksum, end = _sha256(path, END)
    if end != SEAL + checksum:
        what = "damaged (it is not what was written)" if end.startswith(SEAL) else "not a whole result file"
        raise DamagedFile(path, what)


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
