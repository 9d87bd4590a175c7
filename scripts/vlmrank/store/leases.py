"""Who is computing what: no result is computed by two processes at a time, and one that kills its process is noticed.

A claim is a small file in a folder that all processes share, named by the result it stands for. It says who works on
the result and is touched every few seconds. A claim whose process is gone is the trace of a death, which is kept until
the result exists; so a result that kills every process which tries it can be told from one that was merely unlucky.
Everything rests on hard links and renames, which are atomic on NFS and Lustre as well; nothing waits for a lock.
"""

from __future__ import annotations

import atexit
import contextlib
import getpass
import json
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlmrank.errors import VlmrankError

BEAT_SECONDS = 15.0
PATIENCE_SECONDS = 90.0
DEATHS_OF_A_RESULT = 2
DEATHS_IN_A_ROW = 3


def _place() -> str:
    """Name what a process number is unique in: host, boot and process namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    parts = [socket.gethostname(), boot.read_text().strip() if boot.exists() else ""]
    with contextlib.suppress(OSError):
        parts.append(str(namespace.readlink()))
    return " ".join(parts)


def _born(pid: int) -> str | None:
    """Return the start time of a process in clock ticks, None if there is no such process (or only its remains)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def who() -> dict[str, Any]:
    """Describe this process: host, pid, user and, inside a SLURM job, its number."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "user": getpass.getuser(),
        "job": os.environ.get("SLURM_JOB_ID", ""),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "place": _place(),
        "born": _born(os.getpid()),
    }


def describe(holder: Mapping[str, Any]) -> str:
    """Name a holder in words.

    >>> describe({"host": "n1", "pid": 7, "user": "ada", "job": "12", "memory_mb": 4000, "minutes": 30})
    'SLURM job 12 of ada on n1, process 7, 4000 MB, 30 min'
    """
    parts = [f"SLURM job {holder['job']} of " if holder.get("job") else ""]
    parts[0] += f"{holder.get('user', 'somebody')} on {holder.get('host', 'an unknown host')}"
    parts.append(f"process {holder.get('pid', '?')}")
    parts += [f"{holder[name]} {unit}" for name, unit in (("memory_mb", "MB"), ("minutes", "min")) if holder.get(name)]
    return ", ".join(parts)


def _same_access(path: Path, folder: Path) -> None:
    """Let the group write `path` if it may write `folder`, whatever the umask of this user."""
    mode = folder.stat().st_mode
    with contextlib.suppress(OSError):
        path.chmod(0o644 | (mode & 0o020))


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
    _same_access(path, path.parent)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@dataclass
class Claim:
    """A result that this process has taken on; leaving the `with` block gives it back.

    Leaving by an error gives it back as well: the error was seen and will be told. Only a process that ends without
    being asked leaves a death behind, or one that calls `died`.
    """

    key: str
    path: Path
    content: dict[str, Any]
    beat: float
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        threading.Thread(target=self._live, name=f"claim {self.key}", daemon=True).start()

    def _live(self) -> None:
        while not self._stop.wait(self.beat):
            if not self._ours():
                return
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def _ours(self) -> bool:
        return (_read(self.path) or {}).get("token") == self.content["token"]

    def release(self) -> None:
        """Give the result back."""
        self._stop.set()
        if self._ours():
            self.path.unlink(missing_ok=True)

    def died(self, how: str) -> None:
        """Record a death that this process sees coming, such as its time limit, and give the result back."""
        _write(self.path.with_name(f"{self.key}.{self.content['token']}.dead"), {**self.content, "how": how})
        self.release()

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclass(frozen=True)
class Claims:
    """The claims in one folder.

    Attributes
    ----------
    folder : where the claim files are; made on demand.
    notes : what to add to a claim for the reader of a later message, such as `memory_mb` and `minutes`.
    beat : seconds between two touches of a claim.
    patience : seconds without a touch after which a process on another machine counts as gone; on this machine its
        process number is looked up.
    """

    folder: Path
    notes: Mapping[str, Any] = field(default_factory=dict)
    beat: float = BEAT_SECONDS
    patience: float = PATIENCE_SECONDS

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.claim"

    def _now(self) -> float:
        """Return the time by the clock of the file system, which may be another machine's."""
        probe = self.folder / f".clock-{secrets.token_hex(8)}"
        try:
            probe.touch()
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)

    def _gone(self, path: Path, content: Mapping[str, Any]) -> bool:
        if content.get("place") == _place():
            return _born(int(content["pid"])) != content["born"]
        try:
            return self._now() - path.stat().st_mtime > self.patience
        except FileNotFoundError:
            return False

    def _make_folder(self) -> None:
        if not self.folder.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):
                self.folder.chmod(self.folder.stat().st_mode | (self.folder.parent.stat().st_mode & 0o2070))

    def holder(self, key: str) -> dict[str, Any] | None:
        """Return who holds a result, None if nobody alive does."""
        path = self._path(key)
        content = _read(path)
        return None if content is None or self._gone(path, content) else content

    def take(self, key: str) -> Claim | None:
        """Claim a result; None if a living process has it. The claim of a dead one becomes a recorded death."""
        self._make_folder()
        path = self._path(key)
        content = {**who(), **self.notes, "token": secrets.token_hex(8)}
        draft = self.folder / f".draft-{content['token']}"
        _write(draft, content)
        try:
            while True:
                with contextlib.suppress(FileExistsError):
                    os.link(draft, path)
                    break
                earlier = _read(path)
                if earlier is None:
                    continue
                if not self._gone(path, earlier) or not self._bury(key, path, earlier.get("token", "unreadable")):
                    return None
                draft.replace(path)
                break
        finally:
            draft.unlink(missing_ok=True)
        return Claim(key, path, content, self.beat)

    def _bury(self, key: str, path: Path, token: str) -> bool:
        """Turn the claim `token` into a recorded death; True for exactly one of the processes that try."""
        grave = self.folder / f"{key}.{token}.dead"
        try:
            os.link(path, grave)
        except FileNotFoundError:
            return False
        except FileExistsError:
            # Another process is between this line and its `replace`; if it stays there, it is gone too.
            with contextlib.suppress(FileNotFoundError):
                if self._now() - grave.stat().st_ctime > self.patience:
                    grave.unlink()
            return False
        if (_read(grave) or {}).get("token", "unreadable") != token:
            grave.unlink(missing_ok=True)
            return False
        return True

    def deaths(self, key: str) -> list[dict[str, Any]]:
        """Return the holders that ended without finishing this result, oldest first."""
        found = sorted(self.folder.glob(f"{key}.*.dead"), key=lambda path: path.stat().st_mtime)
        return [content for content in map(_read, found) if content is not None]

    def forget(self, keys: Collection[str]) -> None:
        """Drop the recorded deaths of results."""
        for key in keys:
            for path in self.folder.glob(f"{key}.*.dead"):
                path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Poison:
    """A result that is given up, and why."""

    key: str
    reason: str


def share_out(
    keys: Sequence[str],
    claims: Claims,
    finished: Callable[[str], bool],
    *,
    poll: float = 5.0,
    on_wait: Callable[[str, Mapping[str, Any]], None] = lambda key, holder: None,
) -> Iterator[Claim | Poison]:
    """Yield every result that is still to be made, once it is this process's to make.

    Results that another process holds come last: by then they are finished, or that process is gone and they are
    yielded here. A result at which two processes died is given up. If three died since the last one that was finished,
    the fault is not in a single result (a model that does not fit into memory, say) and all that are left are given up.

    Parameters
    ----------
    keys : names of the results, in the order of work.
    claims : where they are claimed.
    finished : whether a result exists by now; asked again after each wait.
    poll : seconds between two looks at results that others hold.
    on_wait : called with a result and its holder, before the first wait for it.

    Yields
    ------
    Claim : to be worked on inside a `with` block, before the next one is asked for.
    Poison : to be recorded as failed.
    """
    waiting, told = list(keys), set()
    while waiting:
        later = []
        for key in waiting:
            if finished(key):
                continue
            claim = claims.take(key)
            if claim is None:
                later.append(key)
                continue
            if finished(key):  # by another process, between the two looks
                claim.release()
                continue
            reason = _given_up(claims.deaths(key), [death for other in keys for death in claims.deaths(other)])
            if reason:
                yield Poison(key, reason)
                claim.release()
                continue
            try:
                yield claim
            finally:
                claim.release()
            if finished(key):
                claims.forget([other for other in keys if len(claims.deaths(other)) < DEATHS_OF_A_RESULT])
        for key in later:
            holder = claims.holder(key)
            if key not in told and holder:
                told.add(key)
                on_wait(key, holder)
        if later and len(later) == len(waiting):
            time.sleep(poll)
        waiting = later
    claims.forget(keys)


def _given_up(own: Sequence[Mapping[str, Any]], all_of_them: Sequence[Mapping[str, Any]]) -> str | None:
    if len(own) >= DEATHS_OF_A_RESULT:
        deaths, where = own, "here"
    elif len(all_of_them) >= DEATHS_IN_A_ROW:
        deaths, where = all_of_them, "at this model's datasets"
    else:
        return None
    how = deaths[-1].get("how", "it was killed: not enough memory, a crash in native code, or its node went down")
    return f"{len(deaths)} processes ended {where}; the last ({describe(deaths[-1])}): {how}"


def stand_guard(folder: str | os.PathLike[str], what: str) -> None:
    """Make this process the only one that does `what` with `folder`, until it ends.

    Raises
    ------
    VlmrankError : another living process does it.
    """
    claims = Claims(Path(folder))
    claim = claims.take(what)
    if claim is None:
        holder = claims.holder(what)
        if holder is None:  # it ended this moment
            return stand_guard(folder, what)
        raise VlmrankError(
            f"another {what} is at work here since {holder.get('since')}: {describe(holder)}; wait until it ends. "
            f"If that machine is gone, {claims._path(what)} may be deleted"
        )
    claims.forget([what])
    atexit.register(claim.release)
    return None


@contextlib.contextmanager
def until_terminated(minutes: float | None, started: float) -> Iterator[Callable[[Claim], None]]:
    """Turn SIGTERM, which a scheduler sends before it kills, into an orderly end.

    Inside the block SIGTERM raises `SystemExit(143)`. The yielded function is to be called with each claim that is
    begun; the last one is given back when the block ends in whatever way. If the signal comes when at least nine tenths
    of the time limit are used up, that limit is taken to be the cause and recorded as a death; otherwise the job was
    cancelled or preempted, which says nothing about the result.

    Parameters
    ----------
    minutes : time limit of the job, None if it has none.
    started : `time.monotonic()` at its start.
    """
    current: list[Claim] = []

    def begin(claim: Claim) -> None:
        current[:] = [claim]

    def end(number: int, frame: object) -> None:
        used = (time.monotonic() - started) / 60
        if current and minutes and used >= 0.9 * minutes:
            current[0].died(f"it reached its time limit of {minutes:g} min")
        raise SystemExit(128 + number)

    main = threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGTERM, end) if main else None
    try:
        yield begin
    finally:
        if main:
            signal.signal(signal.SIGTERM, previous)
        for claim in current:
            claim.release()
