"""SHA-256 of files, remembered while path, inode, size and times stay the same."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vlmrank.store.files import atomic

# A file that changed this shortly before hashing may change again within one tick of the file system's clock.
SETTLED_SECONDS = 2.0
READERS = 8


def state_of(path: str | os.PathLike[str]) -> list[int]:
    """Inode, size, mtime and ctime in nanoseconds: a rewritten file differs in at least one.

    The device is left out: a network file system has a different number on every node.
    """
    facts = Path(path).stat()
    return [facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FileHashes:
    """Hashes of files read before, kept in a folder; without write access files are hashed again.

    Parameters
    ----------
    folder : where they are kept, one small file per `about`; None keeps nothing.
    about : what the files belong to: a weights file, or the folder of a dataset.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, about: str | os.PathLike[str]):
        name = hashlib.sha256(os.fsencode(Path(about).absolute())).hexdigest()[:32]
        self._file = None if folder is None else Path(folder) / "hashes" / f"{name}.json"
        self._known: dict[str, list] = {}
        self._new: dict[str, list] = {}
        if self._file is not None:
            with contextlib.suppress(OSError, ValueError):
                found = json.loads(self._file.read_text(encoding="utf-8"))
                self._known = found if isinstance(found, dict) else {}

    def sha256(self, path: str | os.PathLike[str]) -> str:
        """The hash of a whole file.

        Raises
        ------
        OSError : it cannot be read.
        """
        return self.of(path, lambda: file_sha256(path))

    def of(self, path: str | os.PathLike[str], read: Callable[[], str], part: str = "") -> str:
        """The hash of a file or of a `part` of one; `read` computes it if it is unknown."""
        key, state = f"{Path(path).absolute()}{part and '#'}{part}", state_of(path)
        known = self._known.get(key)
        if isinstance(known, list) and known[:-1] == state:
            found = known[-1]
        else:
            found = read()
            if state_of(path) != state or time.time() - max(state[2:]) / 1e9 < SETTLED_SECONDS:
                return found  # correct for what was read, but not safe to remember
        self._new[key] = [*state, found]
        return found

    def keep(self) -> None:
        """Save the hashes that were used, for the next process."""
        if self._file is not None and self._new and self._new != self._known:
            with contextlib.suppress(OSError), atomic(self._file) as partial:
                partial.write_text(json.dumps(self._new), encoding="utf-8")


def hash_all(jobs: Iterable[Callable[[], str]]) -> list[str]:
    """Run `jobs` in a few threads (hashing releases the GIL); results in order."""
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(lambda job: job(), jobs))
