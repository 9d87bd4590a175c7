"""Maintenance of a shared store: what it holds, whether it is intact, what is unused."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from vlmrank.errors import VlmrankError
from vlmrank.store.cache import ResultStore, read_entry
from vlmrank.store.files import DamagedFile

DAY = 86400.0
LEFTOVERS = (".partial-*", ".clock-*")  # temporary files of `atomic` and leases, which live for seconds


@dataclass(frozen=True)
class Holding:
    """What a store holds of one model and dataset."""

    model: str
    dataset: str
    kind: str
    entries: int
    bytes: int


@dataclass(frozen=True)
class Unused:
    """Entries that no given results folder uses, by what may be done with them.

    Attributes
    ----------
    own : of this user, and old enough to delete.
    recent : younger than that.
    of_others : of other users, which are never touched.
    """

    own: tuple[Path, ...]
    recent: tuple[Path, ...]
    of_others: tuple[Path, ...]


def check_store(store: ResultStore) -> Iterator[tuple[Path, str]]:
    """Read every entry in full; yield it with its fault, empty if intact. Nothing is deleted."""
    for path in store.entries():
        try:
            found = read_entry(path)
            wrong = "" if found.get("identity") == path.stem else "holds another result than its name says"
        except FileNotFoundError:
            continue  # pruned this moment
        except DamagedFile as error:
            wrong = error.what
        except (OSError, VlmrankError) as error:
            wrong = str(error).removeprefix(f"{path}: ")
        yield path, wrong


def holdings(store: ResultStore) -> list[Holding]:
    """What a store holds by model, dataset and kind, largest first; damaged entries under the kind `damaged`."""
    entries, sizes = Counter(), Counter()
    for path in store.entries():
        try:
            size, found = path.stat().st_size, read_entry(path)
        except FileNotFoundError:
            continue
        except (OSError, VlmrankError):
            found = {"kind": "damaged"}
        key = (*(str(found.get(name) or "") for name in ("model", "dataset")), str(found.get("kind") or "accuracy"))
        entries[key] += 1
        sizes[key] += size
    found = [Holding(*key, entries[key], sizes[key]) for key in entries]
    return sorted(found, key=lambda one: (-one.bytes, one.model, one.dataset, one.kind))


def used_by(results: str | os.PathLike[str]) -> set[str]:
    """Identities of all pairs, accuracies and features in a results folder.

    Raises
    ------
    VlmrankError : the folder does not exist, or a file in it cannot be read, so its entries are unknown.
    """
    results = Path(results)
    if not (results / "conductance").is_dir():
        raise VlmrankError(
            f"{results}: no run has written there, so the entries that it uses are unknown; run it first"
        )
    found = set()
    for folder in ("conductance", "accuracy", "features"):
        for path in (path for suffix in ("h5", "json") for path in (results / folder).rglob(f"*.{suffix}")):
            if path.name.startswith("."):
                continue
            found.add(str(read_entry(path).get("identity") or ""))
    return found - {""}


def find_unused(store: ResultStore, used: Collection[str], *, older_than_days: float) -> Unused:
    """Sort the entries that are not in `used` by what may be done with them.

    Parameters
    ----------
    older_than_days : since they were stored.
    """
    found: dict[str, list[Path]] = {"own": [], "recent": [], "of_others": []}
    now, user = time.time(), os.getuid()
    for path in store.entries():
        if path.stem in used:
            continue
        with contextlib.suppress(FileNotFoundError):
            facts = path.stat()
            recent = now - facts.st_mtime < older_than_days * DAY
            found["of_others" if facts.st_uid != user else "recent" if recent else "own"].append(path)
    return Unused(**{name: tuple(paths) for name, paths in found.items()})


def find_leftovers(store: ResultStore) -> list[Path]:
    """Unfinished files that a dead process of this user left: untouched for a day."""
    found = []
    for path in (path for pattern in LEFTOVERS for path in store.root.rglob(pattern)):
        with contextlib.suppress(FileNotFoundError):
            facts = path.stat()
            if facts.st_uid == os.getuid() and time.time() - facts.st_mtime > DAY:
                found.append(path)
    return sorted(found)


def delete_entries(paths: Collection[Path]) -> int:
    """Delete entries of this user; return the number of bytes freed."""
    freed = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            facts = path.stat()
            if facts.st_uid == os.getuid():
                path.unlink()
                freed += facts.st_size
    return freed
