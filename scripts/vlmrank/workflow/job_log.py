"""Job logs: one file per job, and one line per result on the terminal.

Jobs append their lines to a file that the head process follows, so that lines from other nodes appear too, above its
progress bar.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from vlmrank.errors import VlmrankError
from vlmrank.store import DamagedFile
from vlmrank.workflow.outcome import earlier_time, last_lines
from vlmrank.workflow.progress import PairProgress

# The file that jobs append their lines to; set by the head process, inherited by its jobs.
CHANNEL = "VLMRANK_RUN_LOG"
FAILURE = ": FAILED: "
logger = logging.getLogger("vlmrank")


def announce(line: str) -> None:
    """Write a line to the job's log and to the terminal of the run."""
    logger.info(line)
    channel = os.environ.get(CHANNEL)
    if channel:
        with contextlib.suppress(OSError), Path(channel).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            return
    print(line, file=_terminal, flush=True)


_terminal = sys.stderr


@contextlib.contextmanager
def job(log: str | os.PathLike[str]) -> Iterator[None]:
    """Run the body of a job; everything that it or a library prints goes to its log file.

    A `VlmrankError` ends the process with exit status 1 and its message as one line; a damaged result file is removed,
    so that the next run makes it anew. Any other error also ends the process, with its traceback in the log.
    """
    global _terminal
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    _terminal = os.fdopen(os.dup(2), "w", encoding="utf-8")
    with Path(log).open("w", encoding="utf-8", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr, force=True)
        logging.captureWarnings(True)
        try:
            yield
        except VlmrankError as error:
            announce(f"error: {error}")
            if isinstance(error, DamagedFile) and error.path.suffix == ".h5":  # so the next run makes it anew
                error.path.unlink(missing_ok=True)
            sys.exit(1)
        except KeyboardInterrupt:
            print("stopped by Ctrl-C", flush=True)
            sys.exit(128 + signal.SIGINT)
        except Exception as error:
            traceback.print_exc()
            announce(f"error: {type(error).__name__}: {error} (traceback in {log})")
            sys.exit(1)


class _Follower(threading.Thread):
    """Print each line that is appended to a file; a failure shared by several jobs of a model is printed once."""

    def __init__(
        self, path: Path, say: Callable[[str], None], every: float = 0.5, progress: PairProgress | None = None
    ):
        super().__init__(daemon=True)
        self.path, self.say, self.every, self.progress = path, say, every, progress
        self.ended = threading.Event()
        self.offset = 0
        self.failures: set[str] = set()

    def run(self) -> None:
        while not self.ended.wait(self.every):
            self.drain()
            if self.progress is not None and (line := self.progress.line()):
                self.say(line)
        self.drain()

    def drain(self) -> None:
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                new = file.read()
        except FileNotFoundError:
            return
        whole = new[: new.rfind(b"\n") + 1]
        self.offset += len(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            if line not in self.failures:
                self.say(line)
            if FAILURE in line:
                self.failures.add(line)


_follower: _Follower | None = None
_started = time.time()


def open_channel(
    path: str | os.PathLike[str], say: Callable[[str], None] | None = None, *, planned: Iterable[str] = ()
) -> None:
    """Let jobs append their lines to `path`; with `say`, this process prints them from now on.

    `planned` are the files that the run is to make: now and then a line says how many of their pairs exist.
    """
    global _follower, _started
    path = Path(path).absolute()
    os.environ[CHANNEL] = str(path)
    if say is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        _started = time.time()
        logging.raiseExceptions = False  # a logger may fail on a killed job's missing log
        _follower = _Follower(path, say, progress=PairProgress(planned, _started))
        _follower.start()


def close_channel(
    results: str | os.PathLike[str],
    targets: Sequence[str],
    rules: Mapping[tuple[str, str], str] | None = None,
    *,
    failed: bool = False,
) -> None:
    """Print the remaining lines and, when the process ends, the run summary (see `last_lines`)."""
    if _follower is not None:
        _follower.ended.set()
        _follower.join()
    # The job that only sets the exit status comes after all others.
    last = Path(os.environ[CHANNEL]).parent / "check_pairs" / "all.log"
    stopped = failed and not (last.exists() and not earlier_time(last, _started))
    lines = last_lines(results, targets, rules, since=_started, stopped=stopped)
    atexit.register(lambda: print(*lines, sep="\n", file=sys.stderr, flush=True))
