"""Statistics of unlabelled predictions: by hand, and against the steps of their authors' code."""

import numpy as np
import pytest
from scipy.special import softmax

from vlmrank.baselines import statistics


def test_nuclear_norm_is_largest_for_sure_and_spread_predictions():
    sure = 100.0 * np.tile(np.eye(4), (5, 1))
    assert statistics.nuclear_norm_score(sure) == pytest.approx(1.0, abs=1e-12)
    # one class for all: rank one, norm sqrt(K)
    assert statistics.nuclear_norm_score(np.tile([100.0, 0, 0, 0], (20, 1))) == pytest.approx(0.5, abs=1e-12)
    probabilities = softmax(np.random.default_rng(0).normal(size=(3, 6)), axis=1)
    expected = np.sqrt(np.linalg.eigvalsh(probabilities @ probabilities.T)).sum() / 3
    assert statistics.nuclear_norm_score(np.log(probabilities)) == pytest.approx(expected, abs=1e-9)


# Renchunzi-Xie/MaNo @ 1ae2fe9, the steps of src/mano/mano.py in float64, on scale * rng.normal(size=(images, classes))
MANO = {(0, 30, 5, 1.0): 0.38832410113501115, (1, 50, 8, 12.0): 0.5543086878553429}


@pytest.mark.parametrize("arguments", MANO)
def test_mano_is_that_of_the_authors_code(arguments):
    seed, images, classes, scale = arguments
    logits = scale * np.random.default_rng(seed).normal(size=(images, classes))
    assert statistics.mano_score(logits) == pytest.approx(MANO[arguments], rel=1e-12)


def test_energies_and_dispersity_by_hand():
    logits = np.log(np.array([[1.0, 3.0], [2.0, 2.0], [6.0, 2.0]]))
    assert statistics.energy_score(logits) == pytest.approx(np.log([4, 4, 8]).mean(), abs=1e-12)
    # softmax of the negative log sums: 1/4, 1/4, 1/8 over 5/8
    expected = np.log(np.array([0.4, 0.4, 0.2])).mean()
    assert statistics.meta_distribution_energy_score(logits) == pytest.approx(expected, abs=1e-12)
    mean = np.array([0.25 + 0.5 + 0.75, 0.75 + 0.5 + 0.25]) / 3
    assert statistics.dispersity_score(logits) == pytest.approx(-(mean * np.log(mean)).sum(), abs=1e-12)


def test_dispersion_by_hand():
    embedding = np.array([[0.0, 0.0], [2.0, 0.0], [4.0, 3.0]])
    # means (1, 0) of two images and (4, 3) of one; overall mean (2, 1)
    expected = np.log(2 * (1 + 1) + (4 + 4))
    assert statistics.dispersion_score(embedding, np.array([0, 0, 2])) == pytest.approx(expected, abs=1e-12)
    assert statistics.dispersion_score(embedding, np.zeros(3, int)) == -np.inf
    assert "dispersion" not in statistics.unlabelled_statistics(np.tile([9.0, 0.0], (3, 1)), embedding)


def unit(values):
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_vega_falls_when_the_texts_are_dealt_out_anew():
    rng = np.random.default_rng(0)
    texts = unit(rng.normal(size=(12, 16)) + 2.0 * np.repeat(rng.normal(size=(3, 16)), 4, axis=0))
    images = unit(np.repeat(texts, 10, axis=0) + 0.05 * rng.normal(size=(120, 16)))
    logits = 100 * images @ texts.T
    aligned = statistics.vega_score(logits, images, texts)
    assert 1.7 < aligned < 2.0  # probabilities near one and edges that agree
    assert statistics.vega_score(logits, images, texts[rng.permutation(12)]) < aligned - 0.5
    nodes = aligned - statistics.vega_score(
        np.tile(logits.max(axis=1, keepdims=True), 12) * np.eye(12)[logits.argmax(axis=1)], images, texts
    )
    mean = softmax(logits, axis=1).max(axis=1)
    by_class = [mean[logits.argmax(axis=1) == label].mean() for label in range(12)]
    assert nodes == pytest.approx(np.mean(by_class) - 1.0, abs=1e-9)


def test_the_edges_of_vega_by_hand():
    images = np.array([[0.0, 0.0], [2.0, 0.0], [5.0, 1.0], [5.0, 3.0], [1.0, 9.0]])
    labels = np.array([0, 0, 1, 1, 2])
    means, counts = np.array([[1.0, 0.0], [5.0, 2.0], [1.0, 9.0]]), np.array([2, 2, 1])
    pooled = np.array([2.0, 2.0]) / 5
    variance = [(np.array([2.0, 0.0]) + 2 * pooled) / 4, (np.array([0.0, 2.0]) + 2 * pooled) / 4, 2 * pooled / 3]
    texts = unit(np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]))
    distance, cosine = [], []
    for i, j in ((0, 1), (0, 2), (1, 2)):
        both = np.diag((variance[i] + variance[j]) / 2)
        gap = means[i] - means[j]
        ratio = np.linalg.det(both) / np.sqrt(np.prod(variance[i]) * np.prod(variance[j]))
        distance.append(gap @ np.linalg.inv(both) @ gap / 8 + np.log(ratio) / 2)
        cosine.append(texts[i] @ texts[j])
    found = statistics._edge_similarity(images, labels, means, counts, texts, floor=0.0)
    assert found == pytest.approx(-np.corrcoef(cosine, distance)[0, 1], abs=1e-12)
    assert statistics._edge_similarity(images[:4], labels[:4], means[:2], counts[:2], texts[:2], floor=0.0) == 0.0


def test_all_are_finite_on_few_images_and_sure_predictions():
    rng = np.random.default_rng(1)
    for images, classes, scale in ((1, 3, 1.0), (2, 40, 300.0), (5, 1, 1.0)):
        embedding, texts = unit(rng.normal(size=(images, 7))), unit(rng.normal(size=(classes, 7)))
        found = statistics.unlabelled_statistics(scale * embedding @ texts.T, embedding, texts)
        assert np.isfinite(list(found.values())).all()
        assert {"nuclear_norm", "mano", "dispersity", "energy", "meta_distribution_energy", "vega"} <= set(found)
