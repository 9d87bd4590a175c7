"""What is computed when a dataset changes a little: the new images alone."""

import numpy as np
import pytest
from dataset_rows import prepared
from PIL import Image
from tiny_zoo import make_model

from vlmrank.jobs.compute_conductance import compute_conductance
from vlmrank.jobs.pool import JobSettings
from vlmrank.models.card import fetch_model
from vlmrank.store import read_pair

CLASSES = "cat\ndog\n"
OPTIONS = {
    **{"objective": "zero-shot", "baseline": "black", "nodes": "arc-length", "points": 3, "tolerance": None},
    **{"max_points": 8, "precision": "float64", "engine": "vlmrank", "rule": "auto"},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo") / "a"
    make_model(folder, 0)
    found = fetch_model("a", f"local-dir:{folder}")
    assert found["status"] == "ok", found["reason"]
    return found


class Runs:
    """Runs of one dataset's folder with one store."""

    def __init__(self, folder, model):
        self.folder, self.model, self.lines = folder, model, []
        rng = np.random.default_rng(0)
        (folder / "images").mkdir()
        for number in range(10):
            self.add(f"{number}.png", rng)
        (folder / "classes.txt").write_text(CLASSES)

    def add(self, name, rng):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(self.folder / "images" / name)

    def card(self, images=4, **changes):
        row = {"dataset": "d", "role": "target", "kind": "folder", "path": str(self.folder / "images")}
        return prepared(**row, classes=str(self.folder / "classes.txt"), images=images, **changes)

    def run(self, card, store="store", **options):
        """The pair of a card, and how many images were predicted and attributed anew; (0, 0): the model not loaded."""
        said = []
        settings = JobSettings(store=self.folder / store, device="cpu", code="c", say=said.append)
        compute_conductance(self.model, [card], [self.folder / "pair.h5"], {**OPTIONS, **options}, settings)
        self.lines += said
        pair = read_pair(self.folder / "pair.h5")
        assert pair.ok, pair.attributes["reason"]
        loaded = any("loaded in" in line for line in said)
        anew = tuple(int(pair.attributes[f"{what}_anew"]) for what in ("predicted", "attributed"))
        assert loaded == (anew != (0, 0))
        return pair, anew

    def check(self, card, pair, **options):
        """The pair is the one that is computed from nothing."""
        fresh, anew = self.run(card, store="other", **options)
        assert anew == (len(card["images"]) + len(card["predicted"]), len(card["images"]))
        assert pair.image_id == fresh.image_id and pair.predicted_id == fresh.predicted_id
        assert pair.predicted_sha256 == fresh.predicted_sha256 and all(pair.predicted_sha256)
        assert pair.attributes["quadrature"] == fresh.attributes["quadrature"]
        assert pair.attributes["identity"] == fresh.attributes["identity"]
        for name in ("score", "delta", "pseudo_label", "logits", "embedding", "class_embedding", "alphas"):
            np.testing.assert_allclose(getattr(pair, name), getattr(fresh, name), rtol=1e-6, atol=1e-6)
        for path, values in fresh.blocks.items():
            np.testing.assert_allclose(pair.blocks[path], values, rtol=1e-6, atol=1e-6 * np.abs(values).max())


@pytest.fixture
def runs(tmp_path, model):
    return Runs(tmp_path, model)


def test_more_images_a_dataset_cost_the_new_ones(runs):
    assert runs.run(runs.card())[1] == (10, 4)
    more = runs.card(images=6)
    pair, anew = runs.run(more)
    assert anew == (2, 2) and len(pair.image_id) == 6 and len(pair.predicted_id) == 10
    assert "10 images predicted (2 anew), 6 attributed (2 anew) in" in runs.lines[-1]
    runs.check(more, pair)
    fewer, anew = runs.run(runs.card(images=3))
    assert anew == (0, 0) and len(fewer.image_id) == 3
    assert runs.run(runs.card(images=3, predictions=5))[1] == (0, 0)


def test_added_photographs_are_computed_alone(runs):
    runs.run(runs.card(images=4))
    rng = np.random.default_rng(1)
    for number in range(10):
        runs.add(f"new{number}.png", rng)
    card = runs.card(images=4)
    drawn = sum(image["id"].startswith("new") for image in card["images"])
    further = sum(image["id"].startswith("new") for image in card["predicted"])
    assert drawn + further == 10 and drawn > 0
    pair, anew = runs.run(card)
    assert anew == (10, drawn)
    runs.check(card, pair)


def test_a_removed_photograph_costs_at_most_the_one_that_moves_up(runs):
    card = runs.card(images=4)
    runs.run(card)
    (runs.folder / "images" / card["predicted"][-1]["id"]).unlink()
    pair, anew = runs.run(runs.card(images=4))
    assert anew == (0, 0) and len(pair.predicted_id) == 9
    (runs.folder / "images" / card["images"][0]["id"]).unlink()
    card = runs.card(images=4)
    pair, anew = runs.run(card)
    assert anew == (1, 1) and len(pair.predicted_id) == 8
    runs.check(card, pair)


def test_a_renamed_or_copied_photograph_is_known_by_its_content(runs):
    runs.run(runs.card(images=10))
    for path in (runs.folder / "images").iterdir():
        path.rename(path.with_name(f"photo-{path.name}"))
    pair, anew = runs.run(runs.card(images=10))
    assert anew == (0, 0) and all(name.startswith("photo-") for name in pair.image_id)


def test_other_settings_or_classes_share_no_row(runs):
    card = runs.card()
    runs.run(card)
    assert runs.run(card, points=4)[1] == (10, 4)
    (runs.folder / "classes.txt").write_text("cat\nhorse\n")
    assert runs.run(runs.card())[1] == (10, 4)


def test_paths_from_the_mean_image_are_of_their_images_alone(runs):
    runs.run(runs.card(), baseline="mean")
    more = runs.card(images=6)
    pair, anew = runs.run(more, baseline="mean")
    assert anew == (10, 6)
    runs.check(more, pair, baseline="mean")
    assert runs.run(runs.card(images=6, predictions=7), baseline="mean")[1] == (0, 0)


def test_a_damaged_or_missing_relative_is_computed_again(runs):
    runs.run(runs.card())
    (entry,) = (runs.folder / "store").glob("[0-9a-f][0-9a-f]/*.h5")
    entry.chmod(0o600)
    entry.write_bytes(entry.read_bytes()[:-9] + b"123456789")
    assert runs.run(runs.card(images=5))[1] == (10, 5)
    for entry in (runs.folder / "store").glob("[0-9a-f][0-9a-f]/*.h5"):
        entry.unlink()
    assert runs.run(runs.card(images=4))[1] == (10, 4)
    assert len(list((runs.folder / "store" / "families").rglob("*/*/*"))) == 1, "marks of what is gone are forgotten"


def test_an_image_without_conductance_does_not_lose_the_others(runs):
    runs.run(runs.card(images=10))
    Image.new("RGB", (32, 32)).save(runs.folder / "images" / "black.png")
    card = runs.card(images=11)
    pair, anew = runs.run(card)
    assert anew == (1, 1) and len(pair.image_id) == 10 and len(pair.predicted_id) == 11
    assert "zero in every block" in pair.failed_images["black.png"]
    runs.check(card, pair)
