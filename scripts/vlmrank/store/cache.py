"""The shared result store: finished results under the hash of everything that decides them.

An entry is an HDF5 or JSON file with a kind, its own identity and checksums. Entries are copied in and copied out, so
that writing to a result never changes the store. Copies share their blocks where the file system can.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlmrank.errors import OK, VlmrankError
from vlmrank.store.files import DamagedFile, atomic, copy_file, read_json, write_json
from vlmrank.store.hdf5 import attributes_of, change_attributes, open_hdf5


def read_entry(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the attributes of an entry (kind, identity, model, dataset, status, ...) after verifying its checksum.

    Raises
    ------
    FileNotFoundError : there is no such file.
    DamagedFile : it is not what was written.
    VlmrankError : it cannot be read at the moment.
    """
    path = Path(path)
    if path.suffix == ".json":
        content = read_json(path)
        if not isinstance(content, dict):
            raise DamagedFile(path, "holds no mapping")
        return content
    with open_hdf5(path) as file:
        return attributes_of(file)


@dataclass(frozen=True)
class ResultStore:
    """Finished results under `<root>/<first two digits>/<identity><suffix>`; readers need no lock.

    A file appears complete (written beside, then renamed) and is never changed. Before use it is read in full and
    compared with its checksums; one that fails is dropped. Several working directories, users and nodes may share one
    root. If two of them compute the same result at once, one of the two equal files stays.

    Attributes
    ----------
    root : folder of the store.
    say : called with one line per dropped entry.
    """

    root: Path
    say: Callable[[str], None] = field(default=lambda line: None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))

    def path(self, identity: str, suffix: str = ".h5") -> Path:
        """Path of the result of this identity, whether it exists or not."""
        return self.root / identity[:2] / f"{identity}{suffix}"

    def holds(self, identity: str, suffix: str = ".h5") -> bool:
        """Whether the store has an intact, successful result of this identity."""
        return self._checked(identity, self.path(identity, suffix)) is not None

    def publish(self, identity: str, source: str | os.PathLike[str]) -> None:
        """Put a copy of a finished result file into the store."""
        source = Path(source)
        target = self.path(identity, source.suffix)
        shared = self._make_folder(target.parent)
        with atomic(target) as partial:
            copy_file(source, partial)
            _sync(partial)
            partial.chmod(partial.stat().st_mode & 0o444 | (0o040 if shared else 0))

    def take(self, identity: str, destination: str | os.PathLike[str], **names: str) -> bool:
        """Make `destination` a copy of the result of this identity; False if the store has none.

        Parameters
        ----------
        names : attributes that each user chooses, which are not part of the identity: model, dataset, ...
        """
        destination = Path(destination)
        source = self.path(identity, destination.suffix)
        found = self._checked(identity, source)
        if found is None:
            return False
        changed = {name: value for name, value in names.items() if found.get(name) != value}
        try:
            with atomic(destination) as partial:
                if destination.suffix == ".json" and changed:
                    write_json(partial, {**found, **changed})
                    return True
                copy_file(source, partial)
                if changed:
                    change_attributes(partial, changed)
        except FileNotFoundError:  # pruned this moment
            return False
        return True

    def relate(self, identity: str, family: str) -> None:
        """Record that a result belongs to a family, whose members share rows."""
        with contextlib.suppress(OSError):
            self._make_folder(self._family(family))
            (self._family(family) / identity).touch()

    def relatives(self, family: str) -> Iterator[Path]:
        """Files of the results of a family, newest first; missing ones are removed from the record."""
        with contextlib.suppress(OSError):
            marks = sorted(self._family(family).iterdir(), key=lambda path: (path.stat().st_mtime_ns, path.name))
            for mark in reversed(marks):
                path = self.path(mark.name)
                if path.exists():
                    yield path
                else:
                    mark.unlink(missing_ok=True)

    def _make_folder(self, folder: Path) -> bool:
        """Make a folder of the store, group-writable if the store is; return whether it is."""
        self.root.mkdir(parents=True, exist_ok=True)
        shared = bool(self.root.stat().st_mode & stat.S_IWGRP)
        for part in (*reversed(folder.relative_to(self.root).parents), folder.relative_to(self.root)):
            path = self.root / part
            if not path.is_dir():
                path.mkdir(exist_ok=True)
                if shared:
                    with contextlib.suppress(PermissionError):
                        path.chmod(path.stat().st_mode | stat.S_IWGRP | stat.S_ISGID)
        return shared

    def _family(self, family: str) -> Path:
        return self.root / "families" / family[:2] / family

    def entries(self) -> Iterator[Path]:
        """Files of all results, intact or not."""
        for folder in sorted(self.root.glob("[0-9a-f][0-9a-f]")):
            yield from sorted(path for path in folder.iterdir() if path.suffix in (".h5", ".json"))

    def _checked(self, identity: str, path: Path) -> Mapping[str, Any] | None:
        try:
            found = read_entry(path)
            if found.get("identity") != identity or found.get("status", OK) != OK:
                raise DamagedFile(path, "holds another result than its name says")
            return found
        except FileNotFoundError:
            return None
        except DamagedFile as error:
            self.say(f"{path}: dropped from the store, to be computed again: {error.what}")
            with contextlib.suppress(OSError):
                path.unlink()
        except (OSError, VlmrankError) as error:
            self.say(f"not taken from the store, to be computed again: {error}")
        return None


def _sync(path: Path) -> None:
    """Flush the content to disk before the name appears."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
