import numpy as np
import pytest

from vlmrank.predictions import (
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
