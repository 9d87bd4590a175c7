"""Find damaged result files before Snakemake decides what to run.

Snakemake only looks at names and times. After each run the state of every result file (inode, size, times) is recorded.
At the next start, a file whose state has changed is read in full and compared with its checksum, a file without a
record must at least be complete at its end, and a recorded file that is missing counts as lost. Lost and damaged files
are made anew.
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
SHARED = ("conductance", "accuracy")  # whose files are also in the store
MOST_LINES = 5


@dataclass(frozen=True)
class LostFile:
    """A result file that must be made anew, with the reason."""

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
    """Hash of a file that has no checksum of its own; recorded with the state."""
    return file_sha256(path) if path.endswith(".csv") else ""


def _verify(path: str, known: list | None) -> None:
    """Raise `DamagedFile` if a file whose state has changed is damaged."""
    if path.endswith(".csv"):
        if known and known[4] != file_sha256(path):
            raise DamagedFile(path, "it is not what was written")
    elif path.endswith(".json") or known:
        read_entry(path)
    elif not has_end(path):
        raise DamagedFile(path, "it is not a whole result file")


def check_results(results: str, names: Collection[str], folder: Path = NOTES) -> list[LostFile]:
    """Find the result files that are damaged or gone, and record the state of the others.

    Parameters
    ----------
    results : results folder.
    names : models and datasets in the sheets; files of others are not missed.
    folder : where the states are recorded.
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
            continue  # the job that needs it reports the fault
    lost += [LostFile(path, "it is gone") for path in before if not os.path.lexists(path)]
    if {**before, **whole} != before:  # a lost file keeps its record, and stays lost until it is made
        _write_notes(place, {**before, **whole})
    return [file for file in lost if _is_wanted(Path(file.path).relative_to(results), names)]


def _is_wanted(path: Path, names: Collection[str]) -> bool:
    """Whether a result file is of models and datasets that are still in the sheets."""
    *folders, name = path.parts[1:] or [""]
    stem = name.rpartition(".")[0].removesuffix(".weights")
    return not name or all(part in names for part in (*folders, stem))


def note_results(results: str, folder: Path = NOTES) -> None:
    """Record the state of all result files at the end of a run."""
    place = _notes(results, folder)
    before = _read_notes(place)
    notes = dict(before)
    for entry in _results(results):
        with contextlib.suppress(OSError):
            state, known = _state(entry), before.get(entry.path)
            notes[entry.path] = known if known and known[:4] == state else [*state, _content(entry.path)]
    _write_notes(place, notes)


def put_back(lost: Sequence[LostFile], store: ResultStore) -> None:
    """Put other results of a lost file's job back into the store: the job removes them, then takes them from there."""
    for folder in {Path(file.path).parent for file in lost}:
        for path in sorted(folder.glob("*")) if folder.parent.name in SHARED else ():
            with contextlib.suppress(OSError, VlmrankError):
                facts = read_entry(path)
                identity = str(facts.get("identity", ""))
                if identity and facts.get("status") == OK and not store.path(identity, path.suffix).exists():
                    store.publish(identity, path)


def bring_back_from_the_future(results: str) -> None:
    """Set modification times in the future to now: Snakemake fails a job whose output is older than an input."""
    now = time.time()
    for entry in _results(results):
        with contextlib.suppress(OSError):
            if entry.stat().st_mtime > now:
                os.utime(entry.path)


def drop_files(lost: Sequence[LostFile]) -> None:
    """Remove the remains of lost files, so that nothing reads them before they are made anew."""
    for file in lost:
        with contextlib.suppress(OSError):
            Path(file.path).unlink(missing_ok=True)


def lines_of(lost: Sequence[LostFile]) -> list[str]:
    """One line per lost file, and a last one if there are too many.

    Examples
    --------
    >>> lines_of([LostFile("results/a.h5", "it is gone")])
    ['results/a.h5 is made anew: it is gone']
    """
    lines = [f"{file.path} is made anew: {file.reason}" for file in lost[:MOST_LINES]]
    more = len(lost) - MOST_LINES
    return [*lines, f"and {more} other result files are made anew"] if more > 0 else lines
