"""Lease files for results, with crash tracking: no result is computed by two processes at a time.

A lease is a small file in a shared folder, named after its result. It says which process works on the result, and is
touched every few seconds. Leases rely on exclusive creation and on renames, which are atomic on NFS and Lustre too;
there are no file locks and no hard links.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vlmrank.errors import VlmrankError
from vlmrank.store.crashes import Crash, cause_of_death, describe
from vlmrank.store.files import atomic
from vlmrank.store.processes import is_alive, this_process

BEAT_SECONDS = 15.0
PATIENCE_SECONDS = 90.0
TRIES_TO_RELEASE = 5
LEASE, CRASH = ".lease", ".crash"
logger = logging.getLogger(__name__)
# Leases of this process by path, since a signal may arrive before `take` has returned.
_held: dict[Path, tuple[int, str]] = {}


@atexit.register
def _release_all() -> None:
    """Release at exit what is still held."""
    for path, (process, token) in list(_held.items()):
        if process == os.getpid():  # a forked child holds none of its parent's leases
            with contextlib.suppress(OSError):
                if (_read(path) or {}).get("token") == token:
                    path.unlink(missing_ok=True)


def _write(path: Path, content: Mapping[str, Any], *, exclusive: bool = False) -> None:
    """Write a lease or a crash record, writable for all who may write to the folder, whatever the umask.

    Raises
    ------
    FileExistsError : `exclusive`, and the file is there.
    """
    text, mode = json.dumps(content).encode(), 0o644 | (path.parent.stat().st_mode & 0o020)
    if not exclusive:
        with atomic(path) as partial:
            partial.write_bytes(text)
            with contextlib.suppress(OSError):
                partial.chmod(mode)
        return
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    try:
        os.write(file, text)
        with contextlib.suppress(OSError):
            os.fchmod(file, mode)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)


def _read(path: Path) -> dict[str, Any] | None:
    """Content of a lease; None if there is none, empty if it cannot be read now."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@dataclass
class Lease:
    """A result that this process works on; leaving the `with` block releases it.

    Leaving by an error releases it as well, since the error is reported. Only a process that ends unexpectedly, or that
    calls `record_crash`, leaves a crash behind.
    """

    key: str
    path: Path
    content: dict[str, Any]
    beat: float
    took_over: Crash | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        threading.Thread(target=self._live, name=f"lease {self.key}", daemon=True).start()

    def _live(self) -> None:
        """Touch the lease until it is released or taken over; a touch that fails is tried again at the next beat."""
        while not self._stop.wait(self.beat):
            try:
                found = _read(self.path)
                if found is None:
                    _write(self.path, self.content, exclusive=True)
                elif found.get("token", self.content["token"]) != self.content["token"]:
                    logger.warning("the lease %s was taken over by %s", self.path, describe(found))
                    return
                else:
                    os.utime(self.path)
            except OSError as error:
                logger.warning("the lease %s could not be touched: %s", self.path, error)

    def release(self) -> None:
        """Release the result."""
        self._stop.set()
        _held.pop(self.path, None)
        for attempt in range(TRIES_TO_RELEASE):
            found = _read(self.path)
            if found is None or found.get("token", self.content["token"]) != self.content["token"]:
                return
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
                return
            time.sleep(0.1 * attempt)

    def record_crash(self, cause: str, how: str) -> None:
        """Record an expected end, such as the time limit, and release the result."""
        with contextlib.suppress(OSError, VlmrankError):
            _write(crash_file(self.path.parent, self.key, self.content), {**self.content, "cause": cause, "how": how})
        self.release()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def crash_file(folder: Path, key: str, holder: Mapping[str, Any]) -> Path:
    """Where the crash of a holder is recorded."""
    return folder / f"{key}.{holder.get('token', 'unreadable')}{CRASH}"


@dataclass(frozen=True)
class Leases:
    """The leases in one folder.

    Attributes
    ----------
    folder : where the lease files are; made on demand.
    notes : added to each lease, for later messages: `memory_mb`, `minutes`.
    beat : seconds between two touches of a lease.
    patience : seconds without a touch, by the file system's clock, after which a process on another machine counts as
        gone; on this machine its process number is looked up.
    """

    folder: Path
    notes: Mapping[str, Any] = field(default_factory=dict)
    beat: float = BEAT_SECONDS
    patience: float = PATIENCE_SECONDS

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{LEASE}"

    def _now(self) -> float:
        """Return the time by the file system's clock, which may be another machine's."""
        probe = self.folder / f".clock-{secrets.token_hex(8)}"
        try:
            probe.touch()
            return probe.stat().st_mtime
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)

    def _silent(self, path: Path) -> bool:
        """Whether a file was last touched longer than the patience ago; False if unknown.

        A touch that far in the future comes from a clock that was set back since, and counts as old.
        """
        try:
            return abs(self._now() - path.stat().st_mtime) > self.patience
        except OSError:
            return False

    def _gone(self, path: Path, holder: Mapping[str, Any]) -> bool:
        alive = is_alive(holder)
        return self._silent(path) if alive is None else not alive

    def _make_folder(self) -> None:
        if not self.folder.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):
                self.folder.chmod(self.folder.stat().st_mode | (self.folder.parent.stat().st_mode & 0o2070))

    def holder(self, key: str) -> dict[str, Any] | None:
        """Return the living holder of a result, None if there is none."""
        path = self._path(key)
        content = _read(path)
        return None if content is None or self._gone(path, content) else content

    def take(self, key: str) -> Lease | None:
        """Lease a result; None if a living process holds it. The lease of a dead process becomes a recorded crash.

        Raises
        ------
        VlmrankError : the folder cannot be written.
        """
        content = {**this_process(), **self.notes, "token": secrets.token_hex(8)}
        path, took_over = self._path(key), None
        before = _held.get(path)
        _held[path] = (os.getpid(), content["token"])
        try:
            self._make_folder()
            while True:
                with contextlib.suppress(FileExistsError):
                    _write(path, content, exclusive=True)
                    break
                earlier = _read(path)
                if earlier is None:
                    continue
                took_over = self._record_crash(key, path, earlier) if self._gone(path, earlier) else None
                if took_over is None:
                    _held.pop(path) if before is None else _held.update({path: before})
                    return None
                _write(path, content)
                break
        except OSError as error:
            message = f"{path}: no lease can be written ({error.strerror}); mend that and run again"
            raise VlmrankError(message) from error
        return Lease(key, path, content, self.beat, took_over)

    def _record_crash(self, key: str, path: Path, holder: dict[str, Any]) -> Crash | None:
        """Record the crash of a holder; exactly one of the processes that try succeeds, the others get None."""
        file = crash_file(self.folder, key, holder)
        cause, how = cause_of_death(holder, self.folder)
        record = {**holder, "cause": cause, "how": how}
        try:
            _write(file, record, exclusive=True)
        except FileExistsError:
            # Another process is about to take the lease over; if it stays here, it is gone too.
            if self._silent(file):
                file.unlink(missing_ok=True)
            return None
        if (_read(path) or {}).get("token", "unreadable") != holder.get("token", "unreadable"):
            file.unlink(missing_ok=True)
            return None
        return Crash(file, self._now(), record)

    def crashes(self, keys: Collection[str]) -> dict[str, list[Crash]]:
        """Return the crashes of each of these results, oldest first, from one listing of the folder.

        Leases of dead holders become recorded crashes on the way.
        """
        wanted, found = set(keys), {}
        try:
            with os.scandir(self.folder) as listing:
                names = [entry.name for entry in listing if entry.name.endswith((LEASE, CRASH))]
        except OSError:
            return {}
        for name in names:
            if name.endswith(LEASE):
                key, crash = name.removesuffix(LEASE), None
                if key in wanted and self.holder(key) is None and (lease := self.take(key)):
                    crash = lease.took_over
                    lease.release()
            else:
                key = name.removesuffix(CRASH).rpartition(".")[0]
                crash = self._crash(self.folder / name) if key in wanted else None
            if crash:
                found.setdefault(key, []).append(crash)
        return {key: sorted(some, key=lambda crash: crash.time) for key, some in found.items()}

    def _crash(self, path: Path) -> Crash | None:
        with contextlib.suppress(OSError):
            return Crash(path, path.stat().st_mtime, _read(path) or {})
        return None

    def forget(self, crashes: Iterable[Crash]) -> None:
        """Drop recorded crashes."""
        for crash in crashes:
            with contextlib.suppress(OSError):
                crash.path.unlink(missing_ok=True)

    def excuse(self, crash: Crash) -> Crash:
        """Stop counting a crash as one of a series, since a result was finished after it."""
        holder = {**crash.holder, "alone": True}
        if not crash.holder.get("alone"):
            with contextlib.suppress(OSError, VlmrankError):
                _write(crash.path, holder)
        return replace(crash, holder=holder)


def acquire_run_lock(folder: str | os.PathLike[str], what: str) -> None:
    """Make this process the only one that does `what` with `folder`, until it ends.

    A closed terminal (SIGHUP) ends it as Ctrl-C does: its jobs are cancelled and the lock is released.

    Raises
    ------
    VlmrankError : another living process does it.
    """
    leases = Leases(Path(folder))
    lease = leases.take(what)
    if lease is None:
        holder = leases.holder(what)
        if holder is None:  # it ended this moment
            return acquire_run_lock(folder, what)
        raise VlmrankError(
            f"another {what} is at work here since {holder.get('since')}: {describe(holder)}; wait until it ends. "
            f"If that machine is gone, {leases._path(what)} may be deleted"
        )
    leases.forget(leases.crashes([what]).get(what, ()))
    atexit.register(lease.release)
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, _hang_up)
    return None


def _hang_up(number: int, frame: object) -> None:
    raise KeyboardInterrupt
