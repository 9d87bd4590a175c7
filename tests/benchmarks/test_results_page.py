"""The bench's JSON and the page made of it say what the tables say, ahead or behind."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from vlmrank.baselines import Evidence, Method
from vlmrank.baselines.base import TRUTH
from vlmrank.evaluation.evaluate import evaluate_methods
from vlmrank.evaluation.scores import Scores, write_scores
from vlmrank.store import write_csv

ROOT = Path(__file__).resolve().parents[2]


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


run_bench, bench_report, write_results = load("run_bench"), load("bench_report"), load("write_results")

DATASETS = [f"d{index}" for index in range(12)]
# method -> title, group, looks at, noise added to the truth
METHODS = {
    "fused": ("vlmrank, fused", "ours", "target images; source accuracies", 0.05),
    "vlmrank": ("vlmrank", "ours", "target images; source accuracies", 3.0),
    "by_embedding": ("embeddings", "counterpart", "target images; source accuracies", 0.5),
    "swab": ("SWAB", "peer", "class names; source accuracies", 0.8),
    "average_rank": ("average rank", "peer", "source accuracies", 0.7),
    "doc": ("difference of confidences", "peer", "target images; source accuracies", 0.2),
    "average_rank+doc": ("average rank + difference of confidences", "peer", "target images", 0.02),
    "logme": ("LogME", "labelled", "target images; target labels", 0.4),
    "random": ("random order", "control", "", 100.0),
    "noise_ceiling": ("ceiling: the truth measured again", "control", "true accuracies", 0.02),
}
SETTINGS = {"images": {"per_dataset": 16}, "conductance": {"points": 8}}


def method(name, noise):
    def score(view):
        drawn = np.random.default_rng([view.target, len(name)]).standard_normal(view.models)
        return view.true_accuracy + noise * drawn

    return Method(name, METHODS[name][0], frozenset({TRUTH}), score)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A results folder with ten methods whose quality is known, the splits and the sheet."""
    place = tmp_path_factory.mktemp("bench")
    truth = np.random.default_rng(0).random((10, len(DATASETS)))
    data = Evidence(models=[f"m{index}" for index in range(10)], datasets=DATASETS, accuracy=truth)
    found = evaluate_methods(data, [method(name, values[3]) for name, values in METHODS.items()])
    evaluation = place / "evaluation"
    write_csv(evaluation / "metrics.csv", found.metrics)
    moved = found.metrics["target"].eq("d11") & found.metrics["method"].eq("doc")
    write_csv(
        evaluation / "sibling_metrics.csv",
        found.metrics.assign(value=found.metrics["value"].where(~moved, found.metrics["value"] + 0.25)),
    )
    rows = [(name, title, group, sees, group == "labelled") for name, (title, group, sees, _) in METHODS.items()]
    columns = ["method", "title", "group", "looks_at", "uses_target_labels"]
    write_csv(evaluation / "methods.csv", pd.DataFrame(rows, columns=columns))
    write_scores(evaluation / "scores.h5", Scores(data.models, DATASETS, truth, found.scores))
    (place / "splits.yaml").write_text(yaml.safe_dump({"choose": DATASETS[:5], "report": DATASETS[5:]}))
    sheet = pd.DataFrame({"dataset": DATASETS, "domain": [f"domain {index // 2}" for index in range(len(DATASETS))]})
    sheet.to_csv(place / "datasets.tsv", sep="\t", index=False)
    return place


@pytest.fixture(scope="module")
def report(folder):
    run = bench_report.read_run(folder, folder / "splits.yaml", folder / "datasets.tsv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_report, "HALVES", 20)
        found = bench_report.bench_report(run, shipped="fused", settings=SETTINGS)
    return json.loads(json.dumps(found))


def test_the_rows_are_chosen_on_the_choosing_tasks(report):
    assert report["table"][0] == "fused" and report["table"][-2:] == ["random", "noise_ceiling"]
    assert len(report["table"]) == len(set(report["table"])) <= 12
    assert report["best_without_conductance"] == "average_rank+doc"
    conductance = {row["method"] for row in report["methods"] if row["conductance"]}
    assert conductance == {"fused", "vlmrank"}
    assert report["domains"] == 6 and len(report["splits"]["report"]) == 7


def test_the_numbers_are_those_of_the_tables(folder, report):
    metrics = pd.read_csv(folder / "evaluation" / "metrics.csv")
    mine = metrics[metrics["target"].isin(DATASETS[5:]) & (metrics["metric"] == "ndcg_at_5")]
    wide = mine.pivot(index="target", columns="method", values="value")
    found = {(row["method"], row["split"], row["metric"]): row for row in report["summary"]}
    row = found[("doc", "report", "ndcg_at_5")]
    assert row["mean"] == pytest.approx(wide["doc"].mean(), abs=1e-6)
    assert row["ci_low"] <= row["mean"] <= row["ci_high"]
    (row,) = [one for one in report["paired"] if (one["method"], one["reference"]) == ("fused", "swab")
              and (one["split"], one["metric"]) == ("report", "ndcg_at_5")]  # fmt: skip
    assert row["mean"] == pytest.approx((wide["fused"] - wide["swab"]).mean(), abs=1e-6)
    assert row["models_low"] < row["mean"] < row["models_high"]
    (row,) = [one for one in report["ratios"] if one["method"] == "fused" and one["split"] == "report"]
    assert row["ratio"] == pytest.approx(wide["fused"].mean() / wide["swab"].mean(), abs=1e-6)
    assert row["ci_low"] < row["ratio"] < row["ci_high"]
    by_models = {(row["method"], row["split"], row["metric"]): row for row in report["over_models"]}
    assert by_models[("doc", "report", "ndcg_at_5")]["mean"] == pytest.approx(wide["doc"].mean(), abs=1e-6)
    siblings = {(row["method"], row["metric"]): row for row in report["siblings"]}
    assert siblings[("doc", "ndcg_at_5")]["targets"] == 1
    assert siblings[("doc", "ndcg_at_5")]["difference"] == pytest.approx(0.25, abs=1e-6)
    assert siblings[("swab", "ndcg_at_5")]["difference"] == 0


def test_the_shipped_choice_is_nested(folder):
    run = bench_report.read_run(folder, folder / "splits.yaml", folder / "datasets.tsv")
    found = bench_report.with_choice(run)
    wide = found.metrics[found.metrics["metric"] == "ndcg_at_5"].pivot(index="target", columns="method", values="value")
    assert "auto" in wide and "auto" not in set(run.metrics["method"])
    # the clearly best method that sees no labels is taken for every task, and the ceiling is no candidate
    best = "average_rank+doc" if wide["average_rank+doc"].mean() > wide["fused"].mean() else "fused"
    np.testing.assert_allclose(wide["auto"], wide[best], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found.scores.values["auto"], found.scores.values[best])
    assert found.methods.loc["auto", "title"].startswith("vlmrank as shipped (")


def test_variants_are_compared_with_the_run_and_parts_with_their_base(folder, tmp_path):
    run = bench_report.read_run(folder, folder / "splits.yaml", folder / "datasets.tsv")
    rows = [
        (variant, "vlmrank", target, "ndcg_at_5", 0.5 + shift + 0.01 * place)
        for variant, shift in (("", 0.0), ("rank = 2", 0.1))
        for place, target in enumerate(DATASETS)
    ]
    table = pd.DataFrame(rows, columns=["variant", "method", "target", "metric", "value"])
    write_csv(tmp_path / "bench" / "evaluation" / "variant_metrics.csv", table)
    for name, shift in (("base", 0.0), ("points=8", -0.2)):
        part = table[table["variant"] == ""].assign(value=table["value"] + shift)
        write_csv(tmp_path / f"bench-{name}" / "evaluation" / "variant_metrics.csv", part)
    found = bench_report.variants(tmp_path / "bench", run).set_index(["variant", "split"])
    assert found.loc[("rank = 2", "report"), "difference"] == pytest.approx(0.1, abs=1e-9)
    assert found.loc[("points=8", "choose"), "difference"] == pytest.approx(-0.2, abs=1e-9)
    assert found.loc[("points=8", "all"), "mean"] == pytest.approx(0.3 + 0.01 * 5.5, abs=1e-9)
    assert np.isnan(found.loc[("", "report"), "difference"])


def test_page_figure_and_tables(folder, report, tmp_path):
    write_csv(
        tmp_path / "cost.csv",
        pd.DataFrame(
            {"tower": ["ViT"], "images": [16], "points": [8], "forward_per_s": [200.0], "conductance_per_s": [2.0]}
        ),
    )
    ideas = pd.DataFrame(
        [
            ("a", "margin", "ndcg_at_5", 0.5, 0.01, -0.02, 0.04),
            ("a", "logit", "ndcg_at_5", 0.4, -0.1, -0.2, -0.01),
            ("a", "logit", "regret_at_1", 0.04, 0.2, 0.1, 0.3),
            ("a", "as it was", "ndcg_at_5", 0.49, np.nan, np.nan, np.nan),
            ("b", "x", "ndcg_at_5", 0.6, 0.1, 0.02, 0.2),
        ],
        columns=["idea", "form", "metric", "mean", "difference", "ci_low", "ci_high"],
    )
    write_csv(tmp_path / "results" / "ideas.csv", ideas)
    write_results.write_results(report, tmp_path, tmp_path / "cost.csv")
    page = (tmp_path / "results.md").read_text()
    first = page.split("\n\n")[1]
    assert first.count(". ") == 4 and first.endswith(".")  # five sentences
    assert "Each of 7 tasks" in first and "average rank + difference of confidences" in first
    rows = [line for line in page.split("## Where")[0].splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(report["table"])
    assert "| ViT | 200.0 | 2.00 | 100 |" in page
    assert "| a | margin | 0.500 | +0.010 [-0.020, +0.040] | no |" in page and "| b | x |" in page
    assert "difference of confidences" in (tmp_path / "images" / "results.svg").read_text()
    summary = pd.read_csv(tmp_path / "results" / "bench_summary.csv")
    assert list(summary.columns) == ["method", "split", "metric", "mean", "ci_low", "ci_high", "uses_target_labels"]
    assert set(summary["split"]) == {"choose", "report", "all"}
    assert {"ndcg_at_10", "hit_at_5"} <= set(summary["metric"])
    assert summary.loc[summary["method"] == "logme", "uses_target_labels"].all()


def test_the_page_before_the_bench_has_run_names_no_result(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    arguments = ["write_results.py", "--docs", str(tmp_path), "--results", str(tmp_path / "none")]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [*arguments, "--without-run"])
    write_results.main()
    page = (tmp_path / "results.md").read_text()
    assert "24 tasks to choose" in page and "31 to report" in page and "run_bench.py" in page
    assert "NDCG@5 |" not in page and "images/results.svg" not in page
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit, match=r"bench\.json is not there: run benchmarks/run_bench\.py first"):
        write_results.main()


def test_losing_is_said_in_the_first_paragraph_and_in_its_own_section(report, tmp_path):
    worse = report | {"shipped": "vlmrank", "best_without_conductance": "fused"}
    page = write_results.Page(worse)
    row = page.difference("fused", "ndcg_at_5", method="vlmrank")
    assert row["ci_high"] < 0
    assert "which beats vlmrank by more than chance explains" in write_results.first_paragraph(page)
    assert "It is **behind**" in write_results.where_not_ahead(page)
    assert ": behind." in write_results.conductance_share(page)
    write_results.write_results(worse, tmp_path)  # without cost and ideas
    assert "What it costs" not in (tmp_path / "results.md").read_text()


def test_a_part_of_the_bench_is_one_more_configuration_file(tmp_path):
    assert run_bench.command(2, results=tmp_path, part=None)[-2:] == ["--configfile", "config/bench.yaml"]
    call = run_bench.command(2, results=tmp_path / "bench-points=4", part=run_bench.PARTS["points=4"])
    written = yaml.safe_load((tmp_path / "bench-points=4" / "config.yaml").read_text())
    assert str(tmp_path / "bench-points=4" / "config.yaml") in call
    assert written["conductance"] == {"points": 4}
    assert written["results"].endswith("bench-points=4")
