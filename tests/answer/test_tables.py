"""An answer as files: the table adds up, the facts are those of the pick."""

import json

import numpy as np
import pytest

from vlmrank.answer.tables import PART, answer_facts, check_method, ranking_rows, sentence, settings_for, tasks_of
from vlmrank.answer.tasks import answer_tasks
from vlmrank.baselines import all_methods
from vlmrank.errors import VlmrankError
from vlmrank.evaluation.scores import Scores

MODELS = [f"m{index}" for index in range(8)]


def scores(seed=0):
    generator = np.random.default_rng(seed)
    truth = generator.random((8, 6))
    truth[:, 5] = np.nan
    values = {"average_rank": truth[None] + 0.1 * generator.standard_normal((1, 8, 6)), "oracle": truth[None]}
    values["average_rank"][:, :, 5] = generator.random((1, 8))
    values["average_rank"][:, 3, 5] = np.nan
    return Scores(MODELS, list("abcdef"), truth, values)


def answered():
    tasks = tasks_of(scores(), all_methods(), {"a": "one", "b": "one"})
    return answer_tasks(tasks, settings_for({"score": "auto", "bootstrap": 200}, 0), wanted=[5])[5]


def test_controls_never_rank_and_siblings_are_kept_apart():
    tasks = tasks_of(scores(), all_methods(), {"a": "one", "b": "one"})
    assert set(tasks.scores) == {"average_rank"}
    assert tasks.siblings[0, 1] and not tasks.siblings[0, 2]


def test_the_best_score_comes_first_and_what_has_none_last_with_its_reason():
    table = ranking_rows(answered(), MODELS, reasons="no weights")
    assert table["score"].dropna().is_monotonic_decreasing
    assert table.iloc[-1][["model", "status", "reason"]].tolist() == ["m3", "failed", "no weights"]
    assert (table["ranked_by"] == "average_rank").all()


def test_equal_scores_share_a_rank():
    answer = answered()
    answer.score[:] = [1.0, 1.0, 0.5, np.nan, 0.2, 0.1, 0.0, -1.0]
    assert ranking_rows(answer, MODELS)["rank"].tolist()[:3] == [1.5, 1.5, 3.0]


def test_parts_become_columns():
    answer = answered()
    table = ranking_rows(answer, MODELS, parts={"x": answer.score - 1, "y": np.ones(8)}).dropna()
    np.testing.assert_allclose(table[PART + "x"] + table[PART + "y"], table["score"], atol=1e-12)


def test_the_facts_are_those_of_the_pick_and_fit_json():
    answer = answered()
    facts = json.loads(json.dumps(answer_facts(answer, MODELS, title="average rank"), allow_nan=False))
    first = ranking_rows(answer, MODELS).iloc[0]
    assert facts["model"] == first["model"]
    assert facts["loss"] == pytest.approx(first["loss"])
    assert facts["known_tasks"] == 5
    assert f"{first['accuracy_low']:.2f} to {first['accuracy_high']:.2f}" in sentence(facts)


@pytest.mark.parametrize(("name", "message"), [("fusd", "Did you mean 'fused'"), ("oracle", "sees labels")])
def test_a_method_that_cannot_rank_is_refused(name, message):
    with pytest.raises(VlmrankError, match=message):
        check_method(name)
    check_method("fused")
