"""The shipped accuracies, the average rank over them, and what shortlists by it held."""

import numpy as np
import pytest

from vlmrank.models.registry import list_entries
from vlmrank.published import shipped
from vlmrank.published.shipped import published_accuracy, published_prior, shortlist_records, without_own_task
from vlmrank.ranking import average_ranks


def test_every_shipped_model_is_in_the_registry_and_every_value_an_accuracy():
    table = shipped._table()
    assert set(table.index) <= {entry.model for entry in list_entries()}
    values = table.to_numpy()
    assert ((values > 0) & (values <= 1) | np.isnan(values)).all()
    np.testing.assert_allclose(
        published_accuracy(["ViT-H-14-quickgelu--dfn5b"])[0][table.columns == "imagenet1k"], 0.8344
    )


def test_a_task_has_no_part_in_its_own_score():
    accuracy = np.random.default_rng(0).random((6, 4))
    accuracy[2, 1] = np.nan
    scores = without_own_task(accuracy)
    for task in range(4):
        others = np.delete(np.arange(4), task)
        np.testing.assert_allclose(scores[task], average_ranks(accuracy[:, others]), rtol=0, atol=1e-12)


def test_records_by_hand():
    # by the other two tasks: task 0 is led by model 1, task 1 by model 0, task 2 by model 0
    accuracy = np.array([[0.9, 0.5, 0.9], [0.5, 0.9, 0.8], [0.1, 0.1, 0.1]])
    (found,) = shortlist_records(accuracy, sizes=(1,))
    assert (found.size, found.tasks) == (1, 3)
    losses = []
    for task in range(3):
        score = average_ranks(np.delete(accuracy, task, axis=1))
        first = score == score.max()
        losses.append(accuracy[:, task].max() - accuracy[first, task].mean())
    np.testing.assert_allclose(found.loss, np.mean(losses), rtol=0, atol=1e-12)
    assert found.held == sum(loss < 1e-9 for loss in losses)


def test_unknown_models_have_no_place_and_few_known_ones_no_answer():
    models = ["ViT-B-32--laion2b_s34b_b79k", "mine", "ViT-L-14--laion2b_s32b_b82k", "RN50-quickgelu--openai"]
    prior = published_prior(models, draws=50)
    np.testing.assert_array_equal(prior.place, [2, np.nan, 1, 3])
    assert prior.known == 3
    assert np.isnan(prior.answer.score[1]) and prior.answer.pick == 2
    alone = published_prior(["mine", models[0]])
    assert alone.answer is None and alone.known == 1


def test_larger_shortlists_lose_less():
    records = published_prior([entry.model for entry in list_entries()], draws=50).records
    assert [one.size for one in records] == [1, 5, 10]
    assert records[0].loss > records[1].loss > records[2].loss > 0
    assert records[0].held < records[1].held < records[2].held <= records[2].tasks


@pytest.mark.parametrize("table", [np.full((3, 2), np.nan), np.empty((0, 2))])
def test_no_record_where_nothing_is_known(table):
    assert shortlist_records(table) == ()
