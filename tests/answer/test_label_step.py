"""One round of labels: from an answer and pair files to a new answer and the next images."""

import numpy as np
import pytest

from vlmrank.answer.label_step import label_step
from vlmrank.answer.labels import Labels
from vlmrank.answer.tables import PART, answer_facts, ranking_rows, sentence, step_facts
from vlmrank.answer.tasks import Settings, Tasks, answer_tasks

HOW = Settings(default="good", draws=800)
CLASSES, IMAGES, MODELS = 4, 60, 12
NAMES = [f"model {index}" for index in range(MODELS)]


def answered(seed=0, noise=0.2, known=True):
    """An answer for task 0 by a score that tells little, and the accuracies that are true."""
    generator = np.random.default_rng(seed)
    accuracy = np.clip(0.5 + 0.15 * generator.standard_normal((MODELS, 12)), 0.05, 0.95)
    scores = {"good": accuracy.T + noise * generator.standard_normal((12, MODELS))}
    given = accuracy.copy()
    given[:, 0 if known else slice(None)] = np.nan
    return answer_tasks(Tasks(scores, given, np.eye(12, dtype=bool)), HOW, wanted=[0])[0], accuracy[:, 0]


def predictions(accuracy, seed=1):
    """The truth of each image, and a reader of pair files whose image order differs from model to model."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(CLASSES, size=IMAGES)
    files = {}
    for model, share in enumerate(accuracy):
        right = generator.random(IMAGES) < share
        votes = np.where(right, truth, (truth + generator.integers(1, CLASSES, size=IMAGES)) % CLASSES)
        order = generator.permutation(IMAGES)
        files[model] = ([f"{k}.png" for k in order], 3.0 * np.eye(CLASSES)[votes[order]])
    return {f"{k}.png": int(label) for k, label in enumerate(truth)}, files


def test_without_labels_the_answer_stays_and_images_are_asked_for():
    answer, accuracy = answered()
    _, files = predictions(accuracy)
    step = label_step(answer, files.get, Labels(), HOW)
    assert step.answer is answer
    assert len(set(step.ask)) == 24
    assert 1 < len(step.near_ties) <= 10
    assert sum(step.near_ties.values()) >= 0.9 or len(step.near_ties) == 10
    facts = answer_facts(answer, NAMES, title="good") | step_facts(step, Labels(), NAMES)
    assert "labels of 24 images tell them apart" in sentence(facts)


def test_the_order_of_images_in_the_files_does_not_matter():
    answer, accuracy = answered()
    _, files = predictions(accuracy)
    in_order = {}
    for model, (ids, values) in files.items():
        order = np.argsort([int(one[:-4]) for one in ids])
        in_order[model] = ([ids[k] for k in order], values[order])
    assert set(label_step(answer, files.get, Labels(), HOW).ask) == set(
        label_step(answer, in_order.get, Labels(), HOW).ask
    )


def test_labels_change_ranking_intervals_expectation_and_the_parts_add_up():
    losses = []
    for seed in range(8):
        answer, accuracy = answered(seed)
        truth, files = predictions(accuracy, seed)
        first = label_step(answer, files.get, Labels(), HOW)
        labels = Labels({image: truth[image] for image in first.ask[1:]}, frozenset(first.ask[:1]))
        step = label_step(answer, files.get, labels, HOW)
        assert step.answer.labels == 23
        assert not set(step.ask) & set(first.ask)
        np.testing.assert_allclose(sum(step.parts.values()), step.answer.score, atol=1e-12)
        table = ranking_rows(step.answer, NAMES, parts=step.parts)
        sums = table[[column for column in table if column.startswith(PART)]].sum(axis=1)
        np.testing.assert_allclose(sums, table["score"], atol=1e-9)
        assert table["accuracy"].is_monotonic_decreasing
        losses.append([accuracy.max() - accuracy[one.pick] for one in (answer, step.answer)])
        facts = answer_facts(step.answer, NAMES, title="good") | step_facts(step, labels, NAMES)
        assert (facts["labels"], facts["labels_unsure"]) == (23, 1)
        assert facts["loss"] == pytest.approx(step.answer.expected.loss[step.answer.pick])
    assert np.mean(losses, axis=0)[1] < np.mean(losses, axis=0)[0]


def test_many_labels_leave_one_model_and_nothing_to_ask():
    answer, _ = answered()
    accuracy = np.full(MODELS, 0.3)
    accuracy[answer.pick] = 0.95
    truth, files = predictions(accuracy)
    step = label_step(answer, files.get, Labels(truth), HOW)
    assert step.answer.pick == answer.pick
    assert (list(step.near_ties), list(step.ask)) == ([answer.pick], [])
    assert "one model is the best" in step.reason


@pytest.mark.parametrize("known", [True, False])
def test_without_predictions_or_known_accuracies_nothing_is_asked_and_the_reason_is_said(known):
    answer, accuracy = answered(known=known)
    truth, files = predictions(accuracy)
    step = label_step(answer, (lambda model: None) if known else files.get, Labels(truth), HOW)
    assert step.answer is answer
    assert step.ask == ()
    assert ("predicted classes" if known else "no accuracy is known") in step.reason


def test_labels_lift_the_verdict_that_known_tasks_gave_to_the_score():
    answer, accuracy = answered(noise=50.0)
    truth, files = predictions(accuracy)
    labels = Labels(truth)
    after = label_step(answer, files.get, labels, HOW).answer
    assert "known tasks the first pick lost" not in after.verdict.reason
