"""Published tables of every format; what matches no name is listed, and nothing is guessed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from vlmrank.accuracy.tables import match_table, read_names, read_table, read_tables
from vlmrank.errors import VlmrankError

LONG = "dataset,model,pretrained,task,acc1,acc5,mean_per_class_recall\n"


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_own_tables(tmp_path):
    path = write(tmp_path / "own.csv", "model,dataset,acc1,n\nViT--a,1e5,0.5,100\nViT--a,cars,,\nViT--b,cars,1,\n")
    found = read_table(path)
    assert found[["model", "dataset", "acc1"]].values.tolist() == [["ViT--a", "1e5", 0.5], ["ViT--b", "cars", 1.0]]
    assert found["n"].tolist()[0] == 100 and np.isnan(found["n"].tolist()[1])
    plain = write(tmp_path / "own.tsv", "model\tdataset\tacc1\nm\td\t0.25\n")
    assert read_table(plain)["acc1"].tolist() == [0.25]
    found.to_parquet(tmp_path / "own.parquet")
    pd.testing.assert_frame_equal(read_table(tmp_path / "own.parquet"), found)


def test_the_wide_table_of_openclip(tmp_path):
    path = write(
        tmp_path / "openclip.csv",
        "name,pretrained,params (M),FLOPs (B),Average perf. on 2 datasets,ImageNet 1k,Stanford Cars\n"
        "ViT-B-32,openai,151,14,0.5,0.6,0.4\nRN50,openai,102,18,,0.5,\n",
    )
    assert read_table(path, "openclip").drop(columns="n").values.tolist() == [
        ["ViT-B-32--openai", "ImageNet 1k", 0.6],
        ["RN50--openai", "ImageNet 1k", 0.5],
        ["ViT-B-32--openai", "Stanford Cars", 0.4],
    ]


def test_the_long_tables(tmp_path):
    rows = (
        "vtab/cifar10,ViT-B-32,openai,zeroshot_classification,0.9,0.99,0.9\n"
        "flickr8k,ViT-B-32,openai,zeroshot_retrieval,,,\n"
        "voc2007_multilabel,ViT-B-32,openai,zeroshot_classification,,,\n"
        "cars,M/ViT-B-32,/a/b.pt,zeroshot_classification,0.5,,\n"
    )
    path = write(tmp_path / "benchmark.csv", LONG + rows)
    found = read_table(path, "clip-benchmark")
    assert found[["model", "dataset", "acc1"]].values.tolist() == [
        ["ViT-B-32--openai", "vtab/cifar10", 0.9],
        ["M-ViT-B-32--/a/b.pt", "cars", 0.5],
    ]
    lovm = write(
        tmp_path / "lovm.csv",
        ",task,dataset,model_fullname,model,pretrained,mean_per_class_recall,acc1,acc5\n"
        "0,zeroshot_classification,cars,ViT-B-32 x,ViT-B-32,x,0.8,0.7,0.9\n",
    )
    assert read_table(lovm, "lovm")["acc1"].tolist() == [0.7]
    swab = write(
        tmp_path / "swab.csv", "dataset,model_fullname,model,pretrained,acc1,acc5\ncars,BLIP base,BLIP,base,0.6,0.9\n"
    )
    assert read_table(swab, "swab")["model"].tolist() == ["BLIP--base"]


def test_only_english_rows_are_taken(tmp_path):
    path = write(
        tmp_path / "b.csv",
        "dataset,model,pretrained,acc1,language\ncars,a,b,0.5,en\ncars,a,b,0.1,jp\n",
    )
    assert read_table(path, "clip-benchmark")["acc1"].tolist() == [0.5]


@pytest.mark.parametrize(
    ("text", "layout", "words"),
    [
        ("a,b\n1,2\n", "own", ["format own", "dataset, model, acc1", "a, b"]),
        ("model,dataset,acc1\nm,d,0.5\n", "openclip", ["format openclip", "name, pretrained"]),
        ("model,dataset,acc1\nm,d,0.5\n", "lovm", ["format lovm", "pretrained"]),
        ("model,dataset,acc1\nm,d,high\n", "own", ["m on d", "'high'"]),
        ("model,dataset,acc1\nm,d,76.5\n", "own", ["m on d", "76.5", "Divide by 100"]),
        ("model,dataset,acc1\nm,d,-0.1\n", "own", ["outside 0..1"]),
        ("model,dataset,acc1,n\nm,d,0.1,many\n", "own", ["n is 'many'"]),
        ("", "own", ["cannot be read"]),
        ('model,dataset,acc1\n"m,d,0.5\n', "own", ["cannot be read"]),
        ("model,dataset,acc1\n", "excel", ["'excel'", "none of own"]),
    ],
)
def test_tables_with_mistakes(tmp_path, text, layout, words):
    path = write(tmp_path / "t.csv", text)
    with pytest.raises(VlmrankError) as error:
        read_table(path, layout)
    for word in words:
        assert word in str(error.value)
    with pytest.raises(VlmrankError, match="does not exist"):
        read_table(tmp_path / "nowhere.csv")


def rows(*values):
    return pd.DataFrame(values, columns=["model", "dataset", "acc1"]).assign(n=np.nan)


def test_names_are_matched_by_equality_or_by_the_map_alone():
    table = rows(("a", "x", 0.1), ("A", "x", 0.2), ("a", "X 1k", 0.3), ("b", "y", 0.4), ("c", "x", 0.5))
    found = match_table(
        table,
        models=["a", "b"],
        datasets=["x", "other"],
        names={("dataset", "X 1k"): "other", ("model", "c"): "bb", ("model", "unused"): "a"},
        origin="t",
    )
    assert found.accuracy.drop(columns="n").values.tolist() == [["a", "x", 0.1, "t"], ["a", "other", 0.3, "t"]]
    lost = {(kind, name): (count, reason) for _, kind, name, count, reason in found.unmatched.to_numpy().tolist()}
    assert set(lost) == {("model", "A"), ("model", "c"), ("dataset", "y")}
    assert lost["model", "c"][1].startswith("the name map says bb, which the models sheet does not have")
    assert lost["dataset", "y"][0] == 1


def test_two_values_for_one_cell_are_both_dropped_and_listed():
    table = rows(("a", "x", 0.1), ("a", "x", 0.2), ("b", "x", 0.3), ("b", "x", 0.3))
    found = match_table(table, models=["a", "b"], datasets=["x"], origin="t")
    assert found.accuracy[["model", "acc1"]].values.tolist() == [["b", 0.3]]
    assert found.unmatched[["kind", "name", "rows"]].values.tolist() == [["cell", "a on x", 2]]


def test_the_first_table_that_has_a_pair_counts(tmp_path):
    write(tmp_path / "a.csv", "model,dataset,acc1,n\nm,d,0.1,7\n")
    write(tmp_path / "b.csv", "model,dataset,acc1\nm,d,0.2\nm,e,0.3\nz,e,0.3\n")
    tables = [{"path": str(tmp_path / "a.csv"), "format": "own"}, {"path": str(tmp_path / "b.csv"), "format": "own"}]
    found = read_tables(tables, models=["m"], datasets=["d", "e"])
    assert found.accuracy[["dataset", "acc1", "origin"]].values.tolist() == [["d", 0.1, "a.csv"], ["e", 0.3, "b.csv"]]
    assert found.unmatched["table"].tolist() == ["b.csv"]
    empty = read_tables([], models=["m"], datasets=["d"])
    assert list(empty.accuracy.columns) == ["model", "dataset", "acc1", "n", "origin"]
    assert empty.accuracy.empty and empty.unmatched.empty


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\tb\n", ["kind, table and name", "a, b"]),
        ("", ["found none"]),
        ("kind\ttable\tname\nmodle\tx\ty\n", ["line 2", "'modle'"]),
        ("kind\ttable\tname\nmodel\tx\n", ["line 2", "three cells"]),
        ("kind\ttable\tname\nmodel\tx\t\n", ["line 2", "three cells"]),
        ("kind\ttable\tname\nmodel\tx\ty\n# note\nmodel\tx\tz\n", ["line 4", "'x'", "'y' on line 2", "'z'"]),
    ],
)
def test_name_maps_with_mistakes(tmp_path, text, words):
    path = write(tmp_path / "names.tsv", text)
    with pytest.raises(VlmrankError) as error:
        read_names(path)
    for word in words:
        assert word in str(error.value)


def test_name_maps(tmp_path):
    path = write(tmp_path / "names.tsv", "# note\nkind\ttable\tname\nmodel\tx y\tz\ndataset\tx y\tw\nmodel\tx y\tz\n")
    assert read_names(path) == {("model", "x y"): "z", ("dataset", "x y"): "w"}


def test_no_torch_is_imported():
    code = (
        "import sys, vlmrank.accuracy.tables, vlmrank.datasets.prepare, vlmrank.datasets.decode;"
        "import vlmrank.datasets.prompts, vlmrank.cli.command_line, vlmrank.workflow.run_size;"
        "import vlmrank.models.registry, vlmrank.datasets.sources, vlmrank.models.hub, vlmrank.models.weights;"
        "import vlmrank.accuracy.measured;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0
