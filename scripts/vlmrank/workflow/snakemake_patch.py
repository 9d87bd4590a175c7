"""What Snakemake 9.27 has no setting for: its scheduler weighs all ready jobs over and over; files to make again."""

from __future__ import annotations

import threading
from collections.abc import Collection
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


def make_again(workflow: Any, files: Collection[str]) -> None:
    """Have Snakemake make `files` anew, as `--forcerun` does, in a dry run too.

    Its settings are only there once the Snakefile is read, just before the graph of jobs is built.
    """
    if not files or not hasattr(workflow, "_prepare_dag"):
        return
    prepare = workflow._prepare_dag

    def prepare_dag(*arguments: Any, **options: Any) -> Any:
        settings = workflow.dag_settings
        settings.forcerun = {*settings.forcerun, *files}
        return prepare(*arguments, **options)

    workflow._prepare_dag = prepare_dag
