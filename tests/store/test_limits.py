"""A job that is ended in order leaves no lease."""

import signal
import subprocess
import sys

import pytest
from lease_cases import counted

from vlmrank.store.leases import Lease, Leases
from vlmrank.store.limits import until_terminated


def test_a_signal_before_the_lease_is_in_hand_leaves_none(tmp_path):
    code = """
import os, signal, sys, time
from pathlib import Path
from vlmrank.store import leases
from vlmrank.store.limits import until_terminated
write = leases._write
def write_and_be_told(*arguments, **options):
    write(*arguments, **options)
    os.kill(os.getpid(), signal.SIGHUP)
leases._write = write_and_be_told
with until_terminated(1000, time.monotonic()):
    leases.Leases(Path(sys.argv[1])).take("a")
"""
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 129
    assert list(tmp_path.iterdir()) == []


HELD = """
import ctypes, os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
from pathlib import Path
from vlmrank.store.limits import until_terminated
from vlmrank.store.leases import Leases
leases = Leases(Path(sys.argv[1]))
with until_terminated(float(sys.argv[2]), time.monotonic() - 0.5) as begin, leases.take("a") as lease:
    begin(lease)
    print("ready", flush=True)
    if sys.argv[3] == "crash":
        ctypes.string_at(0)
    time.sleep(30)
"""


@pytest.mark.parametrize(
    ("limit", "ending", "code", "crashes"),
    [
        (0.001, signal.SIGTERM, 143, 1),
        (1000, signal.SIGTERM, 143, 0),
        (1000, signal.SIGHUP, 129, 0),
        (1000, signal.SIGINT, None, 0),
    ],
)
def test_an_orderly_end_leaves_no_lease_and_counts_only_at_the_time_limit(tmp_path, limit, ending, code, crashes):
    command = [sys.executable, "-c", HELD, str(tmp_path), str(limit), "sleep"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(ending)
        assert process.wait(10) == code or code is None
    leases = Leases(tmp_path)
    assert leases.holder("a") is None
    assert len(counted(leases, "a")) == crashes
    assert len(list(tmp_path.iterdir())) == crashes, "no lease and no note is left"
    assert isinstance(leases.take("a"), Lease)


def test_a_crash_in_native_code_is_told_from_a_kill(tmp_path):
    command = [sys.executable, "-c", HELD, str(tmp_path), "1000", "crash"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGSEGV
    with Leases(tmp_path).take("a") as lease:
        assert lease.took_over.holder["cause"] == "crash"
        assert "Segmentation fault" in lease.took_over.holder["how"]
    assert not list(tmp_path.glob(".fault*"))


def test_the_handler_is_put_back(tmp_path):
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with until_terminated(None, 0.0):
        assert signal.getsignal(signal.SIGTERM) is not before[0]
    assert [signal.getsignal(number) for number in numbers] == before
