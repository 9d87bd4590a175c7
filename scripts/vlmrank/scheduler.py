"""Keep Snakemake's scheduler from weighing all ready jobs over and over."""

from __future__ import annotations

import threading
from typing import Any


def calm_scheduler(scheduler: Any) -> None:
    """Let a scheduler have one pending look at its ready jobs at a time, in a thread that does not outlive the run.

    Under a rate limit (its default is 100 jobs a second) Snakemake 9.27 starts a timer with every look, and each timer
    leads to another look: every finished job adds one that never ends while jobs are waiting. After some hundred jobs
    the head process does nothing else, and at the end it waits for the last timer.

    Parameters
    ----------
    scheduler : Snakemake's `JobScheduler`; one without such timers is left as it is.
    """
    if not hasattr(scheduler, "_schedule_reevalutation"):
        return
    pending = threading.Event()

    def look_later(delay: float) -> None:
        if pending.is_set():
            return
        pending.set()
        timer = threading.Timer(delay, look)
        timer.daemon = True
        timer.start()

    def look() -> None:
        pending.clear()
        scheduler._open_jobs.release()

    scheduler._schedule_reevalutation = look_later
