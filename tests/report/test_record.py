"""The plain figures of the evidence and the images, on numbers whose answer is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import synthetic

from vlmrank.evaluation.scores import Scores
from vlmrank.report import images
from vlmrank.report.answer import answer
from vlmrank.report.collect import collect
from vlmrank.report.images import Guesses, read_guesses, thumbnails
from vlmrank.report.record import claims, comparison, reliability


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "results"
    return collect(synthetic.write_results(folder, models=7, datasets=4, whole=True))


def test_each_choice_beside_the_truth(run):
    truth = np.array([[0.9, 0.5], [0.8, 0.6], [0.7, 0.7], [0.6, 0.8], [0.5, 0.9], [0.4, 0.4], [0.3, 0.3]])
    first = np.arange(7.0)[::-1]  # always the same order, the first model on top
    values = {
        "vlmrank": np.stack([first, first], axis=1)[None],
        "average_rank": np.stack([first[::-1]] * 2, axis=1)[None],
        "biggest": np.stack([first, -truth[:, 1] * [1, 1, 1, 1, 1, -1, 1]], axis=1)[None],
        "random": np.array([np.stack([first] * 2, axis=1), np.stack([first[::-1]] * 2, axis=1)]),
        "oracle": truth[None],
    }
    scores = Scores([f"m{i}" for i in range(7)], ["task_01", "task_02"], truth, values)
    known = dataclasses.replace(run, scores=scores)
    rows = comparison(known, {"method": "vlmrank", "tasks": 2, "loss": 20.0})
    found = {row["name"]: (row["hits"], row["tasks"], pytest.approx(row["loss"])) for row in rows}
    assert found == {
        "This choice": (2.0, 2, 20.0),  # the first model: 1st, then 5th, which loses .4
        "Best simple rule": (1.0, 2, 25.0),  # biggest: 1st, then 6th
        "A model at random": (1.0, 2, 40.0),  # half the draws take the first, half the last
        "Oracle": (2.0, 2, 0.0),
    }
    assert "the best of 2 simple ones" in rows[1]["note"]
    judged = comparison(known, {"method": "vlmrank", "tasks": 2, "loss": 3.0, "hits": 1, "loss_random": 9.0})
    assert (judged[0]["hits"], judged[0]["loss"]) == (1, 3.0), "the record by which the verdict was judged goes first"
    assert comparison(known, None) == comparison(dataclasses.replace(run, scores=None), {"method": "vlmrank"}) == []


def test_claims_and_what_came_true(run):
    assert [row["cases"] for row in claims(run)] == [90, 9, 9]
    assert len(reliability(run)) == 8
    empty = dataclasses.replace(run, calibration=pd.DataFrame())
    assert claims(empty) == reliability(empty) == []


def test_images_on_which_the_best_models_disagree_come_first(run, tmp_path):
    names = [str(image["id"]) for image in run.datasets[0]["images"]]
    labels = np.zeros((3, len(names)), int)
    labels[2, 5] = labels[1, 9] = 1
    labels[:, 7] = [0, 1, 2]
    guesses = Guesses(("a", "b", "c"), tuple(names), labels)
    assert (guesses.disagreements(0, 1), guesses.disagreements(0, 2)) == (2, 2)
    found = thumbnails(run, "target_0", guesses)
    assert [image["id"] for image in found[:3]] == [names[7], names[5], names[9]]
    assert [image["disputed"] for image in found[:4]] == [True, True, True, False]
    assert [(seen["name"], seen["models"], seen["first"]) for seen in found[1]["seen"]] == [
        ("cat", 2, True),
        ("dog", 1, False),
    ]
    assert all(image["data"].startswith("data:image/jpeg") for image in found)


def test_a_page_holds_few_images(run, monkeypatch):
    monkeypatch.setattr(images, "MOST", 10)
    assert len(thumbnails(run, "target_0", Guesses())) == 10


def test_the_runner_up_differs_in_words_and_images(tmp_path):
    folder = synthetic.write_results(tmp_path / "results", models=7, datasets=4)
    found = collect(folder)
    guesses = read_guesses(found, "target_0", folder)
    given = answer(found, "target_0", guesses=guesses)
    assert guesses.models[:2] == (given.pick.model.name, given.second.model.name)
    lower = 100 * (given.pick.accuracy - given.second.accuracy)
    assert f"expected accuracy {abs(lower):.1f} points {'lower' if lower > 0 else 'higher'}" in given.difference
    assert f"the two disagree on {guesses.disagreements(0, 1)} of 16 images" in given.difference


def test_the_models_keep_their_names_and_families(tmp_path):
    names = ["ViT-B-16-SigLIP--webli", "EVA02-B-16--merged2b_s8b_b131k", "RN50--openai", "ViT-B-32--openai"]
    found = collect(synthetic.write_results(tmp_path / "results", models=names, datasets=3))
    assert {model.name: model.family for model in found.models} == dict(
        zip(names, ("SigLIP", "EVA", "ResNet", "ViT"), strict=True)
    )
    code = 'open_clip.create_model_and_transforms("RN50", pretrained="openai")'
    assert any(code in model.code for model in found.models)


def test_retrieval_sets_are_no_tasks(tmp_path):
    from vlmrank.report import sections

    found = collect(synthetic.write_results(tmp_path / "results", models=3, datasets=4))
    cards = tuple({**card, "dataset": card["dataset"].replace("task_03", "mscoco_captions")} for card in found.datasets)
    facts = sections.facts(dataclasses.replace(found, datasets=cards))
    assert facts["sources"] == "2 known tasks and 1 retrieval or multi-label set"
