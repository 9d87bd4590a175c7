"""A result is worked on by one process, and a lease whose process has died is noticed."""

import errno
import json
import os
import time
from pathlib import Path

import pytest
from lease_cases import ELSEWHERE, FORK, a_dead_lease, counted

from vlmrank.errors import VlmrankError
from vlmrank.store.crashes import describe
from vlmrank.store.leases import Leases, acquire_run_lock


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
