"""Ranking, evaluation and report on published accuracies alone; missing cells are allowed everywhere."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vlmrank.cli.command_line import main
from vlmrank.errors import VlmrankError
from vlmrank.published.evaluate import evaluate_published
from vlmrank.store import read_csv

REFERENCE = Path(os.environ.get("VLMRANK_REFERENCE", "../shared/reference"))
needs_tables = pytest.mark.skipif(
    not (REFERENCE / "lovm_eval_table.csv").exists(), reason=f"no reference tables at {REFERENCE} (VLMRANK_REFERENCE)"
)


def table(models=12, datasets=6, missing=0.0, seed=0):
    rng = np.random.default_rng(seed)
    skill = rng.normal(size=models)
    rows = [
        (f"ViT-B-32--tag{m:02d}", f"task {d}", float(np.clip(0.5 + 0.1 * skill[m] + 0.05 * rng.normal(), 0, 1)))
        for m in range(models)
        for d in range(datasets)
        if rng.random() >= missing
    ]
    return pd.DataFrame(rows, columns=["model", "dataset", "acc1"]).assign(n=np.nan, origin="t.csv")


def test_everything_is_written_and_the_method_is_named(tmp_path):
    run = evaluate_published(table(), tmp_path, targets=["task 0"], reference="task 1", bootstrap=50)
    for name in ("accuracy.csv", "evaluation/metrics.csv", "evaluation/summary.csv", "ranking/task 0.csv"):
        assert (tmp_path / name).stat().st_size > 0
    assert "average_rank" in set(run.summary["method"]) and "vlmrank" in run.left_out
    ranking = read_csv(tmp_path / "ranking" / "task 0.csv")
    assert (ranking["status"] == "ok").all() and ranking["rank"].is_monotonic_increasing
    assert set(run.reference) == set(run.summary["metric"])


def test_the_command_writes_a_report_that_names_the_method(tmp_path, capsys):
    table().to_csv(tmp_path / "table.csv", index=False)
    assert main(["published", str(tmp_path / "table.csv"), "--results", str(tmp_path / "results")]) == 0
    page = (tmp_path / "results" / "report.html").read_text()
    assert "baselines only" in page and "ViT-B-32--tag" in page
    capsys.readouterr()


def test_missing_cells_are_allowed_and_widen_the_interval(tmp_path):
    rows = table(missing=0.3, seed=1)
    run = evaluate_published(rows, tmp_path, targets=["task 0"], bootstrap=50)
    assert run.summary["mean"].notna().all()
    assert (run.rankings["task 0"]["status"] == "ok").all()


def test_a_model_is_ranked_by_the_accuracies_that_it_has(tmp_path):
    known = table(models=10, datasets=8)
    some = known[~((known["model"] == "ViT-B-32--tag07") & ~known["dataset"].isin(["task 1", "task 2"]))]
    part = evaluate_published(some, tmp_path / "some", targets=["task 0"], bootstrap=100).rankings["task 0"]
    row = part.set_index("model").loc["ViT-B-32--tag07"]
    assert row["status"] == "ok" and 1 <= row["rank"] <= 10
    only_target = known[~((known["model"] == "ViT-B-32--tag07") & (known["dataset"] != "task 0"))]
    none = evaluate_published(only_target, tmp_path / "none", targets=["task 0"], bootstrap=100).rankings["task 0"]
    last = none.iloc[-1]
    assert (last["model"], last["status"]) == ("ViT-B-32--tag07", "failed")
    assert "no accuracy" in last["reason"]


def test_names_that_the_table_lacks(tmp_path):
    with pytest.raises(VlmrankError, match="no dataset 'task 9'"):
        evaluate_published(table(), tmp_path, targets=["task 9"])
    with pytest.raises(VlmrankError, match="at least two"):
        evaluate_published(table(datasets=1), tmp_path)


@needs_tables
def test_the_imagenet_baseline_of_lovms_table_is_the_peers_figure(capsys, tmp_path):
    path = REFERENCE / "lovm_eval_table.csv"
    arguments = ["published", str(path), "--format", "lovm", "--reference", "imagenet1k", "--results", str(tmp_path)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    header, line = (
        next(row for row in out.splitlines() if row.startswith(s)) for s in ("method ", "accuracy on imagen")
    )
    values = dict(zip(header.replace(" ↑", "").replace(" ↓", "").split()[1:], line.split()[3:], strict=True))
    assert (values["top5_recall"], values["common_top5_tau"]) == ("0.452174", "0.176812")
    assert "35 models, 23 datasets, 805 accuracies; method: baselines only" in out


@needs_tables
@pytest.mark.parametrize(("layout", "name"), [("openclip", "openclip_results.csv"), ("lovm", "lovm_eval_table.csv")])
def test_the_shipped_name_map_fits_published_tables(layout, name):
    from vlmrank.accuracy.tables import read_tables
    from vlmrank.workflow.config import read_schema
    from vlmrank.workflow.sheets import read_datasets, read_models

    root = Path(__file__).parents[2]
    rows = read_models(root / "config/openclip/models.tsv", read_schema(root / "schemas/models.schema.yaml"))
    tasks = read_datasets(root / "config/openclip/datasets.tsv", read_schema(root / "schemas/datasets.schema.yaml"))
    models, datasets = [row.model for row in rows], [row.dataset for row in tasks]
    found = read_tables(
        [{"path": str(REFERENCE / name), "format": layout}],
        models=models,
        datasets=datasets,
        names=root / "config/openclip/names.tsv",
    )
    if layout == "openclip":
        assert len(found.accuracy) == len(models) * (len(datasets) - 1)
        left = set(found.unmatched.loc[found.unmatched["kind"] == "dataset", "name"])
        assert left == {"Flickr", "MSCOCO", "WinoGAViL", "iWildCam", "Camelyon17", "FMoW", "Dollar Street", "GeoDE"}
    assert not (found.unmatched["kind"] == "cell").any()
    assert found.accuracy["dataset"].nunique() >= 20
