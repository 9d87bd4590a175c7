"""The two sheets: every mistake is one line that names file, row, column, what was found and what to do."""

from pathlib import Path

import pytest

from vlmrank.datasets.layout import class_of_folder
from vlmrank.errors import VlmrankError
from vlmrank.workflow.config import read_schema
from vlmrank.workflow.sheets import (
    read_datasets,
    read_models,
    remarks,
    sources_for,
)

ROOT = Path(__file__).parents[2]
MODELS = read_schema(ROOT / "schemas" / "models.schema.yaml")
DATASETS = read_schema(ROOT / "schemas" / "datasets.schema.yaml")


def sheet(folder, *rows):
    path = folder / "sheet.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    return path


def message(call, *args, **options):
    with pytest.raises(VlmrankError) as error:
        call(*args, **options)
    return str(error.value)


def test_shipped_sheets_are_read():
    models = read_models(ROOT / "config" / "models.tsv", MODELS)
    datasets = read_datasets(ROOT / "config" / "datasets.tsv", DATASETS)
    assert len(models) >= 8 and len(datasets) >= 7
    assert {row.role for row in datasets} == {"source", "target"}
    assert models[0].folder and models[0].line == 2
    assert "line" not in models[0].values()


def test_comments_blank_lines_short_rows_and_a_byte_order_mark_are_fine(tmp_path):
    path = tmp_path / "sheet.tsv"
    path.write_text("\ufeffmodel\tarchitecture\tpretrained\n# a comment\n\nViT--a\tViT-B-32\n", encoding="utf-8")
    (row,) = read_models(path, MODELS)
    assert (row.model, row.architecture, row.pretrained, row.line) == ("ViT--a", "ViT-B-32", "", 4)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("model", "architecure"), ("a", "b")], ["'architecure'", "no such column", "Did you mean 'architecture'?"]),
        ([("model",), ("a",)], ["column 'architecture'", "is missing"]),
        ([("model,architecture",), ("a,b",)], ["tab-separated"]),
        ([("model", "architecture", "model"), ("a", "b", "c")], ["column 'model'", "twice"]),
        ([("model", "architecture"), ("a", "b", "c")], ["line 2", "3 cells under 2 columns"]),
        ([("model", "architecture"), ("a", "b"), ("a", "c")], ["line 3, model", "'a' is on line 2 already"]),
        ([("model", "architecture"), ("../a", "b")], ["line 2, model", "found ../a", "letters, digits"]),
        ([("model", "architecture"), ("a/b", "b")], ["line 2, model", "found a/b"]),
        ([("model", "architecture"), (".hidden", "b")], ["line 2, model", "found .hidden"]),
        ([("model", "architecture"), ("a", "")], ["line 2, architecture", "found nothing"]),
        ([("model", "architecture")], ["no row"]),
        ([], ["no row"]),
    ],
)
def test_a_wrong_models_sheet(tmp_path, rows, words):
    path = sheet(tmp_path, *rows)
    told = message(read_models, path, MODELS)
    for word in [str(path), *words]:
        assert word in told


def test_a_sheet_that_is_absent(tmp_path):
    assert "cannot be read" in message(read_models, tmp_path / "none.tsv", MODELS)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("d", "sorce", "folder", "x"), ["role", "found sorce", "source or target", "Did you mean 'source'?"]),
        (("d", "source", "foldr", "x"), ["kind", "found foldr", "Did you mean 'folder'?"]),
        (("d d", "source", "folder", "x"), ["dataset", "found d d"]),
        (("d.weights", "source", "folder", "x"), ["line 2, dataset", "'d.weights' ends in .weights", "rename"]),
    ],
)
def test_a_wrong_datasets_sheet(tmp_path, row, words):
    path = sheet(tmp_path, ("dataset", "role", "kind", "path"), row)
    told = message(read_datasets, path, DATASETS)
    for word in [str(path), *words]:
        assert word in told


def test_kind_is_folder_where_it_is_not_given(tmp_path):
    path = sheet(tmp_path, ("dataset", "role", "path"), ("d", "source", "x"))
    assert read_datasets(path, DATASETS)[0].kind == "folder"


def test_siblings_are_no_sources_and_need_another(tmp_path):
    columns = ("dataset", "role", "path", "group")
    rows = [
        ("t", "target", "t", "pets"),
        ("a", "source", "a", "pets"),
        ("b", "source", "b", ""),
        ("c", "source", "c", ""),
    ]
    found = read_datasets(sheet(tmp_path, columns, *rows), DATASETS)
    assert sources_for(found[0], found) == ["b", "c"]
    assert sources_for(found[2], found) == ["a", "c"]  # no group: no siblings
    assert "group" not in found[0].values()
    told = message(read_datasets, sheet(tmp_path, columns, *rows[:2]), DATASETS)
    for word in ("line 2, group", "every source is in the group 'pets' of the target 't'", "Add a source of another"):
        assert word in told


@pytest.mark.parametrize(
    ("folder", "index"),
    [("cat", 0), ("polar bear", 1), ("polar_bear", 1), ("001_polar bear", 1), ("000_polar bear", None), ("dog", None)],
)
def test_class_folders(folder, index):
    assert class_of_folder(folder, ["cat", "polar bear"]) == index


def test_a_sheet_without_a_source_is_remarked_on(tmp_path):
    path = sheet(tmp_path, ("dataset", "role", "kind", "path"), ("d", "target", "folder", "x"))
    rows = read_datasets(path, DATASETS)
    assert any("No dataset has the role source" in told for told in remarks([], rows))
