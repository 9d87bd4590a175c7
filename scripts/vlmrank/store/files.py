"""Tables and JSON files that pass between two stages, each written beside its destination and renamed.

A reader on another node sees the old file, the new file or none, never a half.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from vlmrank.errors import VlmrankError

OK, FAILED = "ok", "failed"
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
