"""Find damaged result files before Snakemake decides what to run.

Snakemake looks at names and times alone. After each run the state of every result file (inode, size, times) is noted;
at the next start a file whose state has changed is read in full and compared with its checksum, one that nobody noted
yet must at least have its end, and one that is gone is missed. What fails is dropped and made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlmrank.errors import VlmrankError
from vlmrank.store import OK, DamagedFile, ResultStore, atomic
from vlmrank.store.cache import read_entry
from vlmrank.store.file_hashes import file_sha256
from vlmrank.store.hdf5 import has_end

NOTES = Path(".snakemake/vlmrank")
FOLDERS = ("models", "datasets", "conductance", "alignment", "predictions", "dcd", "evidence", "accuracy", "ranking")
SHARED = ("conductance", "accuracy")  # whose files the store has too
MOST_LINES = 5


@dataclass(frozen=True)
class LostFile:
    """A result file that has to be made anew, and why."""

    path: str
    reason: str


def _files(folder: str) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as found:
        for entry in found:
            if entry.is_dir():
                yield from _files(entry.path)
            elif entry.name.endswith((".h5", ".json", ".csv")) and not entry.name.startswith("."):
                yield entry


def _results(results: str) -> Iterator[os.DirEntry[str]]:
    for folder in FOLDERS:
        yield from _files(f"{results}/{folder}")
    with contextlib.suppress(FileNotFoundError), os.scandir(results) as found:
        yield from (entry for entry in found if entry.name.endswith((".h5", ".csv")) and not entry.name.startswith("."))


def _state(entry: os.DirEntry[str]) -> list[int]:
    facts = entry.stat()
    return [facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]


def _notes(results: str, folder: Path) -> Path:
    return folder / f"results-{hashlib.sha256(os.fsencode(Path(results).absolute())).hexdigest()[:16]}.json"


def _read_notes(path: Path) -> dict[str, list]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_notes(path: Path, notes: dict[str, list]) -> None:
    with contextlib.suppress(OSError, VlmrankError), atomic(path) as partial:
        partial.write_text(json.dumps(notes), encoding="utf-8")


def _content(path: str) -> str:
    """What a state is noted with: the hash of a file that carries no checksum of its own."""
    return file_sha256(path) if path.endswith(".csv") else ""


def _verify(path: str, known: list | None) -> None:
    """Raise `DamagedFile` if a file whose state is not the noted one is not whole either."""
    if path.endswith(".csv"):
        if known and known[4] != file_sha256(path):
            raise DamagedFile(path, "it is not what was written")
    elif path.endswith(".json") or known:
        read_entry(path)
    elif not has_end(path):
        raise DamagedFile(path, "it is not a whole result file")


def check_results(results: str, names: Collection[str], folder: Path = NOTES) -> list[LostFile]:
    """Find the result files that are damaged or gone, and note the state of the others.

    Parameters
    ----------
    results : results folder.
    names : models and datasets in the sheets; what is of others is not missed.
    folder : where states are noted.
    """
    if not Path(results).is_dir():
        return []
    place, lost, whole = _notes(results, folder), [], {}
    before = _read_notes(place)
    for entry in _results(results):
        known = before.get(entry.path)
        try:
            state = _state(entry)
            if not known or known[:4] != state:
                _verify(entry.path, known)
                known = [*state, _content(entry.path)]
            whole[entry.path] = known
        except FileNotFoundError:
            lost.append(LostFile(entry.path, "it is a link to nothing"))
        except DamagedFile as error:
            lost.append(LostFile(entry.path, error.what))
        except (OSError, VlmrankError):
            continue  # whoever needs it says what is wrong
    lost += [LostFile(path, "it is gone") for path in before if not os.path.lexists(path)]
    if {**before, **whole} != before:  # what is lost keeps its note, and is lost until it is made
        _write_notes(place, {**before, **whole})
    return [file for file in lost if _is_wanted(Path(file.path).relative_to(results), names)]


def _is_wanted(path: Path, names: Collection[str]) -> bool:
    """Whether a result file is of models and datasets that are still in the sheets."""
    *folders, name = path.parts[1:] or [""]
    stem = name.rpartition(".")[0].removesuffix(".weights")
    return not name or all(part in names for part in (*folders, stem))


def note_results(results: str, folder: Path = NOTES) -> None:
    """Note the state of all result files, at the end of a run that has written them."""
    place = _notes(results, folder)
    before = _read_notes(place)
    notes = dict(before)
    for entry in _results(results):
        with contextlib.suppress(OSError):
            state, known = _state(entry), before.get(entry.path)
            notes[entry.path] = known if known and known[:4] == state else [*state, _content(entry.path)]
    _write_notes(place, notes)


def put_back(lost: Sequence[LostFile], store: ResultStore) -> None:
    """Give the store what it has lost of the results beside lost ones: their common job removes and takes them."""
    for folder in {Path(file.path).parent for file in lost}:
        for path in sorted(folder.glob("*")) if folder.parent.name in SHARED else ():
            with contextlib.suppress(OSError, VlmrankError):
                facts = read_entry(path)
                identity = str(facts.get("identity", ""))
                if identity and facts.get("status") == OK and not store.path(identity, path.suffix).exists():
                    store.publish(identity, path)


def bring_back_from_the_future(results: str) -> None:
    """Date files of a clock that was ahead to now: Snakemake fails a job whose output is older than an input."""
    now = time.time()
    for entry in _results(results):
        with contextlib.suppress(OSError):
            if entry.stat().st_mtime > now:
                os.utime(entry.path)


def drop_files(lost: Sequence[LostFile]) -> None:
    """Remove what is left of lost files, so that nothing reads it before it is made anew."""
    for file in lost:
        with contextlib.suppress(OSError):
            Path(file.path).unlink(missing_ok=True)


def lines_of(lost: Sequence[LostFile]) -> list[str]:
    """One line a lost file, and one for what would be too many.

    Examples
    --------
    >>> lines_of([LostFile("results/a.h5", "it is gone")])
    ['results/a.h5 is made anew: it is gone']
    """
    lines = [f"{file.path} is made anew: {file.reason}" for file in lost[:MOST_LINES]]
    more = len(lost) - MOST_LINES
    return [*lines, f"and {more} other result files are made anew"] if more > 0 else lines
