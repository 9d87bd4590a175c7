"""Labels of a target in a run: the list, the page, the next run that uses them, and a mistake in them."""

import os
import subprocess
import sys

import pandas as pd
import pytest
from tiny_zoo import make_zoo
from workspace import Workspace

from vlmrank import store

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(not os.environ.get("VLMRANK_SLOW_TESTS"), reason="set VLMRANK_SLOW_TESTS=1 to run it"),
]


def test_labels_change_the_ranking_alone_and_a_mistake_is_said(tmp_path):
    work = Workspace(tmp_path / "run")
    make_zoo(work.folder, ["A", "B", "C"], ["c1", "c2", "t"])
    work.configure(images={"per_dataset": 4}, conductance={"points": 2, "device": "cpu"})
    done = work.snakemake()
    assert done.returncode == 0, done.stdout + done.stderr
    ranking = work.folder / "results/ranking"
    listed, before = pd.read_csv(ranking / "t.to_label.csv"), store.read_json(ranking / "t.answer.json")
    assert before["labels"] == 0
    assert len(listed) == before["to_label"]
    card = store.read_json(work.folder / "results/datasets/t.json")
    images = [one["id"] for one in (*card["images"], *card["predicted"])]
    environment = {**os.environ, "PYTHONPATH": str(work.folder / "scripts")}
    command = [sys.executable, "-m", "vlmrank.cli.command_line", "label", "t"]
    subprocess.run(command, cwd=work.folder, env=environment, check=True, capture_output=True)
    assert (ranking / "t.label.html").is_file() == bool(before["to_label"])

    given = pd.DataFrame({"image": images, "label": [card["classes"][0]] * len(images)})
    (work.folder / "labels").mkdir()
    given.to_csv(work.folder / "labels/t.csv", index=False)
    done = work.snakemake()
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "rule rank_models" in said or "rank_models" in said
    assert "compute_conductance" not in said
    after = store.read_json(ranking / "t.answer.json")
    assert after["labels"] == len(images)
    table = pd.read_csv(ranking / "t.csv")
    parts = [name for name in table if name.startswith("part: ")]
    assert len(parts) == 2
    assert (table[parts].sum(axis=1) - table["score"]).abs().max() < 1e-6

    given.assign(label="no such class").to_csv(work.folder / "labels/t.csv", index=False)
    done = work.snakemake()
    assert done.returncode != 0
    assert "labels/t.csv, line 2: there is no class 'no such class'" in done.stdout + done.stderr
