"""The report page: what it says, that it is safe, and that it holds for small, large, broken and partial runs."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic

from vlmrank import store
from vlmrank.report import answer, charts, collect, distances, payload, quality
from vlmrank.report.build import PageOptions, build_report


def page_of(folder: Path, *, figures=None, **options) -> str:
    beside, page = folder.parent, PageOptions(**options)
    report = build_report(folder, beside / "report.html", page=page, benchmarks=beside / "benchmarks", figures=figures)
    return report.read_text(encoding="utf-8").replace("<wbr>", "")  # where a name may be broken


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S).group(1))


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "results"
    return synthetic.write_results(folder, models=8, datasets=9, targets=2, failed=(3,), broken_pairs=((2, 4),))


def test_names_the_first_of_the_ranking(results):
    page = page_of(results, title="My zoo")
    for target in ("target_0", "target_1"):
        first = store.read_csv(results / "ranking" / f"{target}.csv").iloc[0]["model"]
        assert first in re.findall(r'<span class="winner">(.*?)</span>', page.replace("<wbr>", ""))
    assert "<title>My zoo</title>" in page
    assert "RN50--openai: weights file is truncated" in page  # the failed model with its reason
    assert "compute_conductance" in page  # timings by rule


def test_carries_the_whole_ranking(results):
    data = data_of(page_of(results))
    for target in data["targets"]:
        table = store.read_csv(results / "ranking" / f"{target['name']}.csv")
        assert [data["models"][row[0]][0] for row in target["rows"]] == list(table["model"])
        np.testing.assert_allclose([row[2] for row in target["rows"][:7]], table["score"][:7], rtol=1e-3)


def test_needs_no_torch():
    code = "import sys, vlmrank.report.build; print('torch' in sys.modules)"
    scripts = Path(__file__).parents[2] / "scripts"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(scripts)}
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    "options",
    [
        {"models": 1, "datasets": 3},
        {"models": 1, "datasets": 1, "evaluation": False},
        {"models": 3, "datasets": 2, "failed": (0, 1, 2)},
        {"models": 4, "datasets": 4, "conductance": False},
        {"models": 4, "datasets": 4, "evaluation": False, "missing_accuracy": 12},
        {"models": 4, "datasets": 4, "targets": 0},
        {"models": 3, "datasets": 3, "broken_pairs": tuple((m, d) for m in range(3) for d in range(3))},
    ],
    ids=["one-model", "no-source", "all-failed", "baselines", "no-evaluation", "no-target", "all-pairs-failed"],
)
def test_partial_runs(tmp_path, options):
    folder = synthetic.write_results(tmp_path / "results", **options)
    page = page_of(folder, figures=tmp_path / "figures")
    assert "Quality of this run" in page
    words = re.sub(r"<script.*?</script>|data:image/[^\"]*", "", page, flags=re.S)
    assert not re.search(r"\bnan\b", words)
    assert (tmp_path / "figures" / "evaluation.svg").is_file()
    assert (tmp_path / "figures" / "similarity.svg").is_file()


def test_empty_folder(tmp_path):
    (tmp_path / "results").mkdir()
    assert "No task to choose for" in page_of(tmp_path / "results")


def test_unreadable_file_is_a_serious_row(tmp_path):
    folder = synthetic.write_results(tmp_path / "results", models=2, datasets=3)
    path = next((folder / "conductance").rglob("*.h5"))
    path.write_bytes(b"broken")
    checks = {check.name: check for check in quality.run_checks(collect.collect(folder))}
    assert checks["Result files"].severity == 3
    assert str(path.relative_to(folder)) in checks["Result files"].affected[0]


def test_hostile_text_stays_text(tmp_path):
    folder = synthetic.write_results(tmp_path / "results", hostile=True, failed=(2,), broken_pairs=((1, 1),))
    page = page_of(folder, title=synthetic.HOSTILE, thumbnails=True, config={"a": synthetic.HOSTILE})
    assert "<script>alert" not in page
    assert "</td> -->" not in page
    assert data_of(page)["targets"][0]["rows"][-1][7] == synthetic.HOSTILE


def test_loads_nothing(results):
    page = page_of(results)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page).group(1)
    policy = html.unescape(policy)
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert re.search(r"script-src ('sha256-[^']+' ?)+;", policy)
    assert not re.findall(r'(?:src|href)="https?:', page)


def test_severities():
    assert [quality._graded(share) for share in (0, 0.01, 0.1, 0.9)] == [0, 1, 2, 3]


def test_thin_evidence_is_said(tmp_path):
    folder = synthetic.write_results(tmp_path / "results", models=8, datasets=3, images=2)
    run = collect.collect(folder)
    found = answer.answer(run, "target_0")
    severe = {check.name: check.severity for check in found.checks if check.severity >= 2}
    assert severe["Number of known tasks"] == 3
    assert severe["Number of target images"] == 3


def test_what_class_names_would_add_is_said(tmp_path, results):
    folder = synthetic.write_results(tmp_path / "results", models=8, datasets=9)
    card = folder / "datasets" / "target_0.json"
    store.write_json(card, store.read_json(card) | {"classes": []})
    assert "With a file of class names" in page_of(folder)
    assert "With a file of class names" not in page_of(results)


def test_pooled_divergence_leaves_out_what_is_missing():
    names = ["a", "b"]
    one = store.Divergences(names, np.array([[0, 1.0], [np.nan, 0]]), np.zeros((2, 2, 1)))
    two = store.Divergences(names[::-1], np.array([[0, 4.0], [3.0, 0]]), np.zeros((2, 2, 1)))
    np.testing.assert_array_equal(distances.reorder(two, names), [[0, 3], [4, 0]])
    run = collect.Run(
        **dict.fromkeys(("models", "targets", "quality"), ()),
        **{key: {} for key in ("rankings", "facts", "weights", "alignment", "profiles")},
        **dict.fromkeys(("accuracy", "metrics", "summary", "differences", "pairs", "timings"), pd.DataFrame()),
        unmatched=0,
        datasets=({"dataset": "a"}, {"dataset": "b"}),
        divergences={"m": one, "n": two},
    )
    np.testing.assert_allclose(distances.pooled_divergence(run), [[0, 2], [4, 0]], atol=1e-12)


def test_the_parts_of_the_first_score_add_up(tmp_path):
    folder = synthetic.write_results(tmp_path / "results", models=8, datasets=5, fused=True)
    page = page_of(folder)
    target = data_of(page)["targets"][0]
    assert target["parts"] == ["agreement", "known tasks"]
    for row in target["rows"]:
        if row[1] is not None:
            assert sum(row[8]) == pytest.approx(row[2], abs=2e-3)
    score, *shares = re.search(
        r"Its score of (\S+) is (\S+) from agreement .* and (\S+) from known tasks", page
    ).groups()
    assert sum(map(float, shares)) == pytest.approx(float(score), abs=0.011)


def test_the_first_screen_follows_the_facts(tmp_path):
    page = page_of(synthetic.write_results(tmp_path / "results", models=8, datasets=5))
    assert "Fair evidence." in page
    assert "Expected loss 2.1 points." in page
    ranking = store.read_csv(tmp_path / "results/ranking/target_0.csv").iloc[0]
    low, high = (round(100 * ranking[name]) for name in ("accuracy_low", "accuracy_high"))
    assert f"<dd>{low} to {high}%</dd>" in page


def test_a_run_without_an_answer_claims_nothing(tmp_path):
    folder = synthetic.write_results(tmp_path / "results", models=8, datasets=5)
    (folder / "ranking" / "target_0.answer.json").unlink()
    page = page_of(folder)
    assert "No evidence that this pick is better than chance." in page
    assert "expected accuracy" not in re.sub(r"<script.*?</script>", "", page, flags=re.S)


def test_many_targets_share_the_explanations(tmp_path, monkeypatch):
    monkeypatch.setattr(payload, "EXPLAINED", 60)
    folder = synthetic.write_results(tmp_path / "results", models=30, datasets=5, targets=2)
    for target in data_of(page_of(folder))["targets"]:
        first = {str(row[0]) for row in target["rows"][:30]}
        assert set(target["why"]) == set(target["profiles"]) == first
    monkeypatch.setattr(payload, "EXPLAINED", 2)
    assert [len(target["why"]) for target in data_of(page_of(folder))["targets"]] == [20, 20]


def test_a_ranking_without_images_says_so(tmp_path):
    folder = synthetic.write_results(tmp_path / "results", models=8, datasets=8, conductance=False)
    run = collect.collect(folder)
    found = answer.answer(run, "target_0")
    assert [check.severity for check in found.checks if check.name == "Number of target images"] == [1]
    assert "unlabelled" not in re.sub(r"<script.*?</script>", "", page_of(folder), flags=re.S)


def test_packed_matrix_comes_back():
    import base64

    matrix = np.random.default_rng(0).uniform(0, 3, (5, 5))
    largest, text = payload.pack(matrix)
    back = np.frombuffer(base64.b64decode(text), np.uint8).reshape(5, 5) / 254 * largest
    np.testing.assert_allclose(back, matrix, atol=largest / 500)


def test_figures(results, tmp_path):
    run = collect.collect(results)
    paths = charts.save_figures(run, tmp_path)
    names = ["ranking/target_0.svg", "ranking/target_1.svg", "similarity.svg", "evaluation.svg"]
    assert [str(path.relative_to(tmp_path)) for path in paths] == names
    assert all(path.read_text().startswith("<svg") for path in paths)


def test_table_without_its_columns_is_a_serious_row(tmp_path):
    folder = synthetic.write_results(tmp_path / "results", models=2, datasets=3)
    store.write_csv(folder / "evaluation" / "summary.csv", pd.DataFrame({"something": [1]}))
    page = page_of(folder)
    assert "lacks the columns method" in page
    assert "No held-out evaluation in this run" in page


def test_models_that_nobody_tried_are_counted_apart(tmp_path):
    for name in ("a", "b"):
        store.write_json(tmp_path / "models" / f"{name}.json", {"model": name, "status": "ok", "reason": ""})
    store.write_json(tmp_path / "datasets" / "mine.json", {"dataset": "mine", "role": "target", "status": "ok"})
    columns = {"rank": [1.0, np.nan], "model": ["a", "b"], "score": [1.0, np.nan], "status": ["ok", "untried"]}
    table = pd.DataFrame(
        columns | {"rank_low": 1.0, "rank_high": 1.0, "p_top5": 1.0, "reason": ["", "not on the list"]}
    )
    store.write_csv(tmp_path / "ranking" / "mine.csv", table)
    check = next(one for one in quality.run_checks(collect.collect(tmp_path)) if one.name == "Models")
    assert check.found == "1 model of 2 was not tried." and check.severity == 1
