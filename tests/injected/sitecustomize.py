"""Faults for tests on one machine: with this folder on PYTHONPATH, what $VLMRANK_FAULTS holds says what happens.

`<model>.json` there is a list of faults, of which each job of that model meets the next one when it takes on its first
result; `read.json` one of files that cannot be read once; `head.json` one of signals to the process `head.pid`, sent
when a job takes on its first result. `computed.txt` gets a line for each result that was computed. No file can be
locked or linked. Python imports this module at its start.
"""

import contextlib
import errno
import fcntl
import importlib.abc
import importlib.machinery
import json
import os
import signal
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ["VLMRANK_FAULTS"])
state = {"model": "", "met": False, "full": ""}


def pop(name: str) -> str:
    """Take the next entry off a list, empty if there is none."""
    path = FOLDER / f"{name}.json"
    faults = json.loads(path.read_text()) if path.exists() else []
    if faults:
        path.write_text(json.dumps(faults[1:]))
    return faults[0] if faults else ""


def fail(number: int):
    raise OSError(number, os.strerror(number))


def refuse(number: int):
    return lambda *arguments, **options: fail(number)


os.link = refuse(errno.EPERM)
fcntl.flock = fcntl.lockf = refuse(errno.ENOLCK)


def change_files(files) -> None:
    atomic = files.atomic

    @contextlib.contextmanager
    def atomic_on_a_small_disk(path):
        with atomic(path) as partial:
            yield partial
            if state["full"] and state["full"] in str(path):
                fail(errno.ENOSPC)

    files.atomic = atomic_on_a_small_disk


def change_hdf5(hdf5) -> None:
    verify, opened = hdf5._verify, hdf5.h5py.File

    def verify_or_fail(path):
        pending = FOLDER / "read.json"
        if pending.exists() and any(Path(path).match(name) for name in json.loads(pending.read_text())):
            pop("read")
            fail(errno.EIO)
        verify(path)

    class WithoutLocks(opened):
        def __init__(self, *arguments, locking=None, **options):
            if locking is not False:
                fail(errno.ENOLCK)
            super().__init__(*arguments, locking=locking, **options)

    hdf5._verify, hdf5.h5py.File = verify_or_fail, WithoutLocks


def change_cache(cache) -> None:
    take, publish = cache.ResultStore.take, cache.ResultStore.publish

    def take_and_note(self, identity, destination, **names):
        state["model"] = names.get("model", state["model"])
        return take(self, identity, destination, **names)

    def publish_and_note(self, identity, source):
        publish(self, identity, source)
        with (FOLDER / "computed.txt").open("a") as file:
            file.write(f"{identity}{Path(source).suffix}\n")

    cache.ResultStore.take, cache.ResultStore.publish = take_and_note, publish_and_note


def change_limits(limits) -> None:
    until_terminated = limits.until_terminated

    @contextlib.contextmanager
    def until_terminated_or_worse(minutes, started):
        with until_terminated(minutes, started) as begin:

            def begin_and_fail(lease):
                begin(lease)
                if not state["met"]:
                    state["met"] = True
                    happen(pop(state["model"]), lease)
                    happen_to_the_head(pop("head"))

            yield begin_and_fail

    limits.until_terminated = until_terminated_or_worse


def happen(fault: str, lease) -> None:
    """Let a fault happen to this process, which holds a lease."""
    if fault.startswith("full "):
        state["full"] = fault.removeprefix("full ")
    elif fault == "power":
        lease.path.write_text(json.dumps({**lease.content, "boot": "before the power was lost"}))
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault:
        os.kill(os.getpid(), getattr(signal, fault))


def happen_to_the_head(name: str) -> None:
    """Send the head a signal, as a terminal does with its jobs; one that survives it is at work until `go` is there."""
    if not name:
        return
    send = os.killpg if name in ("SIGINT", "SIGHUP") else os.kill
    send(int((FOLDER / "head.pid").read_text()), getattr(signal, name))
    end = time.monotonic() + 180
    while name != "SIGTERM" and not (FOLDER / "go").exists() and time.monotonic() < end:
        time.sleep(0.2)


CHANGES = {
    "vlmrank.store.files": change_files,
    "vlmrank.store.hdf5": change_hdf5,
    "vlmrank.store.cache": change_cache,
    "vlmrank.store.limits": change_limits,
}


class Finder(importlib.abc.MetaPathFinder):
    """Find the modules of `CHANGES` as ever, and change them once they are there."""

    def find_spec(self, name, path=None, target=None):
        if name not in CHANGES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def execute_and_change(module):
            execute(module)
            CHANGES[name](module)

        spec.loader.exec_module = execute_and_change
        return spec


sys.meta_path.insert(0, Finder())
