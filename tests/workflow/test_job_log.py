"""Log lines of a job, and the last lines of a run."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import pandas as pd
import pytest

from vlmrank.errors import VlmrankError
from vlmrank.store import Pair, read_pair, write_csv, write_pair
from vlmrank.workflow import job_log as runlog
from vlmrank.workflow import outcome

COLUMNS = ["stage", "model", "dataset", "status", "reason", "seconds"]


def write_pairs(folder, *rows):
    write_csv(folder / "pairs.csv", pd.DataFrame([(*row, 0.0) for row in rows], columns=COLUMNS))
    return folder / "pairs.csv"


def test_a_model_that_failed_as_a_whole_is_one_line(tmp_path):
    path = write_pairs(
        tmp_path,
        ("fetch", "bad", "", "failed", "no weights"),
        ("conductance", "bad", "cats", "failed", "the model cannot be used: no weights"),
        ("conductance", "bad", "dogs", "failed", "the model cannot be used: no weights"),
        ("accuracy", "bad", "dogs", "failed", "the model cannot be used: no weights"),
        ("conductance", "good", "cats", "ok", ""),
        ("conductance", "good", "dogs", "ok", ""),
    )
    found = outcome.outcome(path)
    assert (found.pairs, found.failed) == (4, 2)
    assert found.lines == ("  bad (all its pairs): no weights",)
    assert found.rules == ("fetch_model", "compute_conductance", "measure_accuracy")


def test_pairs_of_one_model_with_one_reason_are_one_line(tmp_path):
    path = write_pairs(
        tmp_path,
        *(("conductance", "a", name, "failed", "not finite") for name in ("x", "y", "z")),
        *(("conductance", "b", name, "failed", "too large") for name in ("x", "y")),
        ("conductance", "b", "z", "ok", "left out: image 1.png: no image"),
        ("conductance", "c", "z", "ok", "left out: image 1.png: no image"),
    )
    found = outcome.outcome(path)
    assert found.lines == ("  a on every dataset: not finite", "  b on x, y: too large")
    assert found.notes == ("  z: image 1.png: no image",)
    assert found.rules == ("compute_conductance",)
    assert outcome.outcome(path, {("a", "z"): "compute_conductance_1"}).rules == (
        "compute_conductance",
        "compute_conductance_1",
    )
    assert (found.pairs, found.failed) == (7, 5)


def test_last_lines(tmp_path):
    assert outcome.last_lines(tmp_path, ["t"]) == []
    write_pairs(tmp_path, ("conductance", "a", "x", "ok", ""))
    ranking = pd.DataFrame(
        {"rank": [1.0, 2.0], "model": ["a", "b"], "rank_low": [1, 1], "rank_high": [2, 2], "status": ["ok", "ok"]}
    )
    write_csv(tmp_path / "ranking" / "t.csv", ranking)
    (tmp_path / "report.html").touch()
    lines = outcome.last_lines(tmp_path, ["t"])
    assert lines == [
        "t: take a (90 % interval of its rank: 1 to 2 of 2)",
        "All 1 pairs succeeded.",
        f"Report: {tmp_path}/report.html",
    ]
    assert "(as of 20" in outcome.last_lines(tmp_path, [], since=4e9)[0]
    assert outcome.last_lines(tmp_path, ["t"], since=4e9)[0] == lines[0]
    stopped = outcome.last_lines(tmp_path, ["t"], since=4e9, stopped=True)
    assert stopped[0].startswith(f"t: not ranked, since the run failed; {tmp_path}/ranking/t.csv is of an earlier one")
    assert not any("take" in line for line in stopped) and "(as of 20" in stopped[-1]
    assert outcome.last_lines(tmp_path, ["t"], stopped=True) == lines, "ranked before it failed"


@pytest.mark.parametrize("reached_the_end", [False, True])
def test_a_run_that_failed_recommends_what_it_ranked_itself(tmp_path, monkeypatch, reached_the_end):
    told = []
    monkeypatch.setattr(runlog.atexit, "register", lambda _: None)
    monkeypatch.setattr(runlog, "last_lines", lambda *_, stopped, **__: told.append(stopped) or [])
    monkeypatch.setattr(runlog, "_follower", None)
    monkeypatch.setenv(runlog.CHANNEL, str(tmp_path / "run.log"))
    if reached_the_end:
        (tmp_path / "check_pairs").mkdir()
        (tmp_path / "check_pairs/all.log").touch()
    runlog.close_channel(tmp_path, ["t"], failed=True)
    assert told == [not reached_the_end]


def test_ctrl_c_ends_a_job_without_a_traceback(tmp_path):
    code = "import sys; from vlmrank.workflow.job_log import job\nwith job(sys.argv[1]):\n    raise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.log")], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (130, b"") and (tmp_path / "a.log").read_text() == "stopped by Ctrl-C\n"


def test_ctrl_c_during_the_imports_of_a_job_prints_no_traceback(tmp_path):
    code = "import vlmrank; raise KeyboardInterrupt"
    outside = {name: value for name, value in os.environ.items() if name != runlog.CHANNEL}
    for environment, quiet in (({runlog.CHANNEL: str(tmp_path / "a.log")}, True), ({}, False)):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, env=outside | environment)
        assert done.returncode and (done.stderr == b"") == quiet


def test_a_recommendation_is_a_sentence(tmp_path):
    def said(*rows):
        columns = ["rank", "model", "rank_low", "rank_high", "status"]
        write_csv(tmp_path / "t.csv", pd.DataFrame(rows, columns=columns))
        return outcome.recommendation(tmp_path / "t.csv", "t")

    a, b = (1.5, "a", 1.5, 1.5, "ok"), (1.5, "b", 1.5, 1.5, "ok")
    assert said(a, b) == "t: take a or b (equal scores; 90 % interval of its rank: 1 to 2 of 2)"
    assert said((1, "a", 1, 1, "ok"), b) == "t: take a (rank 1 of 2 with a probability of at least 90 %)"
    assert said((1, "a", 1, 1, "ok"), (None, "b", None, None, "failed")) == "t: take a (the only model)"
    assert said((1, "a", None, None, "ok"), (2, "b", None, None, "ok")) == "t: take a"
    five = [(3.0, name, 1, 5, "ok") for name in "abcde"]
    assert said(*five) == "t: take a or b or c (or another 2) (equal scores; 90 % interval of its rank: 1 to 5 of 5)"
    assert said((None, "a", None, None, "failed")) == "t: no model could be ranked"


def test_results_of_the_wrong_secant_rule_are_met_with_one_line_and_not_read(tmp_path):
    for model, quadrature in (("a", "secant"), ("c", "clenshaw-curtis")):
        (tmp_path / model).mkdir()
        with h5py.File(tmp_path / model / "x.h5", "w") as file:  # as version 1 wrote it, without a seal
            file.attrs.update(status="ok", quadrature=f"arc-length {quadrature}, 16 steps")
    pair = Pair(attributes={"status": "ok", "quadrature": "arc-length secant, 16 steps"})
    write_pair(tmp_path / "b" / "x.h5", pair)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x.h5").write_bytes(b"no pair")
    (line,) = outcome.distrust(tmp_path)
    assert "the conductance of a was made by the secant rule of an earlier version" in line
    for model in "ac":
        with pytest.raises(VlmrankError, match="not a whole result file"):
            read_pair(tmp_path / model / "x.h5")
    assert read_pair(tmp_path / "b" / "x.h5").ok
    (tmp_path / "a" / "x.h5").unlink()
    assert outcome.distrust(tmp_path) == [] == outcome.distrust(tmp_path / "nothing")


def test_lines_of_many_writers_reach_the_reader_whole(tmp_path, monkeypatch):
    monkeypatch.delenv(runlog.CHANNEL, raising=False)
    heard = []
    runlog.open_channel(tmp_path / "run.log", heard.append)

    def write(number):
        for turn in range(50):
            runlog.announce(f"{number} {turn} " + "x" * 200)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runlog._follower.ended.set()
    runlog._follower.join()
    monkeypatch.setattr(runlog, "_follower", None)
    assert sorted(heard) == sorted(f"{number} {turn} " + "x" * 200 for number in range(4) for turn in range(50))


def test_what_several_jobs_of_a_model_fail_for_is_told_once(tmp_path):
    heard, path = [], tmp_path / "run.log"
    follower = runlog._Follower(path, heard.append)
    lines = ["a: FAILED: no weights", "a on x: 0.5", "a: FAILED: no weights", "b: FAILED: no weights", "a on x: 0.5"]
    path.write_text("".join(f"{line}\n" for line in lines[:2]))
    follower.drain()
    path.write_text("".join(f"{line}\n" for line in lines))
    follower.drain()
    assert heard == [*lines[:2], *lines[3:]]


@pytest.mark.parametrize(
    ("body", "told", "logged"),
    [
        ("raise VlmrankError('the sheet is wrong')", "error: the sheet is wrong", "the sheet is wrong"),
        ("1 / 0", "error: ZeroDivisionError: division by zero (traceback in {log})", "Traceback"),
    ],
)
def test_an_error_is_one_line_and_its_traceback_is_in_the_log(tmp_path, body, told, logged):
    log = tmp_path / "job.log"
    code = (
        "import os, sys\nfrom vlmrank.errors import VlmrankError\nfrom vlmrank.workflow.job_log import job\n"
        f"with job({str(log)!r}):\n    os.system('echo from a child')\n    print('from Python')\n    {body}\n"
    )
    scripts = Path(runlog.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(scripts)}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.strip() == told.format(log=log) and done.stdout == ""
    text = log.read_text()
    assert logged in text and "from a child" in text and "from Python" in text
