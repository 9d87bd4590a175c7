"""The scheduler of the installed Snakemake has the timers that are tamed here, and then no more than one of them."""

import logging
import threading
from types import SimpleNamespace

from snakemake.scheduling.job_scheduler import JobScheduler

from vlmrank.workflow.snakemake_patch import debounce_rescheduling, drop_no_news, planned_outputs


class Scheduler:
    def __init__(self):
        self._open_jobs = threading.Semaphore(0)

    _schedule_reevalutation = JobScheduler._schedule_reevalutation


def looks(scheduler: Scheduler, times: int) -> int:
    for _ in range(times):
        scheduler._schedule_reevalutation(0.05)
    found = 0
    while scheduler._open_jobs.acquire(timeout=1.0):
        found += 1
    return found


def test_one_look_is_pending_at_a_time():
    assert looks(Scheduler(), times=20) == 20
    calm = Scheduler()
    debounce_rescheduling(SimpleNamespace(scheduler=calm))
    assert looks(calm, times=20) == 1
    assert looks(calm, times=20) == 1
    assert all(thread.daemon for thread in threading.enumerate() if isinstance(thread, threading.Timer))


def test_a_scheduler_without_timers_is_left_alone():
    other = object()
    debounce_rescheduling(SimpleNamespace(scheduler=other))


def test_what_is_no_news_is_not_logged(caplog):
    drop_no_news()
    log = logging.getLogger("snakemake.logging")
    with caplog.at_level(logging.INFO, logger=log.name):
        for line in ("Conda environments: ignored", "Job stats"):
            log.info(line)
    assert [record.getMessage() for record in caplog.records] == ["Job stats"]


def test_planned_outputs_are_those_of_the_jobs_to_run():
    jobs = [SimpleNamespace(output=["a", "b"]), SimpleNamespace(output=["c"])]
    graph = SimpleNamespace(needrun_jobs=lambda: jobs)
    assert planned_outputs(SimpleNamespace(dag=graph)) == ["a", "b", "c"]
    assert planned_outputs(SimpleNamespace(dag=None)) == planned_outputs(object()) == []
