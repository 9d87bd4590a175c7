"""A result is worked on by one process; a crash is noticed; a result that kills is given up."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlmrank.errors import RUN_AGAIN, VlmrankError
from vlmrank.store import leases as module
from vlmrank.store.crashes import Quarantined, describe
from vlmrank.store.leases import Lease, Leases, acquire_run_lock
from vlmrank.store.limits import until_terminated
from vlmrank.store.share_out import share_out

FORK = multiprocessing.get_context("fork")


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


def test_one_holder_at_a_time(tmp_path):
    leases = Leases(tmp_path / "leases")
    with leases.take("a"):
        assert leases.take("a") is None
        assert leases.holder("a")["pid"] == os.getpid()
        leases.take("b").release()
    assert leases.holder("a") is None
    assert list((tmp_path / "leases").iterdir()) == []


def test_a_dead_process_is_noticed_at_once_and_recorded(tmp_path):
    leases = Leases(tmp_path, notes={"memory_mb": 4000})
    a_dead_lease(leases, "a")
    assert leases.holder("a") is None
    with leases.take("a") as lease:
        (crash,) = leases.crashes("ab")["a"]
        assert lease.took_over.path == crash.path and crash.counts
        assert "4000 MB" in describe(crash.holder)
    leases.forget([crash])
    assert leases.crashes(["a"]) == {} and list(tmp_path.iterdir()) == []


ELSEWHERE = {"host": "another machine"}


def test_a_silent_process_elsewhere_is_given_up_after_the_patience(tmp_path):
    leases = Leases(tmp_path, patience=0.3)
    a_dead_lease(leases, "a", **ELSEWHERE)
    assert leases.take("a") is None
    time.sleep(0.4)
    assert leases.take("a") is not None
    assert counted(leases, "a") == [], "nothing says that its host did not go down"


def test_a_clock_an_hour_off_keeps_no_dead_lease_and_kills_no_living_one(tmp_path):
    leases = Leases(tmp_path)
    a_dead_lease(leases, "elsewhere", **ELSEWHERE)
    living = leases.take("here")
    for hours in (-1, 1):
        moment = time.time() + 3600 * hours
        os.utime(living.path, (moment, moment))
        assert leases.take("here") is None
    os.utime(tmp_path / "elsewhere.lease", (moment, moment))
    assert leases.take("elsewhere") is not None


def test_the_heart_beats(tmp_path):
    leases = Leases(tmp_path, beat=0.02)
    with leases.take("a") as lease:
        os.utime(lease.path, (0, 0))
        wait_for(lambda: lease.path.stat().st_mtime > 0)


def wait_for(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOENT])
def test_the_heart_beats_on_after_an_unreadable_moment(tmp_path, monkeypatch, number):
    leases, failed = Leases(tmp_path, beat=0.02), []
    lease = leases.take("a")

    def fail(*_, **__):
        failed.append(number)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        if number == errno.ENOENT:
            lease.path.unlink()
            wait_for(lease.path.exists)
            failed.append(number)
        patch.setattr(os, "utime", fail)
        patch.setattr(Path, "read_text", fail)
        wait_for(lambda: len(failed) > 3)
    os.utime(lease.path, (0, 0))
    wait_for(lambda: lease.path.stat().st_mtime > 0)
    assert leases.take("a") is None
    lease.release()
    assert list(tmp_path.iterdir()) == []


def test_a_lease_is_given_back_after_an_unreadable_moment(tmp_path, monkeypatch):
    lease, unlink, failed = Leases(tmp_path).take("a"), Path.unlink, []

    def fail_twice(path, **options):
        if len(failed) < 2:
            failed.append(path)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", fail_twice)
    lease.release()
    assert not lease.path.exists()


def test_a_lease_that_is_anothers_now_is_left_alone(tmp_path):
    lease = Leases(tmp_path, beat=0.02).take("a")
    lease.path.write_text(json.dumps({**lease.content, "token": "another"}))
    time.sleep(0.1)
    lease.release()
    assert json.loads(lease.path.read_text())["token"] == "another"


@pytest.mark.parametrize("links", [True, False])
def test_two_processes_race_for_one_lease(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "no links")))
    leases, won, start = Leases(tmp_path), FORK.Queue(), FORK.Event()

    def race() -> None:
        start.wait()
        won.put(sum(leases.take(f"k{i}") is not None for i in range(50)))
        time.sleep(1.0)

    processes = [FORK.Process(target=race) for _ in range(2)]
    for process in processes:
        process.start()
    start.set()
    assert sum(won.get(timeout=20) for _ in processes) == 50
    for process in processes:
        process.join(10)


def test_only_one_of_many_takes_over(tmp_path):
    leases = Leases(tmp_path)
    for round_ in range(20):
        a_dead_lease(leases, f"k{round_}")
    won = FORK.Queue()

    def race() -> None:
        taken = [leases.take(f"k{i}") for i in range(20)]
        won.put([lease is not None for lease in taken])
        time.sleep(1.0)

    processes = [FORK.Process(target=race) for _ in range(4)]
    for process in processes:
        process.start()
    results = [won.get(timeout=20) for _ in processes]
    for process in processes:
        process.join(10)
    assert [sum(column) for column in zip(*results, strict=True)] == [1] * 20
    assert all(len(list(tmp_path.glob(f"k{i}.*.crash"))) == 1 for i in range(20))


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


def attempts(keys, leases, folder, poison, limit=5) -> int:
    """Run jobs until one ends by itself, as a scheduler's retries do; return how many that took."""
    for attempt in range(1, limit + 1):
        process = FORK.Process(target=work, args=(keys, leases, folder, poison))
        process.start()
        process.join(20)
        if process.exitcode == 0:
            return attempt
    raise AssertionError(f"no end after {limit} attempts")


def test_a_result_that_kills_is_given_up_and_fails_no_other(tmp_path):
    leases, folder = Leases(tmp_path / "leases"), tmp_path / "made"
    folder.mkdir()
    assert attempts(list("abcd"), leases, folder, poison={"b"}) == 3
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "a": "made",
        "b": "failed",
        "c": "made",
        "d": "made",
    }


def test_a_model_that_always_kills_is_given_up_as_a_whole(tmp_path):
    leases, folder = Leases(tmp_path / "leases"), tmp_path / "made"
    folder.mkdir()
    assert attempts(list("abcdef"), leases, folder, poison=set("abcdef")) == 4
    assert {path.read_text() for path in folder.iterdir()} == {"failed"}


def test_the_reason_says_what_was_seen(tmp_path):
    leases, folder = Leases(tmp_path / "leases", notes={"memory_mb": 500, "minutes": 3}), tmp_path / "made"
    folder.mkdir()
    for _ in range(2):
        a_dead_lease(leases, "a")
        leases.crashes(["a"])
    _, (given_up,) = work(["a", "b"], leases, folder)
    assert given_up.reason.startswith("2 processes ended here; the last (")
    assert "500 MB, 3 min" in given_up.reason
    assert "memory" in given_up.reason and RUN_AGAIN in given_up.reason


def test_power_that_is_lost_does_not_count(tmp_path):
    leases, folder = Leases(tmp_path / "leases"), tmp_path / "made"
    folder.mkdir()
    for _ in range(3):
        a_dead_lease(leases, "a", boot="another boot")
        assert leases.holder("a") is None, "at once, without the patience"
        leases.take("a").release()
    assert work(["a"], leases, folder) == (["a"], [])


def test_a_job_with_more_memory_tries_again_and_the_last_one_gives_up(tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    outcomes = []
    for memory in (1000, 2000, 3000, 4000, 4000):
        leases = Leases(tmp_path / "leases", notes={"memory_mb": memory, "minutes": 10})
        process = FORK.Process(target=work, args=("ab", leases, folder, {"b"}))
        process.start()
        process.join(20)
        outcomes.append(process.exitcode)
    assert outcomes == [-signal.SIGKILL] * 4 + [0]
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a": "made", "b": "failed"}


@pytest.mark.parametrize(
    ("state", "counts"),
    [("CANCELLED", 0), ("PREEMPTED", 0), ("NODE_FAIL", 0), ("FAILED", 1), ("OUT_OF_MEMORY", 1), ("TIMEOUT", 1)],
)
def test_the_scheduler_is_asked_what_became_of_a_job(tmp_path, monkeypatch, state, counts):
    tool = tmp_path / "bin/scontrol"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\n[ "$4" = 7 ] || exit 1\necho "JobId=7 JobName=x JobState={state} Reason=None"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    leases = Leases(tmp_path / "leases", patience=-1.0)
    (tmp_path / "leases").mkdir()
    a_dead_lease(leases, "a", job="7", **ELSEWHERE)
    assert leases.take("a") is not None
    assert len(counted(leases, "a")) == counts


def test_the_folder_is_listed_once_a_round(tmp_path, monkeypatch):
    leases, folder, listed, scandir = Leases(tmp_path / "leases"), tmp_path / "made", [], os.scandir
    folder.mkdir()
    a_dead_lease(leases, "k3")

    def count(path):
        listed.append(path)
        return scandir(path)

    monkeypatch.setattr(module.os, "scandir", count)
    keys = [f"k{i}" for i in range(40)]
    made, _ = work(keys, leases, folder)
    assert len(made) == 40 and len(listed) <= 2


def test_progress_resets_the_count_of_a_model(tmp_path):
    leases, folder = Leases(tmp_path / "leases"), tmp_path / "made"
    folder.mkdir()
    for key in "bc":
        a_dead_lease(leases, key)
    made, given_up = work(list("abc"), leases, folder)
    assert (made, given_up) == (list("abc"), [])
    assert list((tmp_path / "leases").iterdir()) == []


def test_what_another_process_holds_is_waited_for(tmp_path):
    leases, folder = Leases(tmp_path / "leases"), tmp_path / "made"
    folder.mkdir()

    def slow() -> None:
        with leases.take("a"):
            time.sleep(0.7)
            (folder / "a").write_text("made by the other")

    process = FORK.Process(target=slow)
    process.start()
    while leases.holder("a") is None:
        time.sleep(0.01)
    made, _ = work(list("abc"), leases, folder)
    process.join(10)
    assert made == ["b", "c"]
    assert (folder / "a").read_text() == "made by the other"


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


def test_a_shared_folder_stays_writable_for_the_group(tmp_path):
    tmp_path.chmod(0o2775)
    leases = Leases(tmp_path / "leases")
    with leases.take("a") as lease:
        assert lease.path.stat().st_mode & 0o060 == 0o060
        assert leases.folder.stat().st_mode & 0o2070 == 0o2070


def test_one_run_at_a_time_and_a_killed_one_is_no_obstacle(tmp_path):
    leases = Leases(tmp_path)
    lease = leases.take("run")
    with pytest.raises(VlmrankError, match=r"another run is at work here since .*process"):
        acquire_run_lock(tmp_path, "run")
    lease.release()
    a_dead_lease(leases, "run")
    acquire_run_lock(tmp_path, "run")
    assert leases.holder("run")["pid"] == os.getpid()
    assert leases.crashes(["run"]) == {}
