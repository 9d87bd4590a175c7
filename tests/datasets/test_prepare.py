"""Folders of images and the draw of K of them: every name a file can have, and images that break."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from dataset_rows import card, picture, put

from vlmrank.datasets import draw, prepare
from vlmrank.datasets.draw import draw_order
from vlmrank.datasets.prepare import load_images
from vlmrank.errors import VlmrankError


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
    put(tmp_path, "cat/good.png", "dog/good.png")
    with open(os.fsencode(tmp_path / "cat") + b"/\xff\xfe.png", "wb") as file:  # noqa: PTH123
        file.write(picture())
    found = card(tmp_path)
    good = ["cat/good.png", "dog/good.png"]
    assert sorted(image["id"] for image in found["images"]) == [image["id"] for image in found["test"]] == good
    assert "left out: 1 test images whose names are not UTF-8" in found["notes"]
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
    assert loaded.failed == {"a.png": "the file does not exist; run again"}


# --- the draw --------------------------------------------------------------------------------------------------------


def test_the_draw_depends_on_the_seed_alone(tmp_path):
    put(tmp_path, *[f"{number:03d}.png" for number in range(100)])
    first, again, other = (card(tmp_path, role="target", seed=seed)["images"] for seed in (0, 0, 1))
    assert first == again
    assert [image["id"] for image in first] != [image["id"] for image in other]
    assert len({image["id"] for image in first}) == 16
    more = card(tmp_path, role="target", seed=0, images=32)["images"]
    assert more[:16] == first


def test_one_image_more_or_less_moves_no_other(tmp_path):
    names = [f"{number:03d}.png" for number in range(60)]
    put(tmp_path, *names)
    drawn = [image["id"] for image in card(tmp_path, role="target", images=60)["images"]]
    put(tmp_path, *[f"new{number}.png" for number in range(10)])
    (tmp_path / drawn[7]).unlink()
    again = [image["id"] for image in card(tmp_path, role="target", images=69)["images"]]
    assert [name for name in again if name in names] == drawn[:7] + drawn[8:]


def test_all_other_images_are_predicted_up_to_a_limit(tmp_path, monkeypatch):
    put(tmp_path, *[f"{name}/{number:02d}.png" for name in ("cat", "dog") for number in range(20)])
    whole = card(tmp_path, images=6)
    assert len(whole["images"]) == 6 and len(whole["predicted"]) == whole["n_predicted"] == 34
    assert {image["label"] for image in whole["predicted"]} == {0, 1} and all(i["sha256"] for i in whole["predicted"])
    assert len({image["id"] for image in [*whole["images"], *whole["predicted"]]}) == 40
    assert {image["label"] for image in card(tmp_path, images=6, role="target")["predicted"]} == {-1}
    some = card(tmp_path, images=6, predictions=10)
    assert some["images"] == whole["images"] and some["predicted"] == whole["predicted"][:4]
    assert "10 of its 40 images are taken (images.predictions)" in some["notes"]
    assert card(tmp_path, images=6, predictions=2)["predicted"] == []
    monkeypatch.setitem(draw.MOST_PREDICTED, "source", 8)
    assert card(tmp_path, images=6)["n_predicted"] == 2 and card(tmp_path, images=6, role="target")["n_predicted"] == 34


def test_a_further_image_that_cannot_be_read_is_named(tmp_path):
    put(tmp_path, *[f"{number}.png" for number in range(8)])
    last = card(tmp_path, role="target", images=2)["predicted"][-1]["id"]
    (tmp_path / last).unlink()
    os.mkfifo(tmp_path / last)
    found = card(tmp_path, role="target", images=2)
    assert last not in [image["id"] for image in found["predicted"]]
    broken = found["predicted"][0]
    (tmp_path / broken["id"]).write_bytes(b"no image")
    found = card(tmp_path, role="target", images=2)
    pictures = dict(prepare.further_images(found))
    assert isinstance(pictures.pop(broken["id"]), VlmrankError)
    assert all(one.mode == "RGB" for one in pictures.values()) and len(pictures) == found["n_predicted"] - 1
    (tmp_path / broken["id"]).write_bytes(b"something else")
    with pytest.raises(VlmrankError, match="has changed since"):
        list(prepare.further_images(found))


def test_a_stratified_draw_takes_turns():
    labels = [0] * 100 + [1] * 5 + [2] * 50
    order = draw_order([f"{index}.png" for index in range(155)], labels, seed=3, stratified=True)
    assert sorted(order) == list(range(155))
    taken = np.bincount(np.array(labels)[order[:15]])
    assert taken.tolist() == [5, 5, 5]
    taken = np.bincount(np.array(labels)[order[:17]])
    assert taken.tolist() == [6, 5, 6]
