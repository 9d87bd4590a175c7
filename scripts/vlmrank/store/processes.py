"""Identify this process for other nodes, and tell whether another process still lives."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def host_and_boot() -> tuple[str, str]:
    """Name of this host, and the identifier of its boot (empty where there is none)."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return socket.gethostname(), boot.read_text().strip() if boot.exists() else ""


def _namespace() -> str:
    with contextlib.suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


def _born(pid: int) -> str | None:
    """Return the start time of a process in clock ticks, None if there is no such process (or only its remains)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _user() -> str:
    with contextlib.suppress(KeyError, OSError):
        return getpass.getuser()
    return str(os.getuid())


def this_process() -> dict[str, Any]:
    """Describe this process: host, boot, pid and its namespace, user and, inside a SLURM job, the job number."""
    host, boot = host_and_boot()
    return {
        "host": host,
        "boot": boot,
        "namespace": _namespace(),
        "pid": os.getpid(),
        "born": _born(os.getpid()),
        "user": _user(),
        "job": os.environ.get("SLURM_JOB_ID", ""),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def is_alive(process: Mapping[str, Any]) -> bool | None:
    """Whether a process that `this_process` described still lives; None if unknown from here."""
    host, boot = host_and_boot()
    if process.get("host") != host or not boot or not process.get("boot"):
        return None
    if process["boot"] != boot:
        return False  # this host has been rebooted since
    if process.get("namespace") != _namespace():
        return None  # in a container
    return _born(int(process["pid"])) == process.get("born")
