"""A target ranked from packs has the ranking that it has from the source images, to the last digit."""

import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from tiny_zoo import make_zoo
from workspace import Workspace

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(not os.environ.get("VLMRANK_SLOW_TESTS"), reason="set VLMRANK_SLOW_TESTS=1 to run it"),
]
TABLES = ("ranking/t.csv", "ranking/t.weights.csv", "accuracy.csv", "accuracy_per_class.csv")
EVALUATION = ("metrics", "summary", "differences", "calibration")


@pytest.mark.parametrize("kind", ["subspace", "coverage", "kl"])
def test_packs_rank_as_the_images_do(tmp_path, kind):
    first = Workspace(tmp_path / "images")
    make_zoo(first.folder, ["A", "B"], ["c1", "c2", "t"])
    settings = {
        "images": {"per_dataset": 4},
        "conductance": {"points": 2, "device": "cpu"},
        "divergence": {"kind": kind},
    }
    first.configure(**settings)
    done = first.snakemake()
    assert done.returncode == 0, done.stdout + done.stderr
    command = [sys.executable, "-m", "vlmrank.cli.command_line", "pack", "--out", str(tmp_path / "packs")]
    environment = {**os.environ, "PYTHONPATH": str(first.folder / "scripts")}
    subprocess.run(command, cwd=first.folder, env=environment, check=True, capture_output=True)
    second = Workspace(tmp_path / "packed")
    shutil.copytree(first.folder / "zoo", second.folder / "zoo")
    shutil.copytree(first.folder / "images/t", second.folder / "images/t")
    shutil.copy(first.folder / "config/models.tsv", second.folder / "config/models.tsv")
    second.write("config/datasets.tsv", "dataset\trole\tkind\tpath\nt\ttarget\tfolder\timages/t\n")
    second.configure(**settings, packs=[str(tmp_path / "packs")])
    done = second.snakemake()
    assert done.returncode == 0, done.stdout + done.stderr
    for name in (*TABLES, *(f"evaluation/{name}.csv" for name in EVALUATION)):
        was, now = (pd.read_csv(one.folder / "results" / name, comment="#") for one in (first, second))
        keys = list(was.columns)
        was, now = (one.sort_values(keys, ignore_index=True) for one in (was, now))
        assert_frame_equal(was, now, check_exact=True, obj=name)
    answers = [(one.folder / "results/ranking/t.answer.json").read_bytes() for one in (first, second)]
    assert answers[0] == answers[1]
