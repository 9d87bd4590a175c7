"""Every undocumented name of Snakemake that we use, and nothing else.

docs/cluster.md says which behaviour of Snakemake `debounce_rescheduling` works around, and when it can go.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

NO_NEWS = ("Conda environments: ignored", "Singularity containers: ignored")
PRIVATE = (
    "snakemake.scheduling.job_scheduler:JobScheduler._schedule_reevalutation",
    "snakemake.scheduling.job_scheduler:JobScheduler._open_jobs",
    "snakemake.workflow:Workflow._prepare_dag",
    "snakemake.workflow:Workflow.dag",
    "snakemake.dag:DAG.needrun_jobs",
    "snakemake.workflow:Workflow.dag_settings",
    "snakemake.workflow:Workflow.is_main_process",
    "snakemake.workflow:Workflow.configfiles",
    "snakemake.workflow:Workflow.overwrite_configfiles",
    "snakemake.workflow:Workflow.rules",
    "snakemake.workflow:Workflow.scheduler",
)


def is_head_process(workflow: Any) -> bool:
    """Whether this is the process that a user started, not Snakemake inside a scheduler's job."""
    return workflow.is_main_process


def config_files(workflow: Any) -> list[Path]:
    """The configuration files, those of the command line last."""
    return [*workflow.configfiles, *workflow.overwrite_configfiles]


def outputs_so_far(workflow: Any) -> list[str]:
    """Outputs of the rules defined so far, sorted."""
    return sorted(str(path) for rule in workflow.rules for path in rule.output)


def planned_outputs(workflow: Any) -> list[str]:
    """The files that this run is to make; empty if Snakemake does not say."""
    try:
        jobs = workflow.dag.needrun_jobs()
    except AttributeError:  # no graph yet
        return []
    return [str(path) for job in jobs for path in job.output]


def _is_news(record: logging.LogRecord) -> bool:
    return record.getMessage() not in NO_NEWS


def drop_no_news() -> None:
    """Suppress log lines that only say that an option was not given."""
    logging.getLogger("snakemake.logging").addFilter(_is_news)


def debounce_rescheduling(workflow: Any) -> None:
    """Keep at most one re-evaluation of the ready jobs pending, in a thread that does not outlive the run.

    Under a rate limit (100 jobs per second by default) Snakemake 9.27 starts a timer at each re-evaluation, and each
    timer triggers another one. So every finished job adds a timer that never ends while jobs are waiting. After some
    hundred jobs the head process does nothing else, and at the end it waits for the last timer.

    A scheduler without such timers is left as it is.
    """
    scheduler = workflow.scheduler
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

    Snakemake's settings exist only after the Snakefile is read, just before the job graph is built.
    """
    if not files or not hasattr(workflow, "_prepare_dag"):
        return
    prepare = workflow._prepare_dag

    def prepare_dag(*arguments: Any, **options: Any) -> Any:
        settings = workflow.dag_settings
        settings.forcerun = {*settings.forcerun, *files}
        return prepare(*arguments, **options)

    workflow._prepare_dag = prepare_dag
