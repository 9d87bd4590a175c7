"""The bytes that are decoded are the bytes that were hashed; what is not, or is missing, is not shared."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from dataset_rows import card, put, tar

from vlmrank.datasets.decode import ChangedImageError, ImageError, read_image
from vlmrank.datasets.prepare import load_images
from vlmrank.errors import FailedPair
from vlmrank.jobs import compute_conductance as chunk
from vlmrank.jobs import pool
from vlmrank.jobs.measure_accuracy import measure_accuracies
from vlmrank.jobs.pool import JobSettings
from vlmrank.store import OK, Pair, read_json, read_pair, write_csv
from vlmrank.store.identities import accuracy_identity, pair_identity
from vlmrank.workflow.again import files_to_make_again

MODEL = {"model": "m", "architecture": "a", "weights_sha256": "w", "status": OK, "preprocess": {}}
OPTIONS = {"objective": "zero-shot", "baseline": "black", "nodes": "uniform", "points": 4, "precision": "float32"}


def overwrite(path: Path, content: bytes) -> None:
    """Other content of equal size and equal times."""
    facts = path.stat()
    assert len(content) == facts.st_size
    path.write_bytes(content)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def bitmap(shade: int) -> bytes:
    """An uncompressed picture: all of a size have as many bytes."""
    return b"P6 4 4 255\n" + bytes([shade] * 48)


@pytest.mark.parametrize("kind", ["folder", "webdataset"])
def test_an_image_overwritten_in_place_is_refused(tmp_path, kind):
    if kind == "folder":
        path = tmp_path / "images/0.ppm"
        path.parent.mkdir()
        path.write_bytes(bitmap(1))
        found = card(path.parent, role="target")
        new = bitmap(2)
    else:
        path = tar(tmp_path / "test/0.tar", [("a", bitmap(1), 0)], extension="ppm")
        found = card(path, kind=kind)
        new = path.read_bytes().replace(bitmap(1), bitmap(2))
    assert len(load_images(found).images) == 1
    overwrite(path, new)
    with pytest.raises(ChangedImageError, match="has changed since the dataset was prepared; run again"):
        read_image(found["images"][0])
    with pytest.raises(FailedPair, match=r"^image \S+: it has changed"):
        load_images(found)


def test_a_labelled_image_overwritten_in_place_is_refused(tmp_path):
    put(tmp_path, "cat/a.ppm", "dog/a.ppm")
    for name in ("cat", "dog"):
        (tmp_path / name / "a.ppm").write_bytes(bitmap(1))
    found = card(tmp_path)
    overwrite(tmp_path / "dog/a.ppm", bitmap(2))
    with pytest.raises(ChangedImageError):
        [read_image(record) for record in found["test"]]


def test_an_accuracy_is_that_of_the_content(tmp_path):
    cards = []
    for name, shade in (("first", 1), ("second", 2)):
        for label in ("cat", "dog"):
            path = tmp_path / name / label / "a.ppm"
            path.parent.mkdir(parents=True)
            path.write_bytes(bitmap(shade))
            os.utime(path, ns=(10**18, 10**18))
        cards.append(card(tmp_path / name))
    first, second = (accuracy_identity(MODEL, one, {}, "c") for one in cards)
    assert first != second
    os.utime(tmp_path / "first/cat/a.ppm")
    assert accuracy_identity(MODEL, card(tmp_path / "first"), {}, "c") == first


@pytest.fixture
def drawn(tmp_path):
    """A dataset of four images and its card."""
    put(tmp_path / "images", *[f"{number}.png" for number in range(4)])
    return card(tmp_path / "images", role="target", images=4)


@pytest.fixture
def compute(tmp_path, monkeypatch):
    """Do what a conductance job does, without a model: pairs have the images that could be decoded."""

    def pairs(_loaded, tasks, _options):
        for task in tasks:
            yield Pair(
                image_id=task.image_ids,
                failed_images=task.failed_images,
                attributes={"status": OK, "reason": "", "seconds": 0.0, **task.attributes},
            )

    monkeypatch.setattr(pool, "load", lambda *_: object())
    monkeypatch.setattr("vlmrank.conductance.pair.compute_pairs", pairs)

    def run(dataset):
        out = tmp_path / "d.h5"
        out.unlink(missing_ok=True)
        store = tmp_path / "store"
        chunk.compute_conductance(MODEL, [dataset], [out], OPTIONS, JobSettings(store, "c"))
        return read_pair(out), sorted(store.rglob("*.h5"))

    return run


def test_a_pair_without_some_of_its_images_is_kept_but_not_shared_and_heals(tmp_path, drawn, compute):
    path = Path(drawn["images"][1]["path"])
    path.rename(tmp_path / "away")
    pair, stored = compute(drawn)
    assert pair.ok and len(pair.image_id) == 3 and not stored
    assert pair.failed_images == {path.name: "the file does not exist; run again"}
    used = [image for image in drawn["images"] if image["id"] in pair.image_id]
    assert pair.attributes["identity"] == pair_identity(MODEL, {**drawn, "images": used}, OPTIONS, "c")
    (tmp_path / "away").rename(path)
    pair, stored = compute(drawn)
    assert len(pair.image_id) == 4 and len(stored) == 1 and not pair.failed_images


def test_a_changed_image_fails_its_pair_and_no_other(tmp_path, drawn, compute):
    path = Path(drawn["images"][0]["path"])
    overwrite(path, path.read_bytes()[:-1] + b"x")
    pair, stored = compute(drawn)
    assert not pair.ok and not stored
    assert pair.attributes["reason"].endswith("it has changed since the dataset was prepared; run again")


def test_a_pair_whose_images_are_all_gone_for_a_moment_asks_for_another_run(drawn, compute):
    for image in drawn["images"]:
        Path(image["path"]).unlink()
    pair, stored = compute(drawn)
    assert not pair.ok and not stored and pair.attributes["reason"].endswith("the file does not exist; run again")


def test_an_accuracy_without_some_of_its_images_is_not_shared(tmp_path, monkeypatch):
    put(tmp_path / "images", "cat/a.png", "dog/a.png")
    found, out, store = card(tmp_path / "images"), tmp_path / "d.json", tmp_path / "store"
    failed = [{"id": "cat/a.png", "reason": "the file does not exist; run again"}]

    def measure(*_, identity, **__):
        return {"status": OK, "reason": "", "n": 1, "acc1": 1.0, "seconds": 0, "identity": identity} | {
            "failed_images": list(failed)
        }

    monkeypatch.setattr("vlmrank.jobs.measure_accuracy.measure_accuracy", measure)
    monkeypatch.setattr(pool, "load", lambda *_: None)
    measure_accuracies(MODEL, [found], [out], JobSettings(store))
    assert read_json(out)["n"] == 1 and not list(store.rglob("??/*.json"))
    failed.clear()
    measure_accuracies(MODEL, [found], [out], JobSettings(store))
    assert list(store.rglob("??/*.json"))


def test_an_error_of_the_file_system_asks_for_another_run_and_a_broken_file_does_not(tmp_path, monkeypatch):
    put(tmp_path, "a.png")
    record = card(tmp_path, role="target")["images"][0]
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, os.strerror(errno.EIO))))
        with pytest.raises(ImageError, match=r"Input/output error.*; run again"):
            read_image(record)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ImageError) as error:
        read_image({"path": str(tmp_path / "a.png")})
    assert "run again" not in str(error.value)


def test_a_labelled_image_that_could_not_be_hashed_is_not_measured(tmp_path, monkeypatch):
    put(tmp_path, "cat/a.png", "dog/a.png")
    record = card(tmp_path)["test"][0] | {"sha256": ""}
    with pytest.raises(ImageError, match="could not be read when the dataset was prepared; run again"):
        read_image(record)


def test_rows_that_ask_for_another_run_are_made_again(tmp_path):
    import pandas as pd

    changed = "d, image a: it has changed since the dataset was prepared; run again"
    rows = [
        ("conductance", "m", "d", "failed", changed),
        ("conductance", "m", "e", "ok", "left out: image a: the file does not exist; run again"),
        ("conductance", "n", "e", "failed", "no image could be used"),
        ("accuracy", "n", "e", "failed", "killed; run again"),
        ("fetch", "o", "", "failed", "no network; run again"),
        ("conductance", "p", "e", "failed", "the weights have changed since the model was fetched; run again"),
    ]
    write_csv(tmp_path / "pairs.csv", pd.DataFrame(rows, columns=["stage", "model", "dataset", "status", "reason"]))
    assert files_to_make_again(tmp_path) == [
        f"{tmp_path}/{name}"
        for name in (
            "accuracy/n/e.json",
            "conductance/m/d.h5",
            "conductance/m/e.h5",
            "conductance/p/e.h5",
            "datasets/d.json",
            "models/o.json",
            "models/p.json",
        )
    ]
    assert files_to_make_again(tmp_path / "none") == []
