"""The line that says how far a run has come."""

import os

from vlmrank.workflow.progress import PairProgress


def write(path, when):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (when, when))


def test_counts_the_pairs_that_this_run_wrote(tmp_path):
    names = [tmp_path / "conductance" / model / f"{dataset}.h5" for model in "ab" for dataset in "xy"]
    progress = PairProgress([*map(str, names), str(tmp_path / "report.html")], started=1000.0)
    write(names[0], 900)  # of an earlier run: it is to be made again
    assert progress.line(now=1100.0) == ""
    write(names[0], 1050)
    write(names[1], 1060)
    assert progress.line(now=1110.0) == "", "too soon after the last look"
    assert progress.line(now=1200.0) == "2 of 4 pairs computed, about 3 min left; the last: a on y"
    assert progress.line(now=1300.0) == "", "nothing new"
    for name in names[2:]:
        write(name, 1310)
    assert progress.line(now=1400.0).startswith("4 of 4 pairs computed; the last: b on ")
    assert progress.line(now=1500.0) == ""


def test_a_run_without_pairs_says_nothing(tmp_path):
    assert PairProgress([str(tmp_path / "report.html")], started=0.0).line(now=1e6) == ""
