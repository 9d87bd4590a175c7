"""Which method ranks: prior and known tasks, nested."""

import numpy as np

from vlmrank.answer.choice import choose_method, nested_choices


def test_few_tasks_leave_the_prior_and_many_overrule_it():
    few = choose_method({"a": np.array([0.4]), "b": np.array([0.6])}, {"b": -0.1}, default="a")
    many = choose_method({"a": np.full(30, 0.4), "b": np.full(30, 0.6)}, {"b": -0.1}, default="a")
    assert (few.method, many.method) == ("a", "b")
    assert few.tasks == 1
    np.testing.assert_allclose(many.expected["b"], (8 * -0.1 + 30 * 0.2) / 38, atol=1e-12)


def test_a_default_that_cannot_be_scored_is_not_taken():
    found = choose_method({"a": np.array([np.nan, 0.9]), "b": np.array([0.1, 0.2])}, {"b": -0.3}, default="a")
    assert found.method == "b"


def test_without_any_method_the_default_is_named():
    assert choose_method({}, {}, default="a").method == "a"


def test_an_unknown_method_starts_as_the_worst_known_one():
    found = choose_method({"a": np.array([0.4]), "new": np.array([0.5])}, {"b": -0.2}, default="a")
    assert found.expected["new"] < 0


def test_nested_choices_do_not_see_their_own_task():
    quality = {"a": np.full(6, 0.5), "b": np.array([100.0, 0.4, 0.4, 0.4, 0.4, 0.4])}
    found = [choice.method for choice in nested_choices(quality, {"b": 0.0}, default="a")]
    assert found == ["a", "b", "b", "b", "b", "b"]
