"""Record processes that ended without finishing a result, and decide when a result is given up.

A host that went down and a job that was cancelled or preempted do not count. A process that was killed, or ran out of
memory or time, counts unless the current job has more memory or time. A crash in native code always counts.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmrank.errors import RUN_AGAIN
from vlmrank.store.processes import host_and_boot

CRASHES_OF_A_RESULT = 2
CRASHES_IN_A_ROW = 3
NATIVE, KILLED, TIME, EXCUSED = "crash", "killed", "time", ""
# States of a SLURM job that say nothing about its result.
ELSEWHERE = ("CANCELLED", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REQUEUED", "REVOKED", "SUSPENDED", "STOPPED")
OUT_OF_TIME = ("TIMEOUT", "DEADLINE")


@dataclass(frozen=True)
class Crash:
    """A holder that ended without finishing its result; `time` by the clock of the file system."""

    path: Path
    time: float
    holder: Mapping[str, Any]

    @property
    def counts(self) -> bool:
        """Whether the result itself may be the cause."""
        return self.holder.get("cause", KILLED) != EXCUSED


@dataclass(frozen=True)
class Quarantined:
    """A result that is given up, with the reason."""

    key: str
    reason: str


def describe(holder: Mapping[str, Any]) -> str:
    """Describe a holder in words.

    >>> describe({"host": "n1", "pid": 7, "user": "ada", "job": "12", "memory_mb": 4000, "minutes": 30})
    'SLURM job 12 of ada on n1, process 7, 4000 MB, 30 min'
    """
    parts = [f"SLURM job {holder['job']} of " if holder.get("job") else ""]
    parts[0] += f"{holder.get('user', 'somebody')} on {holder.get('host', 'an unknown host')}"
    parts.append(f"process {holder.get('pid', '?')}")
    parts += [f"{holder[name]} {unit}" for name, unit in (("memory_mb", "MB"), ("minutes", "min")) if holder.get(name)]
    return ", ".join(parts)


def fault_file(folder: Path, holder: Mapping[str, Any]) -> Path:
    """Where Python writes the traceback of a crash in native code (`vlmrank.store.limits`)."""
    return folder / f".fault-{holder.get('host')}-{holder.get('pid')}-{holder.get('born')}"


def cause_of_death(holder: Mapping[str, Any], folder: Path) -> tuple[str, str]:
    """Why a process ended: one of the causes above, and a description."""
    fault = fault_file(folder, holder)
    try:
        noted = fault.read_text(encoding="utf-8", errors="replace").strip()
        fault.unlink(missing_ok=True)
    except OSError:
        noted = ""
    if noted:
        return NATIVE, f"it crashed in native code ({noted.splitlines()[0]})"
    host, boot = host_and_boot()
    here = holder.get("host") == host
    if here and holder.get("boot") != boot:
        return EXCUSED, "its host was started anew"
    state = _slurm_state(str(holder.get("job") or ""))
    if state.startswith(ELSEWHERE):
        return EXCUSED, f"its job was {state}"
    if state.startswith(OUT_OF_TIME):
        return TIME, "it reached its time limit"
    if state.startswith("OUT_OF_MEMORY"):
        return KILLED, "it ran out of memory"
    if not here and not holder.get("job"):
        return EXCUSED, "its host fell silent"
    return KILLED, "it was killed: not enough memory, or by somebody"


def _slurm_state(job: str) -> str:
    """State of a SLURM job, empty if unknown."""
    if not job.isdigit() or not shutil.which("scontrol"):
        return ""
    try:
        command = ["scontrol", "--oneliner", "show", "job", job]
        found = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next((word.partition("=")[2] for word in found.split() if word.startswith("JobState=")), "")


def reason_to_quarantine(own: Sequence[Crash], all_of_them: Sequence[Crash], given: Mapping[str, Any]) -> str | None:
    """Reason to give a result up; None if it should be tried.

    Two crashes of its own are enough, or three of any of the job's results since the last finished one: then no single
    result is at fault (the model may not fit into memory). Crashes in native code always count, others only if the last
    one had at least the memory and time of this job.

    Parameters
    ----------
    own : crashes of this result, oldest first.
    all_of_them : crashes of any result of the job.
    given : `memory_mb` and `minutes` of this job, as far as known.
    """
    own = [crash for crash in own if crash.counts]
    row = [crash for crash in all_of_them if crash.counts and not crash.holder.get("alone")]
    for some, least, where in (
        (own, CRASHES_OF_A_RESULT, "here"),
        (row, CRASHES_IN_A_ROW, "at this model's datasets"),
    ):
        native = [crash for crash in some if crash.holder.get("cause") == NATIVE]
        if len(native) >= least:
            return _sentence(native, where)
        if len(some) >= least and not _has_more(given, max(some, key=lambda crash: crash.time).holder):
            return f"{_sentence(some, where)}; {RUN_AGAIN} to try once more"
    return None


def _sentence(crashes: Sequence[Crash], where: str) -> str:
    last = max(crashes, key=lambda crash: crash.time).holder
    how = last.get("how") or "it was killed: not enough memory, or by somebody"
    return f"{len(crashes)} processes ended {where}; the last ({describe(last)}): {how}"


def _has_more(given: Mapping[str, Any], holder: Mapping[str, Any]) -> bool:
    return any(given.get(name) and holder.get(name) and given[name] > holder[name] for name in ("memory_mb", "minutes"))
