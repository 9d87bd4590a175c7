"""A result or a model that kills its processes is given up, with the reason; an outage counts for nothing."""

import os
import signal

import pytest
from lease_cases import ELSEWHERE, FORK, a_dead_lease, counted, work

from vlmrank.errors import RUN_AGAIN
from vlmrank.store.leases import Leases


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


def test_progress_resets_the_count_of_a_model(tmp_path):
    leases, folder = Leases(tmp_path / "leases"), tmp_path / "made"
    folder.mkdir()
    for key in "bc":
        a_dead_lease(leases, key)
    made, given_up = work(list("abc"), leases, folder)
    assert (made, given_up) == (list("abc"), [])
    assert list((tmp_path / "leases").iterdir()) == []
