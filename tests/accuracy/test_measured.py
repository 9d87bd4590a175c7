"""Measured accuracy: equal to clip-benchmark's own code, and to the truth of the bench."""

from __future__ import annotations

import csv
import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from dataset_rows import prepared
from PIL import Image
from tiny import tiny_state, write_tiny

from vlmrank.accuracy.measured import measure_accuracy, zero_shot_accuracy
from vlmrank.errors import FailedPair
from vlmrank.jobs.measure_accuracy import measure_accuracies
from vlmrank.jobs.pool import JobSettings
from vlmrank.store import read_json

BENCH = Path(os.environ.get("VLMRANK_BENCHZOO", "benchzoo"))
needs_bench = pytest.mark.skipif(not BENCH.is_dir(), reason=f"{BENCH} is absent")


@pytest.fixture
def theirs(monkeypatch):
    """clip-benchmark's module, whose `float(array of one element)` NumPy refuses from 2.4 on."""
    from clip_benchmark.metrics import zeroshot_classification as module

    monkeypatch.setattr(module, "float", lambda value: float(np.asarray(value).item()), raising=False)
    return module


@pytest.mark.parametrize(("n", "c", "absent"), [(200, 10, 0), (57, 3, 0), (300, 40, 7), (9, 5, 2)])
def test_equals_clip_benchmark_on_the_same_logits(n, c, absent, theirs):
    import torch
    from sklearn.metrics import balanced_accuracy_score

    rng = np.random.default_rng(n)
    logits = rng.normal(size=(n, c)).astype(np.float32)
    labels = rng.integers(0, c - absent, size=n)
    found = zero_shot_accuracy(logits, labels, [f"class {i}" for i in range(c)])
    expected = theirs.accuracy(torch.from_numpy(logits), torch.from_numpy(labels), topk=(1, 5) if c >= 5 else (1,))
    assert found.n == n
    np.testing.assert_allclose(found.acc1, expected[0], rtol=0, atol=1e-12)
    if c >= 5:
        np.testing.assert_allclose(found.acc5, expected[1], rtol=0, atol=1e-12)
    else:
        assert found.acc5 is None
    balanced = balanced_accuracy_score(labels, logits.argmax(1))
    np.testing.assert_allclose(found.mean_per_class_recall, balanced, rtol=0, atol=1e-12)
    assert sum(count for _, count in found.per_class.values()) == n
    assert len(found.per_class) == len(set(labels.tolist()))


def test_classes_of_one_name_are_counted_apart():
    found = zero_shot_accuracy(np.eye(2), np.array([0, 1]), ["missile", "missile"])
    assert found.per_class == {"missile": (1.0, 1), "missile (2)": (1.0, 1)}


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        zero_shot_accuracy(np.zeros((2, 3)), np.zeros(2, int), ["a", "b"])


@needs_bench
def test_the_bench_has_the_accuracy_that_was_measured_elsewhere(tmp_path):
    from vlmrank.models.card import fetch_model

    model, dataset = "RN-xs--corpus0", "silhouettes16"
    folder = BENCH / "datasets" / dataset
    with (BENCH / "accuracy.csv").open() as file:
        truth = {(row["model"], row["dataset"]): row for row in csv.DictReader(file)}[model, dataset]
    card = fetch_model(model, f"local-dir:{BENCH / 'models' / model}")
    data = prepared(
        dataset,
        "source",
        "folder",
        str(folder / "target"),
        test=str(folder / "test"),
        classes=str(folder / "dataset.yaml"),
    )
    lines: list[str] = []
    settings = JobSettings(tmp_path / "store", device="cpu", say=lines.append)
    measure_accuracies(card, [data], [tmp_path / "a.json"], settings)
    found = read_json(tmp_path / "a.json")
    assert found["status"] == "ok"
    assert found["n"] == int(truth["n"])
    np.testing.assert_allclose(found["acc1"], float(truth["acc1"]), rtol=0, atol=1e-6)
    with (BENCH / "per_class_accuracy.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if (row["model"], row["dataset"]) == (model, dataset)]
    for row in rows:
        share, count = found["per_class"][row["class"]]
        assert count == int(row["n"])
        np.testing.assert_allclose(share, float(row["acc1"]), rtol=0, atol=1e-6)
    measure_accuracies(card, [data], [tmp_path / "b.json"], settings)
    assert "taken from the store" in lines[-1]
    assert read_json(tmp_path / "b.json") == found


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    from vlmrank.zoo import load_model

    return load_model(f"local-dir:{write_tiny(tmp_path_factory.mktemp('models') / 'tiny', tiny_state())}")


@pytest.fixture
def pets(tmp_path):
    """Seven classes with a handful of noisy images each, and their card."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog", "polar bear", "yak", "ox", "emu", "gnu")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(3 + label):
            noise = rng.integers(0, 60 + 20 * label, (40, 50, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / "pets" / name / f"{number}.png")
    return tmp_path / "pets"


def test_equals_clip_benchmark_from_the_images_on(theirs, loaded, pets):
    import torch

    class Images(torch.utils.data.Dataset):
        def __init__(self, card, preprocess):
            self.records, self.classes, self.preprocess = card["test"], card["classes"], preprocess

        def __len__(self):
            return len(self.records)

        def __getitem__(self, index):
            with Image.open(self.records[index]["path"]) as image:
                return self.preprocess(image), self.records[index]["label"]

    card = prepared("pets", "source", "folder", str(pets))
    card["templates"] = ["a photo of a {c}.", "a {c}, drawn."]
    found = measure_accuracy(loaded, card, batch=10)
    assert 0 < found["acc1"] < 1
    batches = torch.utils.data.DataLoader(Images(card, loaded.preprocess), batch_size=7)
    expected = theirs.evaluate(
        loaded.model, batches, loaded.tokenizer, card["classes"], card["templates"], "cpu", amp=False
    )
    assert set(expected) == {"acc1", "acc5", "mean_per_class_recall"}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-12)


def test_images_that_cannot_be_read_are_named_and_left_out(loaded, pets):
    (pets / "cat" / "bad.png").write_bytes(b"not an image")
    card = prepared("pets", "source", "folder", str(pets))
    found = measure_accuracy(loaded, card)
    assert found["n"] == card["n_test"] - 1
    assert [image["id"] for image in found["failed_images"]] == ["cat/bad.png"]
    for path in pets.rglob("*.png"):
        path.unlink()
    found = measure_accuracy(loaded, card)
    assert (found["status"], found["acc1"]) == ("failed", None)
    assert f"none of the {card['n_test']} labelled images" in found["reason"]


def test_a_labelled_image_that_was_overwritten_fails_its_dataset(loaded, pets):
    card = prepared("pets", "source", "folder", str(pets))
    (pets / "cat" / "0.png").write_bytes((pets / "dog" / "0.png").read_bytes())
    with pytest.raises(FailedPair, match=r"^image cat/0.png: it has changed since"):
        measure_accuracy(loaded, card)


def test_logits_that_are_not_finite_are_a_failure(loaded, pets):
    import torch

    class Broken(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def encode_text(self, tokens):
            return tokens[:, :4].float()

        def encode_image(self, images):
            return torch.full((len(images), 4), torch.nan)

    broken = dataclasses.replace(loaded, model=Broken())
    found = measure_accuracy(broken, prepared("pets", "source", "folder", str(pets)))
    assert (found["status"], found["reason"]) == ("failed", "the model's logits are not finite")


def test_a_failed_model_and_a_failed_dataset_are_rows(tmp_path):
    broken = {"model": "m", "architecture": "a", "status": "failed", "reason": "no weights"}
    data = {
        "dataset": "d",
        "status": "ok",
        "reason": "",
        "classes": ["a"],
        "test": [{"id": "x", "path": "x", "label": 0}],
    }
    measure_accuracies(broken, [data], [tmp_path / "a.json"], JobSettings(tmp_path / "s"))
    assert read_json(tmp_path / "a.json")["reason"] == "the model cannot be used: no weights"
    whole = {"model": "m", "architecture": "a", "status": "ok", "reason": ""}
    data = {"dataset": "d", "status": "failed", "reason": "no image"}
    measure_accuracies(whole, [data], [tmp_path / "a.json"], JobSettings(tmp_path / "s"))
    assert read_json(tmp_path / "a.json")["reason"] == "the dataset cannot be used: no image"
    unlabelled = {"dataset": "d", "status": "ok", "reason": "", "test": None, "classes": []}
    measure_accuracies(whole, [unlabelled], [tmp_path / "a.json"], JobSettings(tmp_path / "s"))
    found = read_json(tmp_path / "a.json")
    assert (found["status"], found["n"], found["acc1"]) == ("ok", 0, None)
