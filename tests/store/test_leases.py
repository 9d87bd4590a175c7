"""A result is worked on by one process; a death is noticed; a result that kills is given up."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlmrank.errors import VlmrankError
from vlmrank.store.leases import Claim, Claims, Poison, describe, share_out, stand_guard, until_terminated

SPAWN = multiprocessing.get_context("fork")


def a_dead_claim(claims: Claims, key: str) -> None:
    """Leave the claim of a process that was killed."""

    def hold() -> None:
        claims.take(key)
        os.kill(os.getpid(), signal.SIGKILL)

    process = SPAWN.Process(target=hold)
    process.start()
    process.join(10)
    assert process.exitcode == -signal.SIGKILL


def test_one_holder_at_a_time(tmp_path):
    claims = Claims(tmp_path / "claims")
    with claims.take("a"):
        assert claims.take("a") is None
        assert claims.holder("a")["pid"] == os.getpid()
        claims.take("b").release()
    assert claims.holder("a") is None
    assert list((tmp_path / "claims").iterdir()) == []


def test_a_dead_process_is_noticed_at_once_and_recorded(tmp_path):
    claims = Claims(tmp_path, notes={"memory_mb": 4000})
    a_dead_claim(claims, "a")
    assert claims.holder("a") is None
    with claims.take("a"):
        (death,) = claims.deaths("a")
        assert death["memory_mb"] == 4000
        assert "4000 MB" in describe(death)
    claims.forget(["a"])
    assert claims.deaths("a") == []


def test_a_silent_process_elsewhere_is_given_up_after_the_patience(tmp_path):
    claims = Claims(tmp_path, patience=0.2)
    claim = claims.take("a")
    text = claim.path.read_text()
    claim._stop.set()
    claim.path.write_text(text.replace(claim.content["place"], "another machine"))
    assert claims.take("a") is None
    time.sleep(0.3)
    assert claims.take("a") is not None
    assert len(claims.deaths("a")) == 1


def test_the_heart_beats(tmp_path):
    claims = Claims(tmp_path, beat=0.02)
    with claims.take("a") as claim:
        os.utime(claim.path, (0, 0))
        deadline = time.monotonic() + 5
        while claim.path.stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_only_one_of_many_takes_over(tmp_path):
    claims = Claims(tmp_path)
    for round_ in range(20):
        a_dead_claim(claims, f"k{round_}")
    won = SPAWN.Queue()

    def race() -> None:
        taken = [claims.take(f"k{i}") for i in range(20)]
        won.put([claim is not None for claim in taken])
        time.sleep(1.0)

    processes = [SPAWN.Process(target=race) for _ in range(4)]
    for process in processes:
        process.start()
    results = [won.get(timeout=20) for _ in processes]
    for process in processes:
        process.join(10)
    assert [sum(column) for column in zip(*results, strict=True)] == [1] * 20
    assert all(len(claims.deaths(f"k{i}")) == 1 for i in range(20))


def work(keys, claims, folder: Path, poison=()):
    """Make the results as a job does; return what was made and what was given up."""
    made, given_up = [], []
    for item in share_out(keys, claims, lambda key: (folder / key).exists(), poll=0.05):
        if isinstance(item, Poison):
            given_up.append(item)
            (folder / item.key).write_text("failed")
            continue
        with item:
            if item.key in poison:
                os.kill(os.getpid(), signal.SIGKILL)
            (folder / item.key).write_text("made")
            made.append(item.key)
    return made, given_up


def attempts(keys, claims, folder, poison, limit=4) -> int:
    """Run jobs until one ends by itself, as a scheduler's retries do; return how many that took."""
    for attempt in range(1, limit + 1):
        process = SPAWN.Process(target=work, args=(keys, claims, folder, poison))
        process.start()
        process.join(20)
        if process.exitcode == 0:
            return attempt
    raise AssertionError(f"no end after {limit} attempts")


def test_a_result_that_kills_is_given_up_and_fails_no_other(tmp_path):
    claims, folder = Claims(tmp_path / "claims"), tmp_path / "made"
    folder.mkdir()
    assert attempts(list("abcd"), claims, folder, poison={"b"}) == 3
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "a": "made",
        "b": "failed",
        "c": "made",
        "d": "made",
    }


def test_a_model_that_always_kills_is_given_up_as_a_whole(tmp_path):
    claims, folder = Claims(tmp_path / "claims"), tmp_path / "made"
    folder.mkdir()
    assert attempts(list("abcdef"), claims, folder, poison=set("abcdef")) == 4
    assert {path.read_text() for path in folder.iterdir()} == {"failed"}


def test_the_reason_says_what_was_seen(tmp_path):
    claims, folder = Claims(tmp_path / "claims", notes={"memory_mb": 500, "minutes": 3}), tmp_path / "made"
    folder.mkdir()
    for _ in range(2):
        a_dead_claim(claims, "a")
    _, (poison,) = work(["a", "b"], claims, folder)
    assert poison.reason.startswith("2 processes ended here; the last (")
    assert "500 MB, 3 min" in poison.reason
    assert "memory" in poison.reason


def test_progress_resets_the_count_of_a_model(tmp_path):
    claims, folder = Claims(tmp_path / "claims"), tmp_path / "made"
    folder.mkdir()
    for key in "bc":
        a_dead_claim(claims, key)
    made, given_up = work(list("abc"), claims, folder)
    assert (made, given_up) == (list("abc"), [])
    assert list((tmp_path / "claims").iterdir()) == []


def test_what_another_process_holds_is_waited_for(tmp_path):
    claims, folder = Claims(tmp_path / "claims"), tmp_path / "made"
    folder.mkdir()

    def slow() -> None:
        with claims.take("a"):
            time.sleep(0.7)
            (folder / "a").write_text("made by the other")

    process = SPAWN.Process(target=slow)
    process.start()
    while claims.holder("a") is None:
        time.sleep(0.01)
    made, _ = work(list("abc"), claims, folder)
    process.join(10)
    assert made == ["b", "c"]
    assert (folder / "a").read_text() == "made by the other"


@pytest.mark.parametrize(("limit", "deaths"), [(0.001, 1), (1000, 0)])
def test_a_time_limit_is_a_death_and_a_cancellation_is_none(tmp_path, limit, deaths):
    code = f"""
import time
from pathlib import Path
from vlmrank.store.leases import Claims, until_terminated
claims = Claims(Path({str(tmp_path)!r}))
with until_terminated({limit}, time.monotonic() - 0.5) as begin, claims.take("a") as claim:
    begin(claim)
    print("ready", flush=True)
    time.sleep(30)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143
    claims = Claims(tmp_path)
    assert claims.holder("a") is None
    assert len(claims.deaths("a")) == deaths
    assert isinstance(claims.take("a"), Claim)


def test_the_handler_is_put_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with until_terminated(None, 0.0):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_shared_folder_stays_writable_for_the_group(tmp_path):
    tmp_path.chmod(0o2775)
    claims = Claims(tmp_path / "claims")
    with claims.take("a") as claim:
        assert claim.path.stat().st_mode & 0o060 == 0o060
        assert claims.folder.stat().st_mode & 0o2070 == 0o2070


def test_one_run_at_a_time_and_a_killed_one_is_no_obstacle(tmp_path):
    claims = Claims(tmp_path)
    claim = claims.take("run")
    with pytest.raises(VlmrankError, match=r"another run is at work here since .*process"):
        stand_guard(tmp_path, "run")
    claim.release()
    a_dead_claim(claims, "run")
    stand_guard(tmp_path, "run")
    assert claims.holder("run")["pid"] == os.getpid()
    assert claims.deaths("run") == []
