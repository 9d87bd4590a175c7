"""A result file that is not what was written is found at the start of a run, and the others are not read."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from vlmrank.store import Pair, write_json, write_pair
from vlmrank.workflow import integrity
from vlmrank.workflow.integrity import check_results, drop_files, lines_of, note_results

NAMES = {"m", "a", "b"}


@pytest.fixture
def results(tmp_path):
    for name in "ab":
        write_pair(tmp_path / f"results/conductance/m/{name}.h5", Pair(score=np.ones((3, 2)), attributes={"n": name}))
        write_json(tmp_path / f"results/accuracy/m/{name}.json", {"acc1": 0.5})
    (tmp_path / "results/ranking").mkdir()
    (tmp_path / "results/ranking/a.csv").write_text("model,rank\nm,1\n")
    note_results(str(tmp_path / "results"), tmp_path / "notes")
    return tmp_path / "results"


def check(results: Path):
    return check_results(str(results), NAMES, results.parent / "notes")


def flip(path: Path, keep_times: bool = True) -> None:
    facts, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    if keep_times:
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_what_nobody_touched_is_not_read(results, monkeypatch):
    monkeypatch.setattr(integrity, "_verify", lambda *_: pytest.fail("a file was read"))
    assert check(results) == []


@pytest.mark.parametrize("name", ["conductance/m/a.h5", "accuracy/m/a.json", "ranking/a.csv"])
@pytest.mark.parametrize("fault", ["flip", "half", "zero", "gone", "link to nothing"])
def test_each_fault_of_each_kind_is_found_until_it_is_mended(results, name, fault):
    path = results / name
    whole = path.read_bytes()
    if fault == "flip":
        flip(path)
    elif fault in ("half", "zero"):
        path.write_bytes(whole[: len(whole) // 2 if fault == "half" else 0])
        os.utime(path, (0, 0))
    else:
        path.unlink()
        if fault != "gone":
            path.symlink_to("nothing")
    for _ in range(2):  # the first look is a dry run
        (lost,) = check(results)
        assert lost.path == str(path) and lost.reason
        assert len(lines_of([lost])) == 1 and "\n" not in lines_of([lost])[0]
    drop_files([lost])
    assert not os.path.lexists(path)
    note_results(str(results), results.parent / "notes")
    assert [file.reason for file in check(results)] == ["it is gone"], "until it is made anew"
    path.write_bytes(whole)
    assert check(results) == []


def test_a_file_that_changed_and_is_whole_is_read_once(results, monkeypatch):
    write_pair(results / "conductance/m/a.h5", Pair(score=np.zeros((3, 2))))
    assert check(results) == []
    monkeypatch.setattr(integrity, "_verify", lambda *_: pytest.fail("a file was read"))
    assert check(results) == []


def test_a_file_that_nobody_noted_must_have_its_end(results):
    new = results / "conductance/m/c.h5"
    new.write_bytes((results / "conductance/m/a.h5").read_bytes()[:-1])
    assert check_results(str(results), {*NAMES, "c"}, results.parent / "notes")[0].path == str(new)


def test_what_is_in_no_sheet_any_more_is_not_missed(results):
    (results / "conductance/m/a.h5").unlink()
    assert check_results(str(results), {"m", "b"}, results.parent / "notes") == []


def test_what_cannot_be_read_now_is_left_alone(results, monkeypatch):
    os.utime(results / "conductance/m/a.h5")

    def fail(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(integrity, "read_entry", fail)
        assert check(results) == []
    assert check(results) == []


def test_files_of_a_clock_that_was_ahead_are_dated_to_now(results):
    path, other = results / "conductance/m/a.h5", results / "conductance/m/b.h5"
    later, before = time.time() + 3600, other.stat().st_mtime_ns
    os.utime(path, (later, later))
    integrity.bring_back_from_the_future(str(results))
    assert path.stat().st_mtime <= time.time() + 1 and other.stat().st_mtime_ns == before
    assert check(results) == []


def test_no_results_no_notes(tmp_path):
    assert check_results(str(tmp_path / "none"), NAMES, tmp_path) == [] and not list(tmp_path.iterdir())
