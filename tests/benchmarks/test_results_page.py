"""The results page says what the tables say, and says first where the method does not win."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from vlmrank.evaluation.evaluate import METRICS
from vlmrank.store import Pair, write_csv, write_pair

ROOT = Path(__file__).resolve().parents[2]


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


run_bench, write_results = load("run_bench"), load("write_results")

TARGETS = [f"d{index}" for index in range(6)]
METHODS = {
    "vlmrank": ("vlmrank", "ours", False, 0.4),
    "fused": ("vlmrank, fused", "ours", False, 0.5),
    "swab": ("SWAB", "peer", False, 0.3),
    "average_rank": ("average rank", "peer", False, 0.7),
    "logme": ("LogME", "labelled", True, 0.9),
    "random": ("random order", "control", False, 0.1),
}
CONFIG = {
    "images": {"per_dataset": 64},
    "conductance": {"points": 16, "device": "auto"},
    "alignment": {"rho": 1.0},
    "divergence": {"rank": 4},
    "ranking": {"kappa": 0.8},
    "evaluation": {"images": 16, "draws": 10, "labelled": 8, "variant_draws": 3},
}


@pytest.fixture
def results(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        (method, target, metric, level + 0.01 * rng.standard_normal())
        for method, (*_, level) in METHODS.items()
        for target in TARGETS
        for metric in METRICS
    ]
    metrics = pd.DataFrame(rows, columns=["method", "target", "metric", "value"])
    folder = tmp_path / "bench" / "evaluation"
    write_csv(folder / "metrics.csv", metrics)
    write_csv(folder / "domain_metrics.csv", metrics[metrics["method"] != "logme"])
    ours = metrics[metrics["method"].isin(["vlmrank", "fused"])]
    variants = pd.concat([ours.assign(variant=""), ours.assign(variant="rank = 2", value=ours["value"] - 0.1)])
    write_csv(folder / "variant_metrics.csv", variants)
    write_csv(tmp_path / "bench-base" / "evaluation" / "variant_metrics.csv", ours.assign(variant=""))
    write_csv(tmp_path / "bench-points=8" / "evaluation" / "variant_metrics.csv", ours.assign(variant=""))
    described = [(name, title, group, "", sees) for name, (title, group, sees, _) in METHODS.items()]
    columns = ["method", "title", "group", "looks_at", "uses_target_labels"]
    write_csv(folder / "methods.csv", pd.DataFrame(described, columns=columns))
    write_pair(tmp_path / "bench/conductance/ViT--a/d0.h5", Pair(attributes={"status": "ok", "quadrature": "by hand"}))
    cost = pd.DataFrame([("ViT", 16, 2.0, 400, 8.0)])
    write_csv(
        tmp_path / "bench/cost.csv",
        cost.set_axis(["tower", "images", "conductance_s", "test_images", "accuracy_s"], axis=1),
    )
    (tmp_path / "splits.yaml").write_text(f"choose: {TARGETS[:2]}\nreport: {TARGETS[2:]}\n")
    return tmp_path


def test_page_and_summary(results):
    write_results.write_results(results / "bench", results / "docs", results / "splits.yaml", CONFIG)
    page = (results / "docs" / "results.md").read_text()
    first = page.split("\n\n")[2]
    assert "**vlmrank, fused** has" in first
    fused = first[first.index("**vlmrank, fused**") :]
    assert fused.index("does not win") < fused.index("average rank") < fused.index("excludes zero of SWAB")
    assert "LogME" in first
    assert "| rank = 2 |" in page and "| points=8 |" in page and "| base |" in page
    assert "| ViT | 2.00 | 8.00 | 100 |" in page
    assert "1 of them were computed ahead of the run" in page
    summary = pd.read_csv(results / "docs" / "results" / "bench_summary.csv")
    assert list(summary.columns) == ["method", "split", "metric", "mean", "ci_low", "ci_high", "uses_target_labels"]
    assert set(summary["split"]) == {"choose", "report", "all"}
    row = summary[(summary["method"] == "swab") & (summary["split"] == "report") & (summary["metric"] == "ndcg_at_5")]
    assert row["ci_low"].item() <= row["mean"].item() <= row["ci_high"].item()
    np.testing.assert_allclose(row["mean"], 0.3, atol=0.02)
    assert summary.loc[summary["method"] == "logme", "uses_target_labels"].all()


def test_a_part_of_the_bench_is_one_more_configuration_file(tmp_path):
    assert run_bench.command(2, results=tmp_path, part=None)[-2:] == ["--configfile", "config/bench.yaml"]
    call = run_bench.command(2, results=tmp_path / "bench-points=8", part=run_bench.PARTS["points=8"])
    written = yaml.safe_load((tmp_path / "bench-points=8" / "config.yaml").read_text())
    assert str(tmp_path / "bench-points=8" / "config.yaml") in call
    assert written["conductance"] == {"points": 8}
    assert written["results"].endswith("bench-points=8")
