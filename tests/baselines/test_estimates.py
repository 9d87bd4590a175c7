"""Accuracies estimated from sources: ATC, difference of confidences, agreement on the line."""

import numpy as np
import pytest
from scipy.stats import norm

from vlmrank.baselines import Evidence, View, estimates
from vlmrank.baselines.base import SOURCE_ACCURACIES


def authors_threshold(scores, labels):
    """ATC_helper.find_ATC_threshold of saurabhgarg1996/ATC_code in its own words: as many below as are wrong."""
    order = np.argsort(scores)
    wrong_above, right_below = (labels == 0).sum(), 0
    best, threshold = abs(wrong_above - right_below), 0.0
    for index in order:
        wrong_above, right_below = wrong_above - (labels[index] == 0), right_below + (labels[index] == 1)
        if abs(wrong_above - right_below) < best:
            best, threshold = abs(wrong_above - right_below), scores[index]
    return threshold


def test_atc_takes_the_threshold_of_the_authors_code():
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores, labels, target = rng.random(50), (rng.random(50) < 0.7).astype(int), rng.random(400)
        found = estimates.thresholded_confidence(source=scores, accuracy=labels.mean(), target=target)
        # theirs is the last score below ours, so that one rank of the source's scores lies between them
        theirs = (target >= authors_threshold(scores, labels)).mean()
        between = np.sort(scores)[(labels == 0).sum() - 1 : (labels == 0).sum() + 1]
        assert found == (target >= between[1]).mean()
        assert found <= theirs <= (target >= between[0]).mean()
    assert estimates.thresholded_confidence(source=scores, accuracy=0.0, target=target) == 0.0
    assert estimates.thresholded_confidence(source=scores, accuracy=1.0, target=scores) == 1.0


def test_difference_of_confidences_by_hand():
    found = estimates.difference_of_confidences(source=np.array([0.9, 0.7]), accuracy=0.6, target=np.array([0.5, 0.7]))
    assert found == pytest.approx(0.4, abs=1e-12)


def test_scores_of_images():
    logits = np.log(np.array([[0.5, 0.5], [0.9, 0.1]]))
    np.testing.assert_allclose(estimates.max_confidence(logits), [0.5, 0.9], rtol=0, atol=1e-12)
    entropy = 0.9 * np.log2(0.9) + 0.1 * np.log2(0.1)
    np.testing.assert_allclose(estimates.negative_entropy(logits), [-1.0, entropy], rtol=0, atol=1e-12)


@pytest.mark.parametrize("probit", [True, False])
def test_agreement_on_the_line_finds_the_line(probit):
    def there(values):
        return norm.ppf(values) if probit else values

    def back(values):
        return norm.cdf(values) if probit else values

    rng = np.random.default_rng(0)
    accuracy = rng.uniform(0.5, 0.8, 7)
    source = rng.uniform(0.4, 0.7, (7, 7))
    source = (source + source.T) / 2
    np.fill_diagonal(source, 1.0)
    slope, intercept = 0.8, 0.05
    target = back(slope * there(source) + intercept)
    np.fill_diagonal(target, 1.0)
    found = estimates.agreement_on_the_line(source=source, target=target, accuracy=accuracy, images=1000, probit=probit)
    np.testing.assert_allclose(found, slope * there(accuracy) + intercept, rtol=0, atol=1e-9)


def test_agreement_on_the_line_solves_the_least_squares():
    rng = np.random.default_rng(1)
    labels = [rng.integers(0, 3, (6, 30)).astype(float) for _ in range(2)]
    source, target = map(estimates.agreement, labels)
    assert source[2, 4] == (labels[0][2] == labels[0][4]).mean()
    accuracy = rng.uniform(0.2, 0.9, 6)
    accuracy[3] = np.nan
    found = estimates.agreement_on_the_line(source=source, target=target, accuracy=accuracy, images=30)
    present = [0, 1, 2, 4, 5]
    pairs = [(i, j) for i in present for j in present if i < j]
    agreed = [norm.ppf(np.clip([table[pair] for pair in pairs], 1 / 60, 59 / 60)) for table in (source, target)]
    slope = np.polyfit(*agreed, 1)[0]
    known = norm.ppf(np.clip(accuracy, 1 / 60, 59 / 60))
    design = np.zeros((len(pairs), 6))
    for row, pair in enumerate(pairs):
        design[row, list(pair)] = 0.5
    wanted = agreed[1] + slope * ([(known[i] + known[j]) / 2 for i, j in pairs] - agreed[0])
    expected = np.linalg.lstsq(design[:, present], wanted, rcond=None)[0]
    np.testing.assert_allclose(found[present], expected, rtol=0, atol=1e-9)
    assert np.isnan(found[3])
    few = estimates.agreement_on_the_line(
        source=source[:2, :2], target=target[:2, :2], accuracy=accuracy[:2], images=30
    )
    assert np.isnan(few).all()


def test_a_model_without_predictions_has_no_agreement():
    labels = np.array([[0.0, 1.0], [np.nan, np.nan], [0.0, 0.0]])
    found = estimates.agreement(labels)
    assert np.isnan(found[1]).all() and np.isnan(found[:, 1]).all()
    assert found[0, 2] == 0.5


def tiny(seed=0, models=5, images=20):
    rng = np.random.default_rng(seed)
    ids = tuple(map(str, range(images)))
    logits = [[[(rng.normal(size=(images, 3)), ids)] for _ in range(models)] for _ in range(3)]
    names = [f"m{index}" for index in range(models)]
    return Evidence(
        models=names, datasets=list("abc"), accuracy=rng.uniform(0.3, 0.9, (models, 3)), logits={"": logits}
    )


def test_the_mean_over_the_sources_is_what_ranks():
    data = tiny()
    data.logits[""][1][3] = None  # a model that failed on a source is judged by the other
    method = {one.name: one for one in estimates.METHODS}["doc"]
    found = method.score(View(data, 0, [1, 2], method.looks_at))
    confidence = [
        [None if one is None else estimates.max_confidence(one[0][0]) for one in data.logits[""][dataset]]
        for dataset in range(3)
    ]
    for model in (0, 3):
        known = [source for source in (1, 2) if confidence[source][model] is not None]
        expected = np.mean(
            [
                estimates.difference_of_confidences(
                    source=confidence[source][model],
                    accuracy=data.accuracy[model, source],
                    target=confidence[0][model],
                )
                for source in known
            ]
        )
        assert found[model] == pytest.approx(expected, abs=1e-12)


def test_a_dataset_that_is_no_source_is_not_shown():
    view = View(tiny(), 0, [1], estimates.SEES)
    with pytest.raises(PermissionError, match="c is no source"):
        view.source_logits(2)
    with pytest.raises(PermissionError, match="source images"):
        View(tiny(), 0, [1], frozenset({SOURCE_ACCURACIES})).source_logits(1)
