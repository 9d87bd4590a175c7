"""A target without class names: its sources are computed without theirs as well, and only equals are compared."""

from __future__ import annotations

import numpy as np
import pytest
from dataset_rows import put, tar

from vlmrank.divergence import of_one_objective
from vlmrank.workflow.objectives import TWIN, cards_for, has_names, twins
from vlmrank.workflow.sheets import DatasetRow


def row(name, role, path, **cells):
    return DatasetRow(name, role, str(path), **cells)


@pytest.fixture
def places(tmp_path):
    put(tmp_path / "flat", "a.png", "b.png")
    put(tmp_path / "one", "photos/a.png")
    put(tmp_path / "named", "cat/a.png", "dog/b.png")
    (tmp_path / "names.csv").write_text("path,label\na.png,cat\n")
    (tmp_path / "numbers.csv").write_text("path,label\na.png,0\n")
    (tmp_path / "bare.csv").write_text("path\na.png\n")
    tar(tmp_path / "set" / "test" / "0.tar", [("a", b"", 0)])
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "path", "named"),
    [
        ("folder", "flat", False),
        ("folder", "one", False),
        ("folder", "named", True),
        ("csv", "names.csv", True),
        ("csv", "numbers.csv", False),
        ("csv", "bare.csv", False),
        ("webdataset", "set", False),
        ("folder", "nowhere", True),
    ],
)
def test_who_has_names(places, kind, path, named):
    assert has_names(row("d", "target", places / path, kind=kind)) is named
    assert has_names(row("d", "target", places / path, kind=kind, classes="c.txt"))


def test_who_is_computed_twice(places):
    named, flat = places / "named", places / "flat"
    mine = row("mine", "target", flat)
    assert twins([row("a", "source", named), row("b", "source", flat), mine]) == [f"a{TWIN}"]
    assert twins([row("a", "source", named), row("mine", "target", named)]) == []
    assert twins([row("a", "source", flat), row("mine", "target", named)]) == [f"mine{TWIN}"]
    assert twins([row("a", "source", named), mine], "embedding") == []


def test_the_card_of_a_twin_has_the_images_without_the_names():
    card = {"dataset": "a", "classes": ["cat", "dog"], "templates": ["{c}"], "images": [1], "test": [2], "n_test": 1}
    same, twin = cards_for([card, card], ["a", f"a{TWIN}"])
    assert same == card
    assert twin == {**card, "dataset": f"a{TWIN}", "classes": [], "templates": [], "test": None, "n_test": 0}


def test_no_divergence_compares_two_objectives():
    names = ["a", "b", "mine", f"a{TWIN}"]
    objectives = ["zero-shot", "zero-shot", "embedding", "embedding"]
    dcd = np.arange(16.0).reshape(4, 4)
    found, shares = of_one_objective(dcd, dcd[..., None], names, objectives, twin=TWIN)
    expected = [[0, 1, 14], [4, 5, np.nan], [np.nan, np.nan, 10]]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(shares[..., 0], expected)
    # b has no names: the sources of `a` are compared without theirs, for b cannot be with its own.
    names, objectives = (
        ["a", "b", "c", f"a{TWIN}", f"c{TWIN}"],
        ["zero-shot", "embedding", "zero-shot", *["embedding"] * 2],
    )
    dcd = np.arange(25.0).reshape(5, 5)
    found, _ = of_one_objective(dcd, dcd[..., None], names, objectives, twin=TWIN)
    np.testing.assert_array_equal(found, [[18, 16, 19], [8, 6, 9], [23, 21, 24]])
    lost, _ = of_one_objective(dcd, dcd[..., None], names, [*objectives[:3], "", ""], twin=TWIN)
    np.testing.assert_array_equal(lost, [[0, np.nan, 2], [np.nan, 6, np.nan], [10, np.nan, 12]])
    dcd = np.arange(16.0).reshape(4, 4)
    names, objectives = ["a", "b", "mine", f"a{TWIN}"], ["zero-shot", "zero-shot", "embedding", "embedding"]
    alone, _ = of_one_objective(dcd[:2, :2], dcd[:2, :2, None], names[:2], objectives[:2], twin=TWIN)
    np.testing.assert_array_equal(alone, dcd[:2, :2])
