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
