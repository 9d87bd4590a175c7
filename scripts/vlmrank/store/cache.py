"""Finished results that working directories, users and nodes share, by the hash of everything that went into them."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import Path

import h5py

from vlmrank.errors import VlmrankError
from vlmrank.store.files import OK, atomic, read_json
from vlmrank.store.pair import read_pair_attributes


class ResultStore:
    """Finished results under `<root>/<first two digits>/<identity><suffix>`; readers need no lock.

    A file appears whole (written beside, then renamed) and is never changed. Several working directories, users and
    nodes may share one root: two that compute the same result at the same time leave one of the two equal files.
    """

    def __init__(self, root: str | os.PathLike[str]):
        self.root = Path(root)

    def path(self, identity: str, suffix: str = ".h5") -> Path:
        """Where the result of this identity is or would be."""
        return self.root / identity[:2] / f"{identity}{suffix}"

    def holds(self, identity: str, suffix: str = ".h5") -> bool:
        """Whether there is a readable, successful result of this identity."""
        path = self.path(identity, suffix)
        if not path.exists():
            return False
        try:
            found = read_pair_attributes(path) if suffix == ".h5" else read_json(path)
        except (VlmrankError, OSError, ValueError):
            return False  # half a file from a full disk or a broken node: compute it again
        return found.get("status") == OK and found.get("identity", identity) == identity

    def publish(self, identity: str, source: str | os.PathLike[str]) -> None:
        """Put a finished result file into the store, as a link where the file system allows it."""
        source = Path(source)
        target = self.path(identity, source.suffix)
        shared = self._shared()
        if not target.parent.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            if shared:
                _let_group_write(target.parent)
        with atomic(target) as partial:
            _link_or_copy(source, partial)
            _sync(partial)
            if shared:
                _let_group_write(partial)

    def link(self, identity: str, destination: str | os.PathLike[str], **names: str) -> None:
        """Make `destination` the result of this identity: a hard link, or a copy.

        It is a copy where the file system refuses a link, where another place links the same file already (its time
        of change, which Snakemake looks at, would change there too), and where `names` (model, dataset, ...) differ.
        """
        destination = Path(destination)
        source = self.path(identity, destination.suffix)
        with atomic(destination) as partial:
            if destination.suffix == ".h5" and names:
                found = read_pair_attributes(source)
                changed = {name: value for name, value in names.items() if found.get(name) != value}
                if changed:
                    shutil.copyfile(source, partial)
                    with h5py.File(partial, "r+", locking=False) as file:
                        file.attrs.update(changed)
                    return
            if source.stat().st_nlink > 1:
                shutil.copyfile(source, partial)
            else:
                _link_or_copy(source, partial)

    def _shared(self) -> bool:
        self.root.mkdir(parents=True, exist_ok=True)
        return bool(self.root.stat().st_mode & stat.S_IWGRP)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _sync(path: Path) -> None:
    """Have the content on disk before the name appears."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _let_group_write(path: Path) -> None:
    with contextlib.suppress(PermissionError):
        mode = path.stat().st_mode
        path.chmod(mode | stat.S_IWGRP | (stat.S_ISGID if path.is_dir() else 0))
