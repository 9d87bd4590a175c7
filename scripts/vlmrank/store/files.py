"""Read and write tables and JSON files; every file is written beside its destination and renamed.

A reader on another node sees the old file, the new file or none, never a partial one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from vlmrank.errors import VlmrankError

CHECKSUM = "checksum"
FICLONE = 0x40049409  # of Linux: share the blocks of another file
TEXT_COLUMNS = (
    "image",
    "path",
    "label",
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


# Errors of the file system that may pass, by themselves or once somebody has made room.
FULL = (errno.ENOSPC, errno.EDQUOT)
PASSING = (
    *FULL,
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
    errno.EREMOTEIO,
    errno.EMFILE,
)


class DamagedFile(VlmrankError, ValueError):
    """A file is not what was written: truncated or corrupted."""

    def __init__(self, path: str | os.PathLike[str], what: str):
        super().__init__(f"{path}: {what}; delete it and run again")
        self.path, self.what = Path(path), what


def passing_errno(error: BaseException) -> int | None:
    """The errno of a passing file system error, None for any other error.

    Examples
    --------
    >>> passing_errno(OSError(errno.EIO, "read")), passing_errno(RuntimeError("errno = 5, error message = ..."))
    (5, 5)
    >>> passing_errno(OSError("file signature not found")) is None
    True
    """
    text = str(error)  # HDF5 raises errors of several classes with the system's words in them
    for number in PASSING:
        if getattr(error, "errno", None) == number or f"errno = {number}," in text or os.strerror(number) in text:
            return number
    return None


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path beside `path` to write to, and rename it to `path` if the block ends without an error.

    The temporary name is unique, so two processes may write the same file at once: the last one wins.

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
    except (OSError, RuntimeError) as error:
        full = passing_errno(error)
        if full not in FULL:
            raise
        raise VlmrankError(f"{path}: {os.strerror(full)}; make room and run again, finished results stay") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def copy_file(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copy a file, as a reflink where the file system can."""
    with Path(source).open("rb") as read, Path(target).open("wb") as written:
        with contextlib.suppress(OSError):
            fcntl.ioctl(written.fileno(), FICLONE, read.fileno())
            return
        shutil.copyfileobj(read, written, 1 << 20)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write `content` as indented JSON; a mapping gets a checksum, which `read_json` verifies and removes."""
    if isinstance(content, Mapping):
        content = {**content, CHECKSUM: _checksum(json.loads(json.dumps(content)))}
    with atomic(path) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises
    ------
    DamagedFile : not JSON, or its checksum differs.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedFile(path, f"not a complete JSON file ({error})") from error
    if isinstance(content, dict) and CHECKSUM in content and content.pop(CHECKSUM) != _checksum(content):
        raise DamagedFile(path, "damaged (it is not what was written)")
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    text = json.dumps({name: value for name, value in content.items() if name != CHECKSUM}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


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
