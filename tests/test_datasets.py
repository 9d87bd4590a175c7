"""Sources of images, the draw of K of them, class names: from every kind of row, and every kind of mistake."""

from __future__ import annotations

import io
import json
import os
import tarfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vlmrank.datasets import draw_order, load_images, prepare_dataset
from vlmrank.errors import VlmrankError
from vlmrank.hub import hub_is_reachable
from vlmrank.images import read_image
from vlmrank.prompts import class_embeddings, clip_benchmark_prompts, read_prompts
from vlmrank.sources import read_source


def picture(shade=0, size=8):
    content = io.BytesIO()
    Image.new("RGB", (size, size), (shade % 256, shade // 256, 0)).save(content, "png")
    return content.getvalue()


def put(folder, *names):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(number))
    return str(folder)


def tar(path, samples, *, extension="png"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for key, content, label in samples:
            for name, data in ((f"{key}.{extension}", content), (f"{key}.cls", str(label).encode())):
                if label is None and name.endswith(".cls"):
                    continue
                member = tarfile.TarInfo(name)
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
    return path


def card(path, **options):
    options = {"dataset": "d", "role": "source", "kind": "folder", "path": str(path), **options}
    return prepare_dataset(**options)


# --- folders ---------------------------------------------------------------------------------------------------------


def test_a_flat_folder_is_unlabelled_and_a_folder_of_class_folders_is_labelled(tmp_path):
    put(tmp_path / "flat", "a.png", "b.JPG", "c", ".hidden.png", "notes.txt", "Thumbs.db")
    found = card(tmp_path / "flat", role="target")
    assert sorted(image["id"] for image in found["images"]) == ["a.png", "b.JPG", "c"]
    assert (found["test"], found["classes"], found["templates"]) == (None, [], [])
    put(tmp_path / "classes", "tiger_cat/1.png", "tiger_cat/more/2.png", "dog/1.png")
    found = card(tmp_path / "classes")
    assert found["classes"] == ["dog", "tiger cat"]
    assert {image["id"]: image["label"] for image in found["images"]} == {
        "tiger_cat/1.png": 1,
        "tiger_cat/more/2.png": 1,
        "dog/1.png": 0,
    }
    assert found["n_test"] == len(found["test"]) == 3
    assert found["templates"] == ["a photo of a {c}."]


def test_numbered_folders_follow_their_numbers(tmp_path):
    put(tmp_path, "10_last/a.png", "2_polar_bear/a.png", "0_cat/a.png")
    assert card(tmp_path)["classes"] == ["cat", "polar bear", "last"]


def test_class_folders_fit_the_class_sheet_by_name_or_index(tmp_path):
    put(tmp_path / "images", "polar bear/a.png", "000_cat/a.png")
    (tmp_path / "classes.txt").write_text("cat\npolar bear\nno image of this\n")
    found = card(tmp_path / "images", classes=str(tmp_path / "classes.txt"))
    assert found["classes"] == ["cat", "polar bear", "no image of this"]
    assert {image["id"]: image["label"] for image in found["test"]} == {"polar bear/a.png": 1, "000_cat/a.png": 0}


def test_the_labels_of_a_target_are_neither_used_nor_written(tmp_path):
    put(tmp_path, *[f"{name}/{number}.png" for name in ("cat", "dog") for number in range(9)])
    found = card(tmp_path, role="target", images=6, stratified=True)
    assert {image["label"] for image in found["images"]} == {-1}
    assert [image["id"] for image in found["images"]] == [
        image["id"] for image in card(tmp_path, role="target", images=6)["images"]
    ]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], ["holds no image"]),
        (["notes.txt"], ["holds no image"]),
        (["a.png", "cat/b.png"], ["both images", "a.png", "cat"]),
        (["a_b/1.png", "a b/1.png"], ["one class name"]),
    ],
)
def test_folders_that_cannot_be_understood(tmp_path, names, words):
    (tmp_path / "d").mkdir()
    put(tmp_path / "d", *names)
    found = card(tmp_path / "d")
    assert found["status"] == "failed"
    for word in words:
        assert word in found["reason"]


def test_missing_folder_unknown_folder_and_unlabelled_test_images(tmp_path):
    assert "does not exist" in card(tmp_path / "nowhere")["reason"]
    put(tmp_path / "images", "cat/a.png", "dgo/a.png")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert "fits none of the 2 class names" in card(tmp_path / "images", classes=f"{tmp_path}/classes.txt")["reason"]
    put(tmp_path / "flat", "a.png")
    assert "have no label" in card(tmp_path / "flat", test=str(tmp_path / "flat"))["reason"]
    assert "kind 'zip'" in card(tmp_path / "flat", kind="zip")["reason"]


HOSTILE = [
    "with space.png",
    'quote".png',
    "quote'.png",
    "$(touch pwned).png",
    "; rm -rf *.png",
    "..png",
    "...dots...png",
    "-rf.png",
    "new\nline.png",
    "tab\t.png",
    "ünïcödé-日本語-🐈.png",
    "e\u0301.png",
    "back\\slash.png",
    "{c}.png",
    "%2e%2e%2fetc.png",
    "n" * 200 + ".png",
    "*.png",
    "[a].png",
]


def test_hostile_file_names_are_data(tmp_path):
    folder = tmp_path / "it's a; $(folder) 日本"
    put(folder, *HOSTILE)
    found = card(folder, images=100, role="target")
    assert found["status"] == "ok", found["reason"]
    shown = {name for name in HOSTILE if not name.startswith(".")}
    assert {image["id"] for image in found["images"]} == shown
    assert json.loads(json.dumps(found)) == found
    assert len(load_images(found).images) == len(shown)
    assert not list(tmp_path.rglob("pwned"))


def test_a_name_that_is_no_unicode_is_named(tmp_path):
    put(tmp_path / "cat", "good.png")
    with open(os.fsencode(tmp_path / "cat") + b"/\xff\xfe.png", "wb") as file:  # noqa: PTH123
        file.write(picture())
    found = card(tmp_path)
    assert [image["id"] for image in found["images"]] == [image["id"] for image in found["test"]] == ["cat/good.png"]
    assert found["failed_images"] == [
        {"id": "cat/\\udcff\\udcfe.png", "reason": "its name is not valid UTF-8: rename it"}
    ]
    json.dumps(found, ensure_ascii=False).encode()


def test_deep_paths_of_many_characters(tmp_path):
    put(tmp_path, f"{'c' * 250}/{'f' * 240}.png", f"{'d' * 250}/{'f' * 240}.png")
    assert card(tmp_path)["n_test"] == 2


# --- broken images ---------------------------------------------------------------------------------------------------


def test_broken_images_are_named_and_others_drawn_for_them(tmp_path):
    put(tmp_path, *[f"{number}.png" for number in range(10)])
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(b"broken")
    found = card(tmp_path, role="target", images=5)
    assert sorted(image["id"] for image in found["images"]) == [f"{number}.png" for number in range(5, 10)]
    assert {image["id"] for image in found["failed_images"]} <= {f"{number}.png" for number in range(5)}
    assert all("not an image" in image["reason"] for image in found["failed_images"])
    whole = card(tmp_path, role="target", images=50)
    assert (len(whole["images"]), len(whole["failed_images"])) == (5, 5)
    for number in range(5, 10):
        (tmp_path / f"{number}.png").write_bytes(b"")
    found = card(tmp_path, role="target", images=5)
    assert found["status"] == "failed"
    assert "none of the 10 images" in found["reason"]


def test_an_image_that_breaks_later_is_left_out_with_its_reason(tmp_path):
    put(tmp_path, "a.png", "b.png")
    found = card(tmp_path, role="target")
    (tmp_path / "a.png").unlink()
    loaded = load_images(found)
    assert loaded.image_ids == ["b.png"]
    assert loaded.failed == {"a.png": "the file does not exist"}


# --- the draw --------------------------------------------------------------------------------------------------------


def test_the_draw_depends_on_the_seed_alone(tmp_path):
    put(tmp_path, *[f"{number:03d}.png" for number in range(100)])
    first, again, other = (card(tmp_path, role="target", seed=seed)["images"] for seed in (0, 0, 1))
    assert first == again
    assert [image["id"] for image in first] != [image["id"] for image in other]
    assert len({image["id"] for image in first}) == 16
    more = card(tmp_path, role="target", seed=0, images=32)["images"]
    assert more[:16] == first


def test_a_stratified_draw_takes_turns():
    labels = [0] * 100 + [1] * 5 + [2] * 50
    order = draw_order(labels, seed=3, stratified=True)
    assert sorted(order) == list(range(155))
    taken = np.bincount(np.array(labels)[order[:15]])
    assert taken.tolist() == [5, 5, 5]
    taken = np.bincount(np.array(labels)[order[:17]])
    assert taken.tolist() == [6, 5, 6]


# --- lists -----------------------------------------------------------------------------------------------------------


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
    assert "no way to the network" in found["reason"]
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
        ("StanfordCars/test", ["StanfordCars/test is not in", "cannot be had"]),
    ],
)
def test_torchvision_with_mistakes(tmp_path, name, words):
    found = card(name, kind="torchvision", cache=tmp_path)
    assert found["status"] == "failed"
    for word in words:
        assert word in found["reason"]


# --- class names -----------------------------------------------------------------------------------------------------


def test_class_sheets(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("name: x\ndomain: sketch\nclasses: [cat, 7, 'no']\ntemplates: ['a {c}.', 'the {}']\n")
    found = read_prompts(path)
    assert found.classes == ("cat", "7", "no")
    assert found.templates == ("a {c}.", "the {c}")
    assert found.domain == "sketch"
    put(tmp_path / "images", "a.png")
    assert card(tmp_path / "images", role="target", classes=str(path))["domain"] == "sketch"
    assert card(tmp_path / "images", role="target", classes=str(path), domain="photo")["domain"] == "photo"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("c.txt", "", ["names no class"]),
        ("c.txt", "cat\ncat\n", ["'cat' twice"]),
        ("c.yaml", "- cat\n", ["names no class"]),
        ("c.yaml", "classes: cat\n", ["must be lists"]),
        ("c.yaml", "classes: [cat, '']\n", ["class 1 of 2 is empty"]),
        ("c.yaml", "classes: [cat]\ntemplates: ['a photo']\n", ["'a photo'", "{c}"]),
        ("c.yaml", "classes: [cat\n", ["cannot be read"]),
        ("c.yaml", "classes: !!python/object/apply:os.getcwd []\n", ["cannot be read"]),
    ],
)
def test_class_sheets_with_mistakes(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(VlmrankError) as error:
        read_prompts(tmp_path / name)
    for word in words:
        assert word in str(error.value)


def test_lists_of_clip_benchmark():
    assert len(clip_benchmark_prompts("imagenet1k").classes) == 1000
    assert len(clip_benchmark_prompts("wds/vtab/flowers").classes) == 102
    assert clip_benchmark_prompts("cifar10").classes == ()
    assert len(clip_benchmark_prompts("imagenet_sketch").classes) == 1000
    assert (clip_benchmark_prompts("imagenet-a").classes, len(clip_benchmark_prompts("imagenet-a").templates)) == (
        (),
        80,
    )
    with pytest.raises(VlmrankError, match="no such dataset"):
        clip_benchmark_prompts("cifar11")


class Letters:
    """A text tower whose embedding counts letters, and its tokenizer."""

    def __init__(self):
        import torch

        self.weight = torch.zeros(1)

    def parameters(self):
        yield self.weight

    def encode_text(self, tokens):
        return tokens

    def __call__(self, texts):
        import torch

        return torch.tensor([[float(text.count(letter)) + 0.1 for letter in "abc{"] for text in texts])


def test_class_embeddings_equal_clip_benchmarks_classifier():
    from clip_benchmark.metrics.zeroshot_classification import zero_shot_classifier

    model, classes, templates = Letters(), ["aab", "cb", "{b}"], ["a {c}", "{c}{c} c", "bb {c}"]
    found = class_embeddings(model, model, classes, templates, batch=2)
    theirs = zero_shot_classifier(model, model, classes, templates, "cpu", amp=False)
    np.testing.assert_allclose(found.numpy(), theirs.T.numpy(), rtol=0, atol=1e-6)
