"""A reduced demo is really run: outputs, last lines, the result store, and what happens to what cannot be computed."""

import json
import re
import shutil
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from workspace import Workspace

from vlmrank.store import PAIR_ATTRIBUTES, read_alignment, read_dcd, read_pair

pytestmark = pytest.mark.workflow

SNAPSHOT = Path(__file__).parents[1] / "snapshots" / "reduced_demo.txt"
TASKS = ("digits", "shapes", "textures", "sketches")
MODELS = ("ViT-demo-8--broad", "ViT-demo-8--scripts", "RN-demo--broad", "RN-demo--scripts")


def keep_rows(work, sheet, names):
    path = work.folder / sheet
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *(row for row in rows if row.split("\t")[0] in names)]) + "\n")


def set_groups(work, sheet, groups):
    path = work.folder / sheet
    header, *rows = path.read_text().splitlines()
    rows = [f"{row}\t{groups.get(row.split(chr(9))[0], '')}" for row in rows]
    path.write_text("\n".join([f"{header}\tgroup", *rows]) + "\n")


def listed(work):
    """What a run leaves under results/, with the content addresses in the store counted instead of named."""
    names = [name for name in work.outputs() if not name.startswith("store/families/")]
    stored = [name for name in names if re.fullmatch(r"store/../[0-9a-f]{64}\.(h5|json)", name)]
    kinds = [f"store: {sum(name.endswith(kind) for name in stored)} {kind}" for kind in (".h5", ".json")]
    return [name for name in names if name not in stored] + kinds


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    work = Workspace(tmp_path_factory.mktemp("demo"))
    keep_rows(work, "config/models.tsv", MODELS)
    keep_rows(work, "config/datasets.tsv", TASKS)
    set_groups(work, "config/datasets.tsv", {"shapes": "drawn", "sketches": "drawn"})
    work.configure(
        demo={"tasks": list(TASKS), "variants": 2, "effort": 0.03},
        images={"per_dataset": 8},
        conductance={"points": 4},
        ranking={"bootstrap": 100},
        evaluation={"bootstrap": 100},
    )
    started = time.monotonic()
    work.done = work.snakemake(cores=2, profile="profiles/default")
    print(f"the reduced demo took {time.monotonic() - started:.0f} s")
    assert work.done.returncode == 0, work.done.stdout + work.done.stderr
    return work


@pytest.fixture
def copy(demo, tmp_path):
    """A finished working directory of its own, with the times of change kept."""
    folder = tmp_path / "copy"
    shutil.copytree(demo.folder, folder, symlinks=True)
    work = object.__new__(Workspace)
    work.folder = folder
    return work


def test_the_list_of_outputs_is_the_committed_one(demo):
    assert listed(demo) == SNAPSHOT.read_text().splitlines()


def test_the_last_lines_name_the_model_to_take_and_the_report(demo):
    lines = demo.done.stderr.strip().splitlines()[-3:]
    assert re.match(r"sketches: take \S+--\S+", lines[0])
    assert lines[1:] == ["All 16 pairs succeeded.", "Report: results/report.html"]


def test_siblings_are_no_sources_of_the_target(demo):
    weights = pd.read_csv(demo.folder / "results/ranking/sketches.weights.csv")
    assert set(weights["source"]) == {"digits", "textures"}


def test_every_pair_has_its_line(demo):
    for model in MODELS:
        for task in TASKS:
            line = rf"{model} on {task}: \d+ images predicted, 8 attributed in [\d.]+ s"
            assert re.search(line, demo.done.stderr), (model, task)
    assert "all 4 done" in demo.done.stderr


def test_logs_and_benchmarks_mirror_the_rules(demo):
    assert (demo.folder / f"logs/compute_conductance/{MODELS[0]}.log").read_text()
    table = pd.read_csv(demo.folder / f"results/benchmarks/compute_conductance/{MODELS[0]}.tsv", sep="\t")
    assert table["s"][0] > 0


def test_a_second_run_has_nothing_to_do(demo):
    done = demo.snakemake(profile="profiles/default")
    assert done.returncode == 0
    assert "Nothing to be done" in done.stderr + done.stdout


def test_pair_files_keep_the_contract(demo):
    for model in MODELS:
        for task in TASKS:
            path = demo.folder / f"results/conductance/{model}/{task}.h5"
            with h5py.File(path, locking=False) as file:
                count = len(file["image_id"])
                blocks = sorted(file["blocks"])
                assert count == 8 and blocks == [f"{index:02d}" for index in range(len(blocks))]
                for name in blocks:
                    assert file["blocks"][name].dtype == np.float32 and file["blocks"][name].shape[0] == count
                    assert file["blocks"][name].attrs["module"]
                assert file["score"].shape == (count, 2) and file["score"].dtype == np.float64
                assert file["delta"].shape == (count, len(blocks)) and file["delta"].dtype == np.float32
                assert file["pseudo_label"].shape == (count,)
                assert file["alphas"].shape == (5,) and file["alphas"].dtype == np.float64
                assert set(PAIR_ATTRIBUTES) <= set(file.attrs)
                assert (file.attrs["status"], file.attrs["model"], file.attrs["dataset"]) == ("ok", model, task)


def test_alignment_and_divergence_keep_the_contract(demo):
    for model in MODELS:
        alignment = read_alignment(demo.folder / f"results/alignment/{model}.h5")
        dcd = read_dcd(demo.folder / f"results/dcd/{model}.h5")
        assert tuple(alignment.datasets) == tuple(dcd.datasets) == tuple(sorted(TASKS))
        np.testing.assert_allclose(alignment.importance.sum(axis=1), 1, atol=1e-8)
        assert np.all(np.diag(dcd.dcd) == 0) and np.all(dcd.dcd >= 0) and dcd.dcd.shape == (4, 4)
        np.testing.assert_allclose(np.nanmean(dcd.per_image, axis=2), dcd.dcd, atol=1e-8)


def test_tables_keep_the_contract(demo):
    accuracy = pd.read_csv(demo.folder / "results/accuracy.csv")
    assert list(accuracy) == ["model", "dataset", "acc1", "n", "origin"] and len(accuracy) == 12
    ranking = pd.read_csv(demo.folder / "results/ranking/sketches.csv")
    columns = ["rank", "model", "score", "rank_low", "rank_high", "p_top5", "accuracy", "accuracy_low", "accuracy_high"]
    columns += ["loss", "ranked_by", "status", "reason"]
    assert list(ranking)[:13] == columns and set(ranking["model"]) == set(MODELS)
    parts = [name for name in ranking if name.startswith("part: ")]
    np.testing.assert_allclose(ranking[parts].sum(axis=1), ranking["score"], atol=1e-9)
    assert ranking["rank"].is_monotonic_increasing
    metrics = pd.read_csv(demo.folder / "results/evaluation/metrics.csv")
    assert list(metrics) == ["method", "target", "metric", "value"]
    summary = pd.read_csv(demo.folder / "results/evaluation/summary.csv")
    assert list(summary) == ["method", "metric", "mean", "ci_low", "ci_high", "higher_is_better"]


def test_a_lost_pair_comes_from_the_store_without_loading_the_model(copy):
    path = copy.folder / f"results/conductance/{MODELS[0]}/digits.h5"
    before = read_pair(path)
    path.unlink()
    done = copy.snakemake(f"results/conductance/{MODELS[0]}/digits.h5")
    assert done.returncode == 0, done.stderr
    log = (copy.folder / f"logs/compute_conductance/{MODELS[0]}.log").read_text()
    assert log.count("taken from the store") == len(TASKS) and "loaded in" not in log
    np.testing.assert_array_equal(read_pair(path).score, before.score)


def test_what_fails_is_a_row_and_the_rest_goes_on(copy):
    zoo = copy.folder / "resources/demo/models"
    for name in ("broken", "infinite"):
        shutil.copytree(zoo / MODELS[0], zoo / name)
    weights = zoo / "broken/open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    from safetensors.numpy import load_file, save_file

    tensors = load_file(zoo / "infinite/open_clip_model.safetensors")
    key = next(name for name in tensors if name.startswith("visual.transformer.resblocks.1") and "mlp" in name)
    tensors[key] = np.full_like(tensors[key], np.nan)
    save_file(tensors, zoo / "infinite/open_clip_model.safetensors", metadata={"format": "pt"})
    with (copy.folder / "config/models.tsv").open("a") as sheet:
        sheet.writelines(
            f"{name}\tlocal-dir:{(zoo / name).relative_to(copy.folder)}\t\n" for name in ("broken", "infinite")
        )
    images = copy.folder / "resources/mine"
    shutil.copytree(copy.folder / "resources/demo/datasets/shapes/target", images)
    for path in sorted(images.iterdir())[7:]:
        path.unlink()
    (images / "0broken.png").write_bytes(b"no image")
    with (copy.folder / "config/datasets.tsv").open("a") as sheet:
        sheet.write("mine\tsource\tfolder\tresources/mine\t\tresources/demo/datasets/shapes/dataset.yaml\tdrawing\n")

    done = copy.snakemake(cores=2, profile="profiles/default")
    printed = done.stdout + done.stderr
    assert done.returncode == 1, printed
    assert (copy.folder / "results/report.html").stat().st_mtime > time.time() - 300
    pairs = pd.read_csv(copy.folder / "results/pairs.csv", keep_default_na=False)
    failed = pairs[(pairs["status"] == "failed") & (pairs["stage"] == "conductance")]
    assert sorted(set(failed["model"])) == ["broken", "infinite"] and len(failed) == 2 * 5
    assert failed["reason"].str.len().min() > 10
    assert failed[failed["model"] == "infinite"]["reason"].str.contains("finite").all()
    mine = pairs[(pairs["dataset"] == "mine") & (pairs["model"] == MODELS[0]) & (pairs["stage"] == "conductance")]
    assert mine["status"].tolist() == ["ok"] and mine["reason"].tolist() == [""], "told once, where it was prepared"
    prepared = pairs[(pairs["dataset"] == "mine") & (pairs["stage"] == "prepare")]
    assert prepared["status"].tolist() == ["ok"] and "0broken.png" in prepared["reason"].iloc[0]
    last = done.stderr.strip().splitlines()[-8:]
    assert any(re.match(r"10 of 30 pairs failed:", line) for line in last), last
    for name in ("broken", "infinite"):
        assert any(name in line for line in last), last
    assert last[-1] == "Report: results/report.html"
    ranking = pd.read_csv(copy.folder / "results/ranking/sketches.csv", keep_default_na=False)
    assert sorted(ranking["model"].iloc[-2:]) == ["broken", "infinite"]
    assert (ranking["status"].iloc[-2:] == "failed").all() and ranking["reason"].iloc[-1]
    page = (copy.folder / "results/report.html").read_text().replace("<wbr>", "")
    assert "broken" in page and "0broken.png" in page


def test_scripts_can_be_called_without_snakemake(demo, tmp_path):
    import sys
    from types import SimpleNamespace

    sys.path.insert(0, str(demo.folder / "scripts"))
    try:
        import check_pairs
    finally:
        sys.path.pop(0)
    results = demo.folder / "results"
    given = SimpleNamespace(
        input=SimpleNamespace(pairs=str(results / "pairs.csv"), report=str(results / "report.html")),
        output=[str(tmp_path / "complete.txt")],
    )
    check_pairs.main(given)
    assert (tmp_path / "complete.txt").exists()
    assert json.loads((results / f"models/{MODELS[0]}.json").read_text())["status"] == "ok"


def test_snakemakes_own_report_holds_the_figures_and_tables(demo):
    done = demo.snakemake("--report", "own.zip")
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(demo.folder / "own.zip") as archive:
        names = [name.rsplit("/", 1)[-1] for name in archive.namelist() if "/data/raw/" in name]
        page = archive.read("own/report.html").decode()
    figures, tables = ["evaluation.svg", "similarity.svg", "sketches.svg"], ["accuracy.csv", "pairs.csv", "summary.csv"]
    assert sorted(names) == sorted([*figures, *tables, "sketches.csv", "report.html"])
    categories = json.loads(re.search(r"var categories = (\{.*\});\n", page).group(1))
    assert sorted(categories) == ["Answer", "Evidence", "Quality", "Ranking"]
    results = json.loads(re.search(r"var results = (\{.*\});\n", page).group(1))
    assert all(result["caption"] and result["labels"] for result in results.values())
