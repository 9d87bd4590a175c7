"""What would change the answer: on evidence whose answer under each change is known."""

import dataclasses

import numpy as np
import pytest

from vlmrank.baselines.base import SOURCE_ACCURACIES, TARGET_IMAGES, Evidence, Method
from vlmrank.evaluation import sensitivity as sensitive

BY_ACCURACY = Method(
    "average_rank", "known tasks", frozenset({SOURCE_ACCURACIES}), lambda view: view.source_accuracy.mean(axis=1)
)
BY_CONFIDENCE = Method(
    "confidence",
    "confidence",
    frozenset({TARGET_IMAGES}),
    lambda view: np.array([values.max(axis=1).mean() for values in view.logits()]),
)
METHODS = {method.name: method for method in (BY_ACCURACY, BY_CONFIDENCE)}
IMAGES = 40


@pytest.fixture
def evidence():
    """Dataset 0 is the target; 1 is the nearest and the only one on which model a wins."""
    accuracy = np.array([[np.nan, 0.9, 0.5, 0.5], [np.nan, 0.1, 0.6, 0.6]])
    divergence = np.ones((1, 2, 4, 4))
    divergence[:, :, 1, 0] = 0.1
    sure = np.tile([[3.0, 0.0]], (IMAGES, 1))
    names = [f"{i}.png" for i in range(IMAGES)]
    logits = [[[(sure, names)], [(sure[::-1] / 2, names[::-1])]], *([None, None] for _ in range(3))]
    statistics = {"confidence": np.full((1, 2, 4), 0.5)}
    return Evidence(
        ("a", "b"), ("new", "near", "x", "y"), accuracy, divergence={"dcd": divergence}, logits={"": logits},
        statistics=statistics,
    )  # fmt: skip


def shares(table, change):
    rows = table[table["change"] == change]
    return dict(zip(rows["model"], rows["share"], strict=True))


def test_without_the_nearest_known_task_another_model_comes_first(evidence):
    table = sensitive.sensitivity(evidence, METHODS, 0, "average_rank", draws=30)
    assert set(table["change"]) == {sensitive.AS_IT_IS, sensitive.WITHOUT_NEAREST}
    assert shares(table, sensitive.WITHOUT_NEAREST) == {"b": 1.0}
    # model a comes first where the nearest task was drawn: 1 - (2 / 3)^3 of the draws
    assert shares(table, sensitive.AS_IT_IS)["a"] == pytest.approx(1 - (2 / 3) ** 3, abs=0.25)
    assert table.groupby("change")["share"].sum().tolist() == pytest.approx([1, 1])


def test_a_method_that_looks_at_predictions_is_tried_on_half_the_images_and_without_them(evidence):
    table = sensitive.sensitivity(evidence, METHODS, 0, "confidence", draws=5)
    assert list(dict.fromkeys(table["change"])) == [
        sensitive.AS_IT_IS,
        sensitive.WITHOUT_NEAREST,
        sensitive.HALF,
        sensitive.ALONE,
    ]
    assert shares(table, sensitive.HALF) == {"a": 1.0}
    assert "b" in shares(table, sensitive.ALONE)


def test_redrawn_images_are_the_same_for_all_models(evidence):
    made = sensitive.redrawn(evidence, 0, ["3.png", "3.png", "7.png"])
    (first, names), (second, others) = (made.logits[""][0][model][0] for model in (0, 1))
    assert list(names) == list(others) == ["0: 3.png", "1: 3.png", "2: 7.png"]
    np.testing.assert_array_equal(first, np.tile([[3.0, 0.0]], (3, 1)))
    np.testing.assert_array_equal(second, first / 2)
    assert made.statistics["confidence"][0, 0, 0] == pytest.approx(1 / (1 + np.exp(-3.0)), rel=1e-6)
    assert evidence.statistics["confidence"][0, 0, 0] == 0.5, "the evidence itself stays"
    assert len(evidence.logits[""][0][0][0][1]) == IMAGES


def test_the_draws_depend_on_the_seed_alone(evidence):
    one, same, other = (sensitive.sensitivity(evidence, METHODS, 0, "average_rank", draws=9, seed=s) for s in (1, 1, 2))
    assert one.equals(same) and not one.equals(other)


def test_an_unknown_method_or_no_known_task_gives_no_rows(evidence):
    assert sensitive.sensitivity(evidence, METHODS, 0, "gone").empty
    alone = Evidence(("a",), ("new",), np.array([[np.nan]]))
    assert sensitive.sensitivity(alone, METHODS, 0, "average_rank").empty


def test_many_predictions_are_drawn_less_often(evidence):
    names = [[str(i) for i in range(classes)] for classes in (100_000, 2, 2, 2)]
    large = dataclasses.replace(evidence, class_names=names)
    assert sensitive._affordable(large, 0, 256) == 39
    assert sensitive._affordable(large, 1, 256) == sensitive.DRAWS
    assert sensitive._affordable(large, 0, 10**6) == sensitive.FEWEST_DRAWS
