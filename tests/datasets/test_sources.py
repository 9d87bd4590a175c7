"""Lists, tar sets and torchvision's datasets: what a row can name beside a folder, and every kind of mistake."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from dataset_rows import card, picture, put, tar

from vlmrank.datasets.decode import read_image
from vlmrank.datasets.prepare import load_images
from vlmrank.datasets.sources import read_source
from vlmrank.models.hub import hub_is_reachable


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_lists_of_paths_and_labels(tmp_path, suffix):
    put(tmp_path / "images", "a b.png", "c,d.png", 'e"f.png')
    table = pd.DataFrame(
        {"path": ["images/a b.png", "images/c,d.png", 'images/e"f.png'], "label": ["cat", "dog", "cat"]}
    )
    file = tmp_path / f"list.{suffix}"
    if suffix == "parquet":
        table.to_parquet(file)
    else:
        table.to_csv(file, index=False, sep="," if suffix == "csv" else "\t")
    found = card(file, kind="csv")
    assert found["status"] == "ok", found["reason"]
    assert found["classes"] == ["cat", "dog"]
    assert {image["id"]: image["label"] for image in found["test"]} == {
        "images/a b.png": 0,
        "images/c,d.png": 1,
        'images/e"f.png': 0,
    }


def test_lists_with_indices_paths_up_and_absolute_paths(tmp_path):
    put(tmp_path / "images", "a.png", "b.png")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "l.csv").write_text(f"image,label\n../images/a.png,1\n{tmp_path}/images/b.png,0\n")
    (tmp_path / "c.txt").write_text("cat\ndog\n")
    found = card(tmp_path / "lists" / "l.csv", kind="csv", classes=str(tmp_path / "c.txt"))
    assert [image["label"] for image in found["test"]] == [1, 0]
    assert len(found["images"]) == 2
    unlabelled = tmp_path / "u.csv"
    unlabelled.write_text("path\nimages/a.png\nimages/b.png\n")
    found = card(unlabelled, kind="csv", role="target")
    assert (len(found["images"]), found["test"]) == (2, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,label\na.png,cat\n", ["no column of paths", "name, label"]),
        ("path,label\n", ["holds no image"]),
        ("", ["no column of paths"]),
        ("path,label\n,cat\n", ["row 1", "no path"]),
        ("path,label\na.png,wolf\n", ["row 1", "'wolf'"]),
        ("path,label\na.png,2\n", ["row 1", "'2'"]),
        ("path,label\na.png,-1\n", ["row 1", "'-1'"]),
        ('path,label\n"a.png,cat\n', ["after line 1", "unexpected end"]),
    ],
)
def test_lists_with_mistakes(tmp_path, text, words):
    put(tmp_path, "a.png")
    (tmp_path / "l.csv").write_text(text)
    (tmp_path / "c.txt").write_text("cat\ndog\n")
    found = card(tmp_path / "l.csv", kind="csv", classes=str(tmp_path / "c.txt"))
    assert found["status"] == "failed"
    for word in words:
        assert word in found["reason"], found["reason"]


def test_lists_that_cannot_be_read(tmp_path):
    (tmp_path / "l.csv").write_bytes(b"path\n\xff\xfe\n")
    assert "UTF-8" in card(tmp_path / "l.csv", kind="csv")["reason"]
    (tmp_path / "l.parquet").write_bytes(b"PAR1 nothing")
    assert "parquet" in card(tmp_path / "l.parquet", kind="csv")["reason"]
    assert "does not exist" in card(tmp_path / "no.csv", kind="csv")["reason"]


# --- tar sets --------------------------------------------------------------------------------------------------------


@pytest.fixture
def tar_set(tmp_path):
    root = tmp_path / "wds_pets"
    for shard in range(2):
        samples = [(f"s{shard * 3 + n:07d}", picture(shard * 3 + n), (shard * 3 + n) % 2) for n in range(3)]
        tar(root / "test" / f"{shard}.tar", samples)
    (root / "test" / "nshards.txt").write_text("2\n")
    (root / "classnames.txt").write_text("cat\ndog\n")
    (root / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\na sketch of a {c}.\n")
    return root


@pytest.mark.parametrize("path", ["", "test", "test/{0..1}.tar", "test/*.tar"])
def test_tar_sets_of_clip_benchmark(tar_set, path):
    found = card(f"{tar_set}/{path}".rstrip("/"), kind="webdataset")
    assert found["status"] == "ok", found["reason"]
    assert found["classes"] == ["cat", "dog"]
    assert found["templates"] == ["a photo of a {c}.", "a sketch of a {c}."]
    assert [image["label"] for image in found["test"]] == [0, 1, 0, 1, 0, 1]
    assert len(found["images"]) == 6
    shades = sorted(read_image(image).getpixel((0, 0))[0] for image in found["images"])
    assert shades == list(range(6))
    assert json.loads(json.dumps(found)) == found


def test_tar_sets_are_read_as_webdataset_reads_them(tar_set):
    import webdataset

    found = read_source("webdataset", str(tar_set))
    theirs = webdataset.WebDataset(f"{tar_set}/test/{{0..1}}.tar", shardshuffle=False).decode("pil")
    for item, sample in zip(found.items, theirs, strict=True):
        assert item.id.endswith(sample["__key__"])
        assert item.label == sample["cls"]
        assert read_image(item.place).tobytes() == sample["png"].tobytes()


class Pets(list):
    """A dataset as clip-benchmark's exporter takes it."""

    classes = ("cat", "dog")
    templates = ("a {c}.", "the {c}.")


@pytest.mark.filterwarnings("ignore:This DataLoader")
def test_tar_sets_written_by_clip_benchmark_itself(tmp_path):
    from clip_benchmark.webdataset_builder import convert_dataset, convert_retrieval_dataset

    pets = Pets((picture(number), number % 2) for number in range(5))
    convert_dataset(pets, "test", str(tmp_path / "pets"), image_format="png", max_count=2, verbose=False)
    found = card(tmp_path / "pets", kind="webdataset")
    assert (found["classes"], found["templates"]) == (["cat", "dog"], ["a {c}.", "the {c}."])
    assert [image["label"] for image in found["test"]] == [0, 1, 0, 1, 0]
    convert_retrieval_dataset([(picture(), ["a cat"])], "test", str(tmp_path / "r"), image_format="png", verbose=False)
    assert "retrieval dataset" in card(tmp_path / "r", kind="webdataset")["reason"]


def test_tar_sets_with_mistakes(tar_set):
    (tar_set / "test" / "nshards.txt").write_text("3\n")
    assert "3 tar files by nshards.txt, but 2" in card(tar_set, kind="webdataset")["reason"]
    (tar_set / "test" / "nshards.txt").unlink()
    (tar_set / "classnames.txt").write_text("cat\n")
    assert "label 1" in card(tar_set, kind="webdataset")["reason"]
    assert "no tar file fits" in card(tar_set / "train", kind="webdataset")["reason"]
    content = (tar_set / "test" / "1.tar").read_bytes()
    (tar_set / "test" / "1.tar").write_bytes(content[:700])
    assert "1.tar" in card(tar_set, kind="webdataset")["reason"]
    (tar_set / "test" / "1.tar").write_bytes(b"no tar")
    assert "not a plain tar file" in card(tar_set, kind="webdataset")["reason"]


def test_names_inside_a_tar_are_data(tmp_path):
    tar(tmp_path / "a" / "0.tar", [("../../etc/x", picture(1), 0), ("/abs/y", picture(2), 0), ("a b'c", picture(3), 0)])
    found = card(tmp_path / "a" / "0.tar", kind="webdataset", role="target")
    assert {image["id"] for image in found["images"]} == {"../../etc/x", "/abs/y", "a b'c"}
    assert not (tmp_path / "etc").exists()


def test_a_hub_set_without_network_is_a_reason(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub_is_reachable.cache_clear()
    found = card("hf-hub:clip-benchmark/wds_cifar10/test", kind="webdataset", cache=tmp_path)
    assert found["status"] == "failed"
    assert "no network access" in found["reason"]
    assert "org" in card("hf-hub:cifar10", kind="webdataset")["reason"]


def test_a_hub_set_that_was_downloaded_is_read_without_network(tar_set, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub_is_reachable.cache_clear()
    root = tmp_path / "cache" / "datasets--org--wds_pets"
    (root / "snapshots").mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("abc123")
    tar_set.rename(root / "snapshots" / "abc123")
    for path in ("hf-hub:org/wds_pets", "hf-hub:org/wds_pets/test", "hf-hub:org/wds_pets/test/{0..1}.tar"):
        found = card(path, kind="webdataset", cache=tmp_path / "cache")
        assert (found["status"], found["n_test"]) == ("ok", 6), found["reason"]
    assert card("hf-hub:org/wds_pets/test/1.tar", kind="webdataset", cache=tmp_path / "cache")["n_test"] == 3
    assert "names no tar" in card("hf-hub:org/wds_pets/test/x", kind="webdataset", cache=tmp_path / "cache")["reason"]


# --- torchvision -----------------------------------------------------------------------------------------------------


@pytest.fixture
def cifar(tmp_path):
    """CIFAR-10's files as torchvision keeps them, with three images."""
    import pickle

    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cache" / "torchvision" / CIFAR10.base_folder
    folder.mkdir(parents=True)
    data = np.random.default_rng(0).integers(0, 256, (3, 3072), np.uint8)
    for name, _ in CIFAR10.test_list:
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": [3, 0, 9]}))
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    return tmp_path / "cache"


def test_torchvision_by_name(cifar, monkeypatch):
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *args: True)
    found = card("CIFAR10/test", kind="torchvision", cache=cifar, classes="clip-benchmark:cifar10")
    assert found["status"] == "ok", found["reason"]
    assert (found["classes"][3], len(found["templates"])) == ("cat", 18)
    assert [image["label"] for image in found["test"]] == [3, 0, 9]
    assert len(load_images(json.loads(json.dumps(found))).images) == 3
    assert len({image["sha256"] for image in found["images"]}) == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CIFAR1O/test", ["no dataset 'CIFAR1O'", "CIFAR10"]),
        ("CIFAR10/val", ["train and test", "'val'"]),
        ("StanfordCars/test", ["StanfordCars/test is not in", "cannot be downloaded"]),
    ],
)
def test_torchvision_with_mistakes(tmp_path, name, words):
    found = card(name, kind="torchvision", cache=tmp_path)
    assert found["status"] == "failed"
    for word in words:
        assert word in found["reason"]
