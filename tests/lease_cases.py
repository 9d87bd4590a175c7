"""Processes that hold leases and die."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

from vlmrank.store.crashes import Quarantined
from vlmrank.store.leases import Leases
from vlmrank.store.share_out import share_out

FORK = multiprocessing.get_context("fork")
ELSEWHERE = {"host": "another machine"}


def a_dead_lease(leases: Leases, key: str, **changed) -> None:
    """Leave the lease of a process that was killed."""

    def hold() -> None:
        leases.take(key)
        os.kill(os.getpid(), signal.SIGKILL)

    process = FORK.Process(target=hold)
    process.start()
    process.join(10)
    assert process.exitcode == -signal.SIGKILL
    if changed:
        path = leases.folder / f"{key}.lease"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def counted(leases: Leases, key: str) -> list:
    return [crash for crash in leases.crashes([key]).get(key, ()) if crash.counts]


def work(keys, leases, folder: Path, poison=()):
    """Make the results as a job does; return what was made and what was given up."""
    made, given_up = [], []
    for item in share_out(keys, leases, lambda key: (folder / key).exists(), poll=0.05):
        if isinstance(item, Quarantined):
            given_up.append(item)
            (folder / item.key).write_text("failed")
            continue
        with item:
            if item.key in poison:
                os.kill(os.getpid(), signal.SIGKILL)
            (folder / item.key).write_text("made")
            made.append(item.key)
    return made, given_up
