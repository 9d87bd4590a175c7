"""Files survive a round trip, and a broken write leaves nothing."""

import h5py
import numpy as np
import pandas as pd
import pytest

from vlmrank import store
from vlmrank.errors import VlmrankError


def a_pair(rng: np.random.Generator, images: int = 3) -> store.Pair:
    return store.Pair(
        blocks={f"layer.{b}": rng.normal(size=(images, 4 + b)).astype(np.float32) for b in range(12)},
        score=rng.normal(size=(images, 2)),
        delta=rng.normal(size=(images, 12)).astype(np.float32),
        pseudo_label=np.array([0, 1, -1]),
        image_id=["a b.png", "é'\"<b>.png", "../x" * 100],
        alphas=np.linspace(0, 1, 5),
        logits=rng.normal(size=(images, 2)).astype(np.float32),
        failed_images={"broken.png": "truncated"},
        attributes={"status": "ok", "class_names": ["a", "b"], "templates": ["{c}"], "seed": 3, "reason": None},
    )


def test_pair_round_trip(tmp_path):
    pair = a_pair(np.random.default_rng(0))
    path = tmp_path / "deep" / "pair.h5"
    store.write_pair(path, pair)
    back = store.read_pair(path)
    assert back.ok
    assert list(back.blocks) == list(pair.blocks)
    for module, values in pair.blocks.items():
        np.testing.assert_array_equal(back.blocks[module], values)
    np.testing.assert_array_equal(back.score, pair.score)
    np.testing.assert_array_equal(back.pseudo_label, pair.pseudo_label)
    assert back.image_id == tuple(pair.image_id)
    assert back.failed_images == pair.failed_images
    assert back.embedding is None
    assert back.attributes["class_names"] == ["a", "b"]
    assert back.attributes["seed"] == 3
    assert back.attributes["reason"] == ""
    assert store.read_pair_attributes(path) == back.attributes
    assert [entry.name for entry in path.parent.iterdir()] == ["pair.h5"]


def test_long_attributes_are_kept(tmp_path):
    names = [f"class number {i}" for i in range(10_000)]
    store.write_pair(tmp_path / "p.h5", store.Pair(attributes={"status": "failed", "class_names": names}))
    back = store.read_pair(tmp_path / "p.h5")
    assert not back.ok
    assert back.attributes["class_names"] == names


def test_truncated_file_gets_a_message(tmp_path):
    path = tmp_path / "pair.h5"
    store.write_pair(path, a_pair(np.random.default_rng(0)))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(store.DamagedFile, match="delete it and run again"):
        store.read_pair(path)


@pytest.mark.parametrize("what", ["an array", "an attribute"])
def test_a_changed_value_gets_a_message(tmp_path, what):
    path = tmp_path / "pair.h5"
    store.write_pair(path, a_pair(np.random.default_rng(0)))
    with h5py.File(path, "r+") as file:
        if what == "an array":
            file["blocks/03"][0, 0] = 2e38
        else:
            file.attrs["seed"] = 4
    for read in (store.read_pair, store.read_pair_attributes):
        with pytest.raises(store.DamagedFile, match="delete it and run again"):
            read(path)


def test_a_file_of_another_kind_or_without_a_checksum_gets_a_message(tmp_path):
    rng = np.random.default_rng(1)
    store.write_alignment(
        tmp_path / "a.h5", store.Alignment(("a",), rng.random((1, 3)), rng.random(3), rng.random(1), np.array([4]))
    )
    with pytest.raises(store.DamagedFile, match="'alignment', not 'pair'"):
        store.read_pair(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["score"] = 1.0
    with pytest.raises(store.DamagedFile, match="not a whole result file"):
        store.read_pair(tmp_path / "b.h5")


def test_a_pair_of_another_model_or_dataset_gets_a_message(tmp_path):
    store.write_pair(tmp_path / "p.h5", store.Pair(attributes={"status": "ok", "model": "m", "dataset": "d"}))
    assert store.read_pair(tmp_path / "p.h5", of=("m", "d")).ok
    for other in (("n", "d"), ("m", "e")):
        with pytest.raises(store.DamagedFile, match="holds m on d, not"):
            store.read_pair(tmp_path / "p.h5", of=other)


def test_a_changed_json_file_gets_a_message(tmp_path):
    path = tmp_path / "card.json"
    store.write_json(path, {"images": [1, 2.5, "ü"], "n": None, "t": (1, 2)})
    assert store.read_json(path) == {"images": [1, 2.5, "ü"], "n": None, "t": [1, 2]}
    path.write_text(path.read_text().replace("2.5", "2.6"))
    with pytest.raises(store.DamagedFile, match="damaged"):
        store.read_json(path)
    path.write_text('{"half": ')
    with pytest.raises(store.DamagedFile, match="delete it and run again"):
        store.read_json(path)


def test_broken_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "table.csv"
    store.write_csv(path, pd.DataFrame({"model": ["a"]}))
    before = path.read_bytes()
    with pytest.raises(RuntimeError), store.atomic(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_csv_keeps_text_and_numbers(tmp_path):
    table = pd.DataFrame({"model": ["1e5", "NA"], "score": [0.1 + 0.2, np.nan], "reason": ["", 'no, "quoted"']})
    store.write_csv(tmp_path / "t.csv", table)
    back = store.read_csv(tmp_path / "t.csv")
    assert list(back.model) == ["1e5", "NA"]
    assert list(back.reason) == list(table.reason)
    np.testing.assert_array_equal(back.score, table.score)


def test_alignment_and_dcd_round_trip(tmp_path):
    rng = np.random.default_rng(1)
    alignment = store.Alignment(("a", "b"), rng.random((2, 3)), rng.random(3), rng.random(2), np.array([4, 0]))
    store.write_alignment(tmp_path / "a.h5", alignment)
    back = store.read_alignment(tmp_path / "a.h5")
    assert back.datasets == ("a", "b")
    np.testing.assert_array_equal(back.importance, alignment.importance)
    np.testing.assert_array_equal(back.iterations, alignment.iterations)
    divergences = store.Divergences(("a", "b"), rng.random((2, 2)), rng.random((2, 2, 5)))
    store.write_dcd(tmp_path / "d.h5", divergences)
    np.testing.assert_array_equal(store.read_dcd(tmp_path / "d.h5").per_image, divergences.per_image)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("errno = 122, 'Disk quota exceeded'")]
)
def test_a_full_disk_is_one_line(tmp_path, error):
    with pytest.raises(VlmrankError, match="make room") as raised, store.atomic(tmp_path / "a.csv") as partial:
        partial.write_text("half")
        raise error
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_pair_prints_in_one_line():
    attributes = {"model": "m", "dataset": "d", "status": "ok"}
    pair = store.Pair(blocks={"a": np.zeros((4, 300))}, image_id=list("abcd"), attributes=attributes)
    assert repr(pair) == "Pair(m on d: 4 images, 1 blocks, 4 predicted, ok)"
