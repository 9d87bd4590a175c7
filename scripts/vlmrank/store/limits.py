"""Jobs that end early: the scheduler's signal, the time limit, a crash in native code."""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from vlmrank.store.crashes import TIME, fault_file
from vlmrank.store.leases import Lease

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
NEARLY = 0.9  # share of the time limit after which a signal counts as the time limit


@contextlib.contextmanager
def until_terminated(minutes: float | None, started: float) -> Iterator[Callable[[Lease], None]]:
    """Turn SIGTERM (sent by a scheduler before it kills) and SIGHUP into an orderly exit.

    Inside the block they raise `SystemExit(128 + number)`. Call the yielded function with each lease as its work
    begins; the last one is released however the block ends. If the signal comes when at least nine tenths of the time
    limit are used up, that limit is recorded as the cause; otherwise the job was cancelled or preempted, which says
    nothing about the result. A crash in native code is noted beside the lease, for the next holder.

    Parameters
    ----------
    minutes : time limit of the job, None if it has none.
    started : `time.monotonic()` at its start.
    """
    current: list[Lease] = []

    def begin(lease: Lease) -> None:
        if not current:
            stack.enter_context(_noted_faults(fault_file(lease.path.parent, lease.content)))
        current[:] = [lease]

    def end(number: int, frame: FrameType | None) -> None:
        used = (time.monotonic() - started) / 60
        if current and minutes and used >= NEARLY * minutes:
            current[0].record_crash(TIME, f"it reached its time limit of {minutes:g} min")
        raise SystemExit(128 + number)

    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                stack.callback(signal.signal, number, signal.signal(number, end))
        try:
            yield begin
        finally:
            for lease in current:
                lease.release()


@contextlib.contextmanager
def _noted_faults(path: Path) -> Iterator[None]:
    """Have Python write the traceback of a crash in native code (a segmentation fault) to `path`."""
    before = faulthandler.is_enabled()
    try:
        file = path.open("w", encoding="utf-8")
    except OSError:  # a full disk: the crash will count as a kill
        yield
        return
    with file:
        faulthandler.enable(file)
        try:
            yield
        finally:
            faulthandler.disable()
            if before:
                faulthandler.enable()
            path.unlink(missing_ok=True)
