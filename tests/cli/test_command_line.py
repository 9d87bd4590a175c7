"""The command: lists, filters, sheets, checks and sizes, without loading a model."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from vlmrank.cli.command_line import main
from vlmrank.cli.models import limits
from vlmrank.models.registry import Entry, Filters, architectures, better_architecture, select
from vlmrank.workflow.config import read_schema
from vlmrank.workflow.run_size import DatasetCounts, ModelSize, run_size
from vlmrank.workflow.sheets import read_models

ROOT = Path(__file__).parents[2]
SCHEMA = read_schema(ROOT / "schemas" / "models.schema.yaml")
CONFIG = {
    "images": {"per_dataset": 16, "predictions": "all"},
    "conductance": {"points": 16, "datasets_per_job": 0, "job_minutes": None, "device": "auto", "nodes": "arc-length"},
    "evaluation": {"labelled": 0},
}


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_sheet_of_a_filter_is_a_valid_sheet(capsys, tmp_path):
    sheet = tmp_path / "models.tsv"
    status, out, _ = run(capsys, "models", "--family", "resnet", "--image-size", "224", "-o", sheet)
    assert status == 0
    rows = read_models(sheet, SCHEMA)
    assert {row.family for row in rows} == {"ResNet"}
    assert {row.architecture for row in rows} <= {"RN50", "RN101", "RN50-quickgelu", "RN101-quickgelu"}
    assert all(row.model == f"{row.architecture}--{row.pretrained}" for row in rows)
    assert "to download" in out.splitlines()[-2] and f"{len(rows)} rows" in out.splitlines()[-1]
    assert "102.0 M" in out
    status, out, _ = run(capsys, "models", "--name", "ViT-B-32-quickgelu--openai", "-o", "-")
    assert out.splitlines()[1].split("\t") == ["ViT-B-32-quickgelu--openai", "ViT-B-32-quickgelu", "openai", "ViT"]


def test_weights_under_an_activation_that_is_not_theirs_are_left_out_unless_asked_for(capsys):
    _, out, _ = run(capsys, "models", "--name", "^ViT-B-32(-quickgelu)?--openai", "-o", "-")
    assert len(out.splitlines()) == 2
    _, out, _ = run(capsys, "models", "--name", "^ViT-B-32(-quickgelu)?--openai", "--mismatched", "-o", "-")
    assert len(out.splitlines()) == 3
    assert better_architecture("ViT-B-32", "laion2b_e16", {"ViT-B-32--laion2b_e16"}) is None


def test_only_weights_with_published_accuracies(capsys, tmp_path):
    table = tmp_path / "results.csv"
    table.write_text("name,pretrained,ImageNet 1k\nViT-B-32,openai,0.6\nRN50,nothing,0.5\nViT-B-32,laion2b_e16,\n")
    names = tmp_path / "names.tsv"
    names.write_text("kind\ttable\tname\nmodel\tViT-B-32--openai\tViT-B-32-quickgelu--openai\n")
    _, out, _ = run(capsys, "models", "--published", table, "--names", names, "-o", "-")
    assert [line.split("\t")[0] for line in out.splitlines()[1:]] == ["ViT-B-32-quickgelu--openai"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["models", "--family", "VIT-X"], ["--family VIT-X", "no weight has it"]),
        (["models", "--data", "laion2c"], ["--data laion2c", "LAION-2B"]),
        (["models", "--name", "("], ["not a regular expression"]),
        (["models", "--name", "nothing like it"], ["leave one out"]),
        (["models", "--published", "nowhere.csv"], ["nowhere.csv does not exist"]),
        (["models", "--check", "nowhere.tsv"], ["nowhere.tsv", "cannot be read"]),
        (["size", "nowhere.yaml"], ["nowhere.yaml cannot be read"]),
    ],
)
def test_mistakes_are_one_message(capsys, arguments, words):
    status, _, err = run(capsys, *arguments)
    assert status == 2
    for word in words:
        assert word in err
    assert "Traceback" not in err


def test_ranges():
    for text in ("", "x", "3-1", "1e3", "-"):
        with pytest.raises(argparse.ArgumentTypeError):
            limits(text)


def test_filters():
    entries = [
        Entry("A", "t", "ViT", "LAION-2B", 224, 100, 50, 1.0, ""),
        Entry("B", "t", "ViT", "DataComp", 336, None, 50, 1.0, ""),
    ]
    assert [entry.architecture for entry in select(entries, Filters(parameters=(None, 100)))] == ["A"]
    assert [entry.architecture for entry in select(entries, Filters(image_size=(300, None)))] == ["B"]
    assert [entry.architecture for entry in select(entries, Filters(data=["laion"]))] == ["A"]
    assert [entry.architecture for entry in select(entries, Filters(published=frozenset({"B--t"})))] == ["B"]


def test_every_architecture_of_the_registry_has_its_size():
    import open_clip

    missing = {name for name, _ in open_clip.list_pretrained()} - set(architectures())
    assert not missing, "run benchmarks/architecture_sizes.py"
    assert architectures()["ViT-B-32"]["parameters"] == 151_277_313
    assert architectures()["ViT-B-32"]["gflops"] == pytest.approx(2 * 4.41, abs=0.01)


def test_a_sheet_is_checked_row_by_row(capsys, tmp_path):
    sheet = tmp_path / "sheet.tsv"
    (tmp_path / "empty").mkdir()
    lines = [
        "model\tarchitecture\tpretrained",
        "a\tViT-B-32\tlaion2b_s34b_b79k",
        "b\tViT-B-32\topenai",
        "c\tViT-B-32\topnai",
        "d\tViT-B-23\topenai",
        f"e\tlocal-dir:{tmp_path}/empty\t",
        f"f\tViT-B-32\t{tmp_path}/evil.pt",
        "g\thf-hub:org/name\t",
    ]
    sheet.write_text("\n".join(lines))
    (tmp_path / "evil.pt").write_bytes(b"no weights")
    status, out, _ = run(capsys, "models", "--check", sheet, "--cache", tmp_path / "cache")
    assert status == 1
    states = {line.split()[0]: line.split()[1] for line in out.splitlines()[1:8]}
    assert states == {"a": "to", "b": "to", "c": "wrong", "d": "wrong", "e": "wrong", "f": "wrong", "g": "to"}
    assert "605 MB" in out.splitlines()[1]
    assert "line 3, b: openai was trained with QuickGELU" in out and "take ViT-B-32-quickgelu" in out
    assert "Did you mean 'openai'?" in out and "line 6, e:" in out and "no open_clip_config.json" in out
    assert "3 to download (about 1.2 GB, 1 of unknown size)" in out
    assert "4 of 7 rows are wrong" in out


def test_what_is_in_the_cache_is_said_to_be(capsys, tmp_path):
    import numpy as np
    from safetensors.numpy import save_file

    place = tmp_path / "models--laion--CLIP-ViT-B-32-laion2B-s34B-b79K"
    (place / "snapshots" / "abc").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    weights = place / "snapshots" / "abc" / "open_clip_model.safetensors"
    save_file({"a": np.zeros(3)}, weights)
    sheet = tmp_path / "sheet.tsv"
    sheet.write_text("model\tarchitecture\tpretrained\na\tViT-B-32\tlaion2b_s34b_b79k\n")
    status, out, _ = run(capsys, "models", "--check", sheet, "--cache", tmp_path)
    assert (status, out.splitlines()[1].split()[1]) == (0, "cached")
    weights.write_bytes(weights.read_bytes()[:-8])
    status, out, _ = run(capsys, "models", "--check", sheet, "--cache", tmp_path)
    assert (status, out.splitlines()[1].split()[1]) == (1, "wrong")


def test_sizes_follow_their_formulas():
    models = [ModelSize(1e9, 10.0, 1000, 10), ModelSize(None, None, None, None), ModelSize(1e9, 10.0, 1000, 10)]
    counts = DatasetCounts(4, 1, classes=10, embed_dim=100)
    found = {figure.what: figure for figure in run_size(models, counts, config=CONFIG, tflops=10.0)}
    assert found["jobs"].value == 3 * 5 + 4 + 1 + 7
    assert found["download"].value == 12e9
    predicted = 3 * 256 + 2048
    passes = 4 * 16 * 2 * 17 + predicted + 17 * 2
    seconds = 3 * 10e9 * passes / 10e12 + 3 * 12 + 12e9 / 500e6
    assert found["GPU hours"].value == pytest.approx(seconds / 3600)
    pair = 4 * (16 * (1000 + 10) + 10 * 100) + 60_000
    disk = 2 * 3 * (4 * pair + 4 * predicted * (100 + 10))
    assert found["results on disk"].value == pytest.approx(disk + 3 * 8 * 16 * 17)
    few = {**CONFIG, "images": {"per_dataset": 16, "predictions": 20}}
    fewer = run_size(models, counts, config=few, tflops=10.0)
    assert fewer[2].value == pytest.approx(found["GPU hours"].value - 3 * 10e9 * (predicted - 80) / 10e12 / 3600)


@pytest.mark.parametrize("config", ["config.yaml", "config/openclip.yaml"])
def test_the_size_of_the_shipped_configurations(capsys, config, monkeypatch):
    monkeypatch.chdir(ROOT)
    status, out, _ = run(capsys, "size", config, "--formulas")
    assert status == 0
    for word in ("jobs", "download", "GPU hours", "results on disk", "points"):
        assert word in out


def test_the_documented_size_is_what_the_command_prints(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    _, out, _ = run(capsys, "size", "config/openclip.yaml")
    page = (ROOT / "docs" / "usage.md").read_text()
    for line in out.splitlines()[2:6]:
        what, text = line.split("  ", 1)
        row = next(row for row in page.splitlines() if row.startswith(f"| {what.strip()} |"))
        assert row.split("|")[4].strip() == text.strip()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["size", "config.yaml", "--tflops", "0"], "'0': write a number above 0"),
        (["size", "config.yaml", "--tflops", "nan"], "'nan': write a number above 0"),
        (["published", "t.csv", "--seed", "-1"], "'-1': write a whole number of at least 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(capsys, arguments, words):
    with pytest.raises(SystemExit):
        main(arguments)
    assert words in capsys.readouterr().err


def test_a_place_that_cannot_be_written_to_is_one_message(capsys, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("model,dataset,acc1\na,x,0.5\nb,x,0.6\na,y,0.5\nb,y,0.6\n")
    assert main(["published", str(table), "--results", "/proc/nowhere"]) == 2
    assert capsys.readouterr().err.startswith("vlmrank published: /proc/nowhere")
