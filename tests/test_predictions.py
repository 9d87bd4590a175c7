import numpy as np
import ot
import pytest
from scipy.stats import rankdata

from vlmrank.predictions import (
    align_logits,
    balance_classes,
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


def in_spreads(*readings):
    """Readings [M, K], each divided by the spread over the models of its mean over the images, and added."""
    return sum(values / np.mean(values, axis=1).std() for values in map(np.array, readings))


def test_agreement_by_hand():
    # three models, one image, two classes; sharpness 0: the others' mean; the contrast of two classes is 1 and -1
    logits = probabilities_to_logits([[0.9, 0.1]], [[0.8, 0.2]], [[0.3, 0.7]])
    found = committee_agreement(logits, np.array([0.1, 0.2, 0.3]), sharpness=0.0, balance=0.0)
    sure = [[0.9 * 0.55 + 0.1 * 0.45], [0.8 * 0.6 + 0.2 * 0.4], [0.3 * 0.85 + 0.7 * 0.15]]
    contrast = [[0.55 - 0.45], [0.6 - 0.4], [0.15 - 0.85]]
    np.testing.assert_allclose(found, in_spreads(sure, contrast), rtol=0, atol=1e-6)


def test_agreement_listens_to_models_of_good_standing():
    # mutual information has the same order as the score: percentile ranks 5/6, 3/6, 1/6
    logits = probabilities_to_logits([[0.9, 0.1], [0.1, 0.9]], [[0.8, 0.2], [0.2, 0.8]], [[0.3, 0.7], [0.7, 0.3]])
    found = committee_agreement(logits, np.array([0.3, 0.2, 0.1]), sharpness=1.0)
    chance = [(3 * 0.8 + 0.3) / 4, (5 * 0.9 + 0.3) / 6, (5 * 0.9 + 3 * 0.8) / 8]  # of the class that the first sees
    sure = [[p * q + (1 - p) * (1 - q)] * 2 for p, q in zip((0.9, 0.8, 0.3), chance, strict=True)]
    contrast = [[2 * q - 1] * 2 for q in (chance[0], chance[1], 1 - chance[2])]
    np.testing.assert_allclose(found, in_spreads(sure, contrast), rtol=0, atol=1e-6)


@pytest.mark.parametrize("balance", [0.0, 2.0, np.inf])
def test_agreement_of_a_slow_loop(balance):
    generator = np.random.default_rng(0)
    logits = [generator.normal(size=(6, 4)) * 2 for _ in range(5)]
    score = generator.uniform(size=5)
    found = committee_agreement(logits, score, sharpness=3.0, balance=balance)

    def ranks(values):
        return (rankdata(values) - 0.5) / len(values)

    weights = ranks(ranks(score) + ranks([mutual_information_score(values) for values in logits])) ** 3
    p = [np.exp(values) / np.exp(values).sum(axis=1, keepdims=True) for values in logits]
    sure, contrast = [], []
    for m in range(5):
        others = [j for j in range(5) if j != m]
        committee = sum(weights[j] * balance_classes(p[j], balance) for j in others) / sum(weights[j] for j in others)
        centred = logits[m] - logits[m].mean(axis=1, keepdims=True)
        sure.append((p[m] * committee).sum(axis=1))
        contrast.append((centred / logits[m].std() * committee).sum(axis=1))
    np.testing.assert_allclose(found, in_spreads(sure, contrast), rtol=0, atol=1e-9)


def test_agreement_rewards_the_model_that_does_not_lean_to_a_class_as_all_others_do():
    # five models give every second image of the other class, less surely, to the first; the last one is right
    generator = np.random.default_rng(0)
    truth = np.arange(80) % 2
    sure = np.where(truth[:, None] == 0, [3.0, -3.0], [-3.0, 3.0])
    doubtful = np.where(np.arange(80)[:, None] % 4 == 1, [0.5, -0.5], sure)
    logits = [doubtful + generator.normal(size=(80, 2)) / 5 for _ in range(5)] + [0.7 * sure]
    place = {
        balance: rankdata(-committee_agreement(logits, np.ones(6), sharpness=0.0, balance=balance).mean(axis=1))[-1]
        for balance in (0.0, np.inf)
    }
    assert place == {0.0: 6.0, np.inf: 1.0}


@pytest.mark.parametrize("strength", [0.3, 3.0, np.inf])
def test_balancing_is_the_plan_that_pot_finds(strength):
    p = np.random.default_rng(1).dirichlet(np.ones(5), size=12)
    uniform = np.full(5, 0.2)
    cost = -np.log(p / uniform)
    if np.isinf(strength):
        plan = ot.sinkhorn(
            np.full(12, 1 / 12), uniform, cost, 1.0, method="sinkhorn_log", numItermax=5000, stopThr=1e-12
        )
    else:
        options = {"numItermax": 5000, "stopThr": 1e-12}
        plan = ot.unbalanced.sinkhorn_unbalanced(np.full(12, 1 / 12), uniform, cost, 1.0, (np.inf, strength), **options)
    np.testing.assert_allclose(balance_classes(p, strength), 12 * plan, rtol=0, atol=1e-5)


def test_balancing_keeps_rows_and_leaves_what_is_balanced():
    p = np.random.default_rng(2).dirichlet(np.ones(3) / 3, size=7)
    for strength in (0.0, 1.0, np.inf):
        np.testing.assert_allclose(balance_classes(p, strength).sum(axis=1), 1.0, rtol=0, atol=1e-12)
    np.testing.assert_allclose(balance_classes(p, 0.0), p, rtol=0, atol=1e-8)
    even = np.array([[0.7, 0.3], [0.3, 0.7]])
    np.testing.assert_allclose(balance_classes(even, np.inf), even, rtol=0, atol=1e-6)
    certain = np.array([[1.0, 0.0, 0.0]] * 4)  # fewer images than classes, all alike
    assert np.isfinite(balance_classes(certain, np.inf)).all()
    with pytest.raises(ValueError, match="at least 0"):
        balance_classes(p, -1.0)


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
    equal = {"sharpness": 0.0}
    unknown = committee_agreement(logits, np.array([0.1, 0.2, 0.3, np.nan]), **equal)
    np.testing.assert_allclose(unknown[:3], committee_agreement(logits[:3], np.zeros(3), **equal), rtol=0, atol=1e-12)
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
