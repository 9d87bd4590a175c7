"""What the rows of the sheets name is looked at before anything runs: one line a mistake, one remark a misfit."""

from dataclasses import replace
from pathlib import Path

import pytest
from dataset_rows import card, put
from PIL import Image

from vlmrank.datasets.layout import tar_files
from vlmrank.errors import VlmrankError
from vlmrank.workflow.config import read_schema
from vlmrank.workflow.input_checks import check_inputs, folder_remarks
from vlmrank.workflow.sheets import read_datasets, read_models

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


@pytest.fixture
def images(tmp_path):
    for name in ("000_cat", "001_polar bear"):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "0.png")
    (tmp_path / "classes.yaml").write_text("classes: [cat, polar bear]\n")
    return tmp_path


def datasets_of(folder, *cells):
    path = sheet(folder, ("dataset", "role", "kind", "path", "test", "classes"), ("d", "source", *cells))
    return read_datasets(path, DATASETS)


def test_what_is_there_is_accepted(images):
    rows = datasets_of(images, "folder", str(images / "images"), str(images / "images"), str(images / "classes.yaml"))
    check_inputs([], rows)


def test_a_folder_that_does_not_exist_is_told_before_anything_runs(images):
    rows = datasets_of(images, "folder", str(images / "imgaes"))
    told = message(check_inputs, [], rows, datasets_sheet="datasets.tsv")
    for word in ("datasets.tsv, line 2, path", "imgaes of d does not exist", "Did you mean 'images'?"):
        assert word in told
    check_inputs([], rows, made=lambda path: path == str(images / "imgaes"))


def test_class_folders_that_do_not_fit_are_that_rows_matter(images):
    (images / "classes.yaml").write_text("classes: [cat, dog]\n")
    place, classes = str(images / "images"), str(images / "classes.yaml")
    rows = datasets_of(images, "folder", place, "", classes)
    check_inputs([], rows)
    (told,) = folder_remarks(rows, sheet="d.tsv")
    for word in ("d.tsv, line 2, path: the class folder", "001_polar bear", "fits no class of", "Until then d is left"):
        assert word in told
    assert "001_polar bear fits none of the 2 class names" in card(place, classes=classes)["reason"]


def test_a_target_is_ranked_without_labels_that_do_not_fit(images):
    (images / "classes.yaml").write_text("classes: [cat, dog]\n")
    place, classes = str(images / "images"), str(images / "classes.yaml")
    rows = [replace(row, role="target") for row in datasets_of(images, "folder", place, place, classes)]
    (told,) = folder_remarks(rows, sheet="d.tsv")
    assert "line 2, test: the class folder" in told and told.endswith("Until then d is ranked without these labels.")
    found = card(place, role="target", test=place, classes=classes)
    assert found["status"] == "ok" and "001_polar bear fits none" in found["no_test"] and found["test"] is None


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.yaml", None, ["does not exist"]),
        ("c.yaml", "classes: [cat, cat]\n", ["'cat' twice"]),
        ("c.yaml", "names: [cat]\n", ["class"]),
        ("c.yaml", "classes: [cat\n", ["cannot be read"]),
        ("c.csv", "cat\n", ["no class sheet"]),
    ],
)
def test_a_wrong_class_sheet(images, name, content, words):
    if content is not None:
        (images / name).write_text(content)
    told = message(check_inputs, [], datasets_of(images, "folder", str(images / "images"), "", str(images / name)))
    for word in words:
        assert word in told


def test_lists_and_tars_that_do_not_exist(images):
    assert "the list" in message(check_inputs, [], datasets_of(images, "csv", str(images / "none.csv")))
    pattern = str(images / "{00..02}.tar")
    assert "no tar file" in message(check_inputs, [], datasets_of(images, "webdataset", pattern))
    (images / "01.tar").touch()
    check_inputs([], datasets_of(images, "webdataset", pattern))
    assert tar_files(pattern) == [str(images / "01.tar")]


def test_a_list_is_read_before_anything_runs(images):
    put(images, "a.png", "b.png")
    (images / "good.csv").write_text("path,class_name\na.png,cat\nb.png,polar bear\n")
    (images / "bad.csv").write_text("path,class_name\na.png,cat\nb.png,dog\n")
    good, bad, classes = (str(images / name) for name in ("good.csv", "bad.csv", "classes.yaml"))
    check_inputs([], datasets_of(images, "csv", good, "", classes))
    for cells, column in (((bad, "", classes), "path"), ((good, bad, classes), "test"), ((good, bad), "test")):
        told = message(check_inputs, [], datasets_of(images, "csv", *cells), datasets_sheet="d.tsv")
        assert told.startswith(f"d.tsv, line 2, {column}: {bad}, row 2: the label 'dog' is none of the class names")
    check_inputs([], datasets_of(images, "csv", bad), made=lambda path: path == bad)


def test_models_that_do_not_exist(tmp_path):
    (tmp_path / "empty").mkdir()
    path = sheet(
        tmp_path,
        ("model", "architecture", "pretrained"),
        ("a", f"local-dir:{tmp_path}/none"),
        ("b", f"local-dir:{tmp_path}/empty"),
        ("c", "ViT-B-32", f"{tmp_path}/none.pt"),
        ("d", "ViT-B-32", "openai"),
    )
    lines = message(check_inputs, read_models(path, MODELS), [], models_sheet="m.tsv").splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "m.tsv, line 2, architecture",
        "m.tsv, line 3, architecture",
        "m.tsv, line 4, pretrained",
    ]
    assert "no open_clip_config.json" in lines[1]
