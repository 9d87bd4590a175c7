"""Evidence takes what is there, by name, and a dataset that cannot be aligned takes no other down."""

import numpy as np
import pytest

from vlmrank.alignment import AlignmentError
from vlmrank.errors import VlmrankError
from vlmrank.evaluation import counterparts, gather
from vlmrank.evaluation.gather import Draws, gather_evidence
from vlmrank.store import Alignment, Divergences, Pair

NAMES = ("cats", "dogs", "tools")
SETTINGS = {
    "sources": NAMES[:2],
    "alignment": {"epsilon": 1.0, "rho": 1.0, "depth": 3.0},
    "divergence": {"kind": "subspace", "rank": 2, "standardise": True, "smoothing": 1e-3},
}


def pairs(seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: Pair(
            blocks={f"block.{index}": rng.normal(size=(6, 8)).astype(np.float32) for index in range(3)},
            score=np.ones((6, 2)),
            delta=np.zeros((6, 3), np.float32),
            pseudo_label=np.zeros(6, np.int64),
            image_id=[f"{name} {number}" for number in range(6)],
            attributes={"status": "ok"},
        )
        for name in NAMES
    }


def computed(given):
    """What the stages before have of the pairs, with the datasets in another order."""
    plain = gather_evidence(given, **SETTINGS)
    tasks, _, _ = gather._drawn(given, images=None, draw=0, seed=0)
    importance = counterparts.importance_of(tasks, [True, True, False], **SETTINGS["alignment"])
    order = [2, 0, 1]
    names = [NAMES[index] for index in order]
    prior = np.ones(3) / 3
    alignment = Alignment(names, importance[order], prior, np.zeros(3), np.ones(3, np.int64))
    dcd = plain.divergence["dcd"][0][np.ix_(order, order)]
    return plain, (alignment, Divergences(names, dcd, np.zeros((3, 3, 0))))


def test_what_is_there_is_taken_by_name_and_not_computed_again(monkeypatch):
    given = pairs()
    plain, known = computed(given)
    monkeypatch.setattr(counterparts, "importance_of", lambda *_, **__: pytest.fail("aligned again"))
    monkeypatch.setattr(counterparts, "dcd_of", lambda _, weights, **__: 0 * weights @ weights.T)
    found = gather_evidence(given, **SETTINGS, known=known)
    for name in ("dcd", "symmetric", "cosine", "jensen_shannon"):
        np.testing.assert_allclose(found.divergence[name], plain.divergence[name], rtol=1e-12, err_msg=name)


def test_draws_of_fewer_images_are_computed():
    given = pairs()
    plain = gather_evidence(given, **SETTINGS, draws=Draws(images=3, draws=2))
    found = gather_evidence(given, **SETTINGS, draws=Draws(images=3, draws=2), known=computed(given)[1])
    np.testing.assert_array_equal(found.divergence["dcd"], plain.divergence["dcd"])


def test_files_of_other_datasets_are_refused():
    given = pairs()
    _, (alignment, divergences) = computed(given)
    other = Divergences(("cats", "dogs", "birds"), divergences.dcd, divergences.per_image)
    with pytest.raises(VlmrankError, match="lack tools: run again"):
        gather_evidence(given, **SETTINGS, known=(alignment, other))


def test_a_dataset_that_cannot_be_aligned_is_missing_alone(monkeypatch):
    align, given = counterparts.align_blocks, pairs()
    third = gather.represent(list(given["tools"].blocks.values())).block_mass

    def fail(mass, *arguments, **options):
        if np.array_equal(mass, third):
            raise AlignmentError("no convergence")
        return align(mass, *arguments, **options)

    monkeypatch.setattr(counterparts, "align_blocks", fail)
    found = gather_evidence(given, **SETTINGS).divergence["dcd"][0]
    assert np.isnan(found[2]).all() and np.isnan(found[:, 2]).all() and np.isfinite(found[:2, :2]).all()


def test_no_divergence_of_the_evaluation_compares_two_objectives():
    given = pairs()
    given["dogs"].attributes["objective"] = "embedding"
    draws = Draws(images=3, variants={"few": {"divergence": {"rank": 1}}})
    found = gather_evidence(given, **SETTINGS, draws=draws).divergence
    for name, values in found.items():
        if name != "embedding":
            assert np.isnan(values[0][1, [0, 2]]).all() and np.isnan(values[0][[0, 2], 1]).all(), name
            assert np.isfinite(values[0][0, 2]), name
