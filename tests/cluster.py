"""A real one-node SLURM for tests: started by slurm/slurm_up.sh, used by one test at a time."""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

FOLDER = Path("/var/tmp/vlmrank-slurm")
SCRIPTS = Path(__file__).resolve().parent / "slurm"
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")


def start() -> str:
    """Start the scheduler; return why that is impossible, or an empty text."""
    missing = [name for name in PROGRAMS if not shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")]
    if missing:
        return f"SLURM is not installed ({', '.join(missing)}); tests/slurm/slurm_up.sh installs it on Debian"
    if os.geteuid() != 0:
        return "a SLURM of our own can only be started by root"
    done = subprocess.run([SCRIPTS / "slurm_up.sh", FOLDER], capture_output=True, text=True, timeout=300, check=False)
    return "" if done.returncode == 0 else f"SLURM did not start: {done.stderr.strip().splitlines()[-1]}"


@contextlib.contextmanager
def alone():
    """Keep other test processes away from the scheduler."""
    with Path(f"{FOLDER}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def tool(*command: str) -> str:
    """Run a SLURM command and return what it prints."""
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


def wait_for(condition, seconds: float = 60, every: float = 0.3):
    """Return the first true value of a function, or fail."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s for {getattr(condition, '__name__', condition)}")
        time.sleep(every)


class Jobs(list):
    """Jobs as scontrol shows them, oldest first, those of one working directory."""

    @classmethod
    def of(cls, folder: Path) -> "Jobs":
        found = cls()
        for line in tool("scontrol", "--oneliner", "--details", "show", "job").splitlines():
            job = dict(re.findall(r"(\w+)=(\S*)", line))
            if job.get("WorkDir") == str(folder.resolve()):
                found.append(job)
        return cls(sorted(found, key=lambda job: int(job["JobId"])))

    def of_rule(self, name: str) -> "Jobs":
        """Jobs of a rule or group, by the beginning of the comment that the executor gives them."""
        return Jobs(job for job in self if job["Comment"].startswith((f"rule_{name}", f"group_{name}")))

    def running(self) -> "Jobs":
        return Jobs(job for job in self if job["JobState"] == "RUNNING")

    @property
    def most_at_once(self) -> int:
        """The largest number that ran at the same time, by full seconds."""
        events = sorted((job[name], step) for job in self for name, step in (("StartTime", 1), ("EndTime", -1)))
        count = most = 0
        for _, step in events:
            count += step
            most = max(most, count)
        return most
