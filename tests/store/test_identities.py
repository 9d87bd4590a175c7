"""Identities."""

import pytest

from vlmrank.store.identities import pair_identity

MODEL = {
    "model": "m",
    "architecture": "local-dir:x",
    "weights_sha256": "w",
    "config_sha256": "c",
    "preprocess": {"size": 64},
}
DATASET = {
    "dataset": "d",
    "images": [{"id": "0", "path": "p", "sha256": "s", "label": -1}],
    "classes": ["a"],
    "templates": ["{c}"],
}
OPTIONS = {"points": 16, "device": "auto", "batch": "auto"}


def changed(mapping, **values):
    return {**mapping, **values}


@pytest.mark.parametrize(
    "arguments",
    [
        (changed(MODEL, weights_sha256="v"), DATASET, OPTIONS, "code"),
        (changed(MODEL, config_sha256="v"), DATASET, OPTIONS, "code"),
        (changed(MODEL, preprocess={"size": 32}), DATASET, OPTIONS, "code"),
        (MODEL, changed(DATASET, classes=["b"]), OPTIONS, "code"),
        (MODEL, changed(DATASET, templates=["a {c}"]), OPTIONS, "code"),
        (MODEL, changed(DATASET, images=[changed(DATASET["images"][0], sha256="t")]), OPTIONS, "code"),
        (MODEL, DATASET, changed(OPTIONS, points=8), "code"),
        (MODEL, DATASET, OPTIONS, "other"),
    ],
)
def test_everything_that_decides_changes_the_identity(arguments):
    assert pair_identity(*arguments) != pair_identity(MODEL, DATASET, OPTIONS, "code")


@pytest.mark.parametrize(
    "arguments",
    [
        (changed(MODEL, model="n", architecture="local-dir:y"), DATASET, OPTIONS, "code"),
        (MODEL, changed(DATASET, dataset="e", images=[changed(DATASET["images"][0], path="q")]), OPTIONS, "code"),
        (MODEL, DATASET, changed(OPTIONS, device="cuda", batch=4), "code"),
    ],
)
def test_names_places_and_devices_do_not(arguments):
    assert pair_identity(*arguments) == pair_identity(MODEL, DATASET, OPTIONS, "code")


def test_releases_that_change_numbers_change_the_identity(monkeypatch):
    from vlmrank.store import identities

    assert set(identities.versions()) == {"torch", "open_clip_torch", "timm", "pillow"}
    assert all(version.count(".") == 1 for version in identities.versions().values())
    before = pair_identity(MODEL, DATASET, OPTIONS, "code")
    newer = {**identities.versions(), "pillow": "99.0"}
    monkeypatch.setattr(identities, "versions", lambda packages: newer)
    assert pair_identity(MODEL, DATASET, OPTIONS, "code") != before


def test_a_ceiling_that_nothing_reaches_is_no_part_of_it():
    fixed, doubled = ({**OPTIONS, "tolerance": tolerance} for tolerance in (None, 0.1))
    assert pair_identity(MODEL, DATASET, {**fixed, "max_points": 64}, "c") == pair_identity(MODEL, DATASET, fixed, "c")
    assert pair_identity(MODEL, DATASET, {**doubled, "max_points": 64}, "c") != pair_identity(
        MODEL, DATASET, {**doubled, "max_points": 128}, "c"
    )
