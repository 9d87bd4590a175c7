import numpy as np
import pytest
from scipy.stats import rankdata

from vlmrank.predictions import (
    align_logits,
    committee_agreement,
    mean_confidence_score,
    mean_entropy_error,
    mutual_information_score,
    prediction_statistics,
)


def test_by_hand():
    logits = np.log(np.array([[0.7, 0.3], [0.1, 0.9]]))
    entropy = -np.mean([0.7 * np.log(0.7) + 0.3 * np.log(0.3), 0.1 * np.log(0.1) + 0.9 * np.log(0.9)])
    marginal = -(0.4 * np.log(0.4) + 0.6 * np.log(0.6))
    assert mean_confidence_score(logits) == pytest.approx(0.8, abs=1e-12)
    assert mean_entropy_error(logits) == pytest.approx(entropy, abs=1e-12)
    assert mutual_information_score(logits) == pytest.approx(marginal - entropy, abs=1e-12)
    assert list(prediction_statistics(logits)) == ["mutual_information", "confidence", "entropy"]


def test_the_same_prediction_for_every_image_says_nothing():
    assert mutual_information_score(np.tile([3.0, 1.0, -2.0], (5, 1))) == pytest.approx(0.0, abs=1e-12)


def test_large_logits_stay_finite_and_shifts_do_not_matter():
    logits = np.array([[1e4, 0.0, -1e4], [0.0, 1e4, 3.0]])
    for value in prediction_statistics(logits).values():
        assert np.isfinite(value)
    assert mutual_information_score(logits) == pytest.approx(np.log(2), abs=1e-9)
    shifted = prediction_statistics(logits / 1e3 + 5.0)
    for name, value in prediction_statistics(logits / 1e3).items():
        assert shifted[name] == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("logits", [np.ones(3), np.ones((0, 3)), np.ones((3, 0))])
def test_refuses(logits):
    with pytest.raises(ValueError):
        mutual_information_score(logits)


def probabilities_to_logits(*tables):
    return [np.log(np.array(table)) for table in tables]


def test_agreement_by_hand():
    # three models, one image, two classes; sharpness 0: the others' mean
    logits = probabilities_to_logits([[0.9, 0.1]], [[0.8, 0.2]], [[0.3, 0.7]])
    found = committee_agreement(logits, np.array([0.1, 0.2, 0.3]), sharpness=0.0)
    expected = [0.9 * 0.55 + 0.1 * 0.45, 0.8 * 0.6 + 0.2 * 0.4, 0.3 * 0.85 + 0.7 * 0.15]
    np.testing.assert_allclose(found[:, 0], expected, rtol=0, atol=1e-12)


def test_agreement_listens_to_models_of_good_standing():
    # mutual information has the same order as the score: percentile ranks 5/6, 3/6, 1/6
    logits = probabilities_to_logits([[0.9, 0.1], [0.1, 0.9]], [[0.8, 0.2], [0.2, 0.8]], [[0.3, 0.7], [0.7, 0.3]])
    found = committee_agreement(logits, np.array([0.3, 0.2, 0.1]), sharpness=1.0)
    committee = (5 * 0.9 + 3 * 0.8) / 8
    np.testing.assert_allclose(found[2], 0.3 * committee + 0.7 * (1 - committee), rtol=0, atol=1e-12)


def test_agreement_of_a_slow_loop():
    generator = np.random.default_rng(0)
    logits = [generator.normal(size=(6, 4)) * 2 for _ in range(5)]
    score = generator.uniform(size=5)
    found = committee_agreement(logits, score, sharpness=3.0)

    def ranks(values):
        return (rankdata(values) - 0.5) / len(values)

    weights = ranks(ranks(score) + ranks([mutual_information_score(values) for values in logits])) ** 3
    p = [np.exp(values) / np.exp(values).sum(axis=1, keepdims=True) for values in logits]
    for m in range(5):
        others = [j for j in range(5) if j != m]
        committee = sum(weights[j] * p[j] for j in others) / sum(weights[j] for j in others)
        np.testing.assert_allclose(found[m], (p[m] * committee).sum(axis=1), rtol=0, atol=1e-12)


def test_agreement_does_not_depend_on_how_many_images_are_held_at_once(monkeypatch):
    generator = np.random.default_rng(4)
    logits = [generator.normal(size=(23, 5)) for _ in range(4)]
    whole = committee_agreement(logits, generator.uniform(size=4))
    assert whole.shape == (4, 23) and np.isfinite(whole).all()
    monkeypatch.setattr("vlmrank.predictions.HELD", 60)
    generator = np.random.default_rng(4)
    logits = [generator.normal(size=(23, 5)) for _ in range(4)]
    np.testing.assert_allclose(committee_agreement(logits, generator.uniform(size=4)), whole, rtol=0, atol=1e-15)


def test_agreement_with_models_missing():
    generator = np.random.default_rng(0)
    logits = [generator.normal(size=(6, 4)) for _ in range(4)]
    alone = committee_agreement(logits[:3], np.array([0.1, 0.2, 0.3]))
    found = committee_agreement([*logits[:3], None], np.array([0.1, 0.2, 0.3, 0.4]))
    np.testing.assert_allclose(found[:3], alone, rtol=0, atol=1e-12)
    assert np.isnan(found[3]).all()
    # a model of which nothing is known is judged but does not vote
    unknown = committee_agreement(logits, np.array([0.1, 0.2, 0.3, np.nan]))
    np.testing.assert_allclose(unknown[:3], alone, rtol=0, atol=1e-12)
    assert np.isfinite(unknown[3]).all()
    assert np.isnan(committee_agreement(logits[:1], np.array([0.5]))).all()
    assert committee_agreement([None, None], np.array([0.5, 0.6])).shape == (2, 0)
    with pytest.raises(ValueError, match="same images"):
        committee_agreement([logits[0], logits[1][:3]], np.array([0.5, 0.6]))


def test_logits_are_aligned_on_the_images_that_all_models_have():
    a, b, c = np.arange(6.0).reshape(3, 2), np.arange(4.0).reshape(2, 2), np.zeros((3, 5))
    found = align_logits([a, None, b, c], ["xyz", "", "zx", "xyz"])
    np.testing.assert_array_equal(found[0], a[[0, 2]])
    np.testing.assert_array_equal(found[2], b[[1, 0]])
    assert found[1] is None and found[3] is None
    assert align_logits([a, b], ["xyz", "uv"]) == [None, None]
    assert align_logits([None, np.zeros((0, 0))], ["", ""]) == [None, None]
