"""Peers against the figures that their authors' code prints; how each figure was made is said beside it."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vlmrank import metrics
from vlmrank.baselines import Evidence, View, modelgpt, swab
from vlmrank.baselines.transferability import few_shot_accuracy, labelled_scores, leep_score, nce_score

REFERENCE = Path(os.environ.get("VLMRANK_REFERENCE", "../shared/reference"))
LOVM_FEATURES = REFERENCE / "lovm_modelgpt_features.csv"

# thuml/LogME @ 56551ca (LogME, LEEP, NCE) and thuml/Transfer-Learning-Library @ c4aa59e (H-scores, TransRate), run
# on `labelled_recipe(*arguments)`: LogME(regression=False).fit(f, y), LEEP(softmax(z), y), NCE(argmax(z), y),
# h_score(f, y), regularized_h_score(f, y), transrate(f, y).
LABELLED_FIGURES = {
    (0, 60, 12, 4, 1.0): {
        "logme": -0.27539317005621966,
        "leep": -0.7706997112187969,
        "nce": -0.4743656877271857,
        "h_score": 2.3272517138555067,
        "regularised_h_score": 2.1029482555482737,
        "transrate": 3.838788413491315,
    },
    (1, 16, 32, 3, 0.5): {
        "logme": 1.8409491565249025,
        "leep": -0.6719752055678441,
        "nce": -0.5047620999317268,
        "h_score": 1.9999999999999993,
        "regularised_h_score": 1.5038392907500087,
        "transrate": 42.276369888559515,
    },
    (2, 200, 24, 10, 0.3): {
        "logme": -0.2380803946095967,
        "leep": -1.7109368095909518,
        "nce": -0.9699071516627362,
        "h_score": 2.2467809425219594,
        "regularised_h_score": 0.31469163072356077,
        "transrate": 23.070940950114576,
    },
}


def labelled_recipe(seed, images, dimensions, classes, scale):
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    features = rng.normal(size=(images, dimensions)) + scale * rng.normal(size=(classes, dimensions))[labels]
    logits = rng.normal(size=(images, classes)) + 2.0 * np.eye(classes)[labels]
    return features, logits, labels


@pytest.mark.parametrize("arguments", LABELLED_FIGURES)
def test_labelled_scores_are_those_of_the_authors_code(arguments):
    features, logits, labels = labelled_recipe(*arguments)
    scores = labelled_scores(embedding=features, logits=logits, labels=labels)
    for name, figure in LABELLED_FIGURES[arguments].items():
        np.testing.assert_allclose(scores[name], figure, rtol=1e-9, err_msg=name)


def test_labelled_scores_by_hand():
    labels = np.array([0, 0, 1, 1])
    logits = np.array([[3.0, 0.0], [0.0, 3.0], [0.0, 3.0], [0.0, 3.0]])
    np.testing.assert_allclose(few_shot_accuracy(logits=logits, labels=labels), 0.75)
    # z = 0: one image of class 0; z = 1: one of class 0, two of class 1
    by_hand = 0.25 * np.log(1 / 3) + 0.5 * np.log(2 / 3)
    np.testing.assert_allclose(nce_score(predicted=np.argmax(logits, axis=1), labels=labels), by_hand, rtol=1e-12)
    sure = np.eye(2)[np.argmax(logits, axis=1)]
    np.testing.assert_allclose(leep_score(probabilities=sure, labels=labels), by_hand, rtol=1e-12)


def test_classes_without_images_do_not_change_a_score():
    features, logits, labels = labelled_recipe(0, 24, 6, 3, 1.0)
    gaps = np.array([0, 5, 9])[labels]
    wide = np.full((24, 10), -50.0)
    wide[:, [0, 5, 9]] = logits
    scores = labelled_scores(embedding=features, logits=logits, labels=labels)
    np.testing.assert_allclose(
        list(labelled_scores(embedding=features, logits=wide, labels=gaps).values()), list(scores.values()), rtol=1e-9
    )


# orrzohar/LOVM @ 418cdcd: ModelGPTPredictor(features=..., pred_target="acc1", grid_search_params=None)
# .loo_model_rank(), then LOVM(pred_target="acc1").evaluate_model_rank(...): the means of acc (top-5 recall) and k_tau
# (tau over the common top-5).
ALL_SEVEN = ("IN-score", "text-f1", "text-acc1", "intraclass_sim", "inter_close", "intra_close", "superclass_metric")
MODELGPT_FIGURES = {
    ALL_SEVEN: (0.426087, 0.046377),
    ("IN-score",): (0.452174, 0.176812),
    ("text-acc1", "intraclass_sim"): (0.173913, 0.0),
}


@pytest.mark.skipif(not LOVM_FEATURES.exists(), reason="LOVM's published features are not here (VLMRANK_REFERENCE)")
@pytest.mark.parametrize("names", MODELGPT_FIGURES)
def test_modelgpt_prints_what_lovm_prints(names):
    table = pd.read_csv(LOVM_FEATURES).drop_duplicates(["model_fullname", "dataset"])
    wide = {name: table.pivot(index="model_fullname", columns="dataset", values=name) for name in ("acc1", *names)}
    accuracy = wide["acc1"].to_numpy()
    features = np.stack([wide[name].to_numpy() for name in names], axis=-1)
    found = []
    for target in range(accuracy.shape[1]):
        sources = [index for index in range(accuracy.shape[1]) if index != target]
        score = modelgpt.predict_by_features(features[:, [*sources, target]], accuracy[:, sources])
        truth = accuracy[:, target]
        recall = metrics.topk_recall_score(truth=truth, score=score)
        found.append((recall, metrics.common_top5_tau_score(truth=truth, score=score)))
    assert len(found) == 23
    np.testing.assert_allclose(np.mean(found, axis=0), MODELGPT_FIGURES[names], atol=5e-7)


# YCaigogogo/SWAB @ d323ea9 on `swab_recipe()`: its three scripts with the sentence encoder replaced by a table of the
# class embeddings, one template, one synonym, torch.randn switched off (the noise of the captions) and torch.cuda
# ignored. Ranks: calc_ptm_pred_task_acc(m=0.9, thres=0.5, transform_k=1), summed over the target's classes. Features:
# rows of SWAB_inputs for the third model with dataset 1 held back. Borda: ModelGPTPredictor(features=["IN-score", five
# features], LinearRegression).loo_model_rank(); the first dataset plays imagenet1k.
SWAB_RANKS = [
    [3.333333, 2.033333, 2.9, 3.0, 2.0, 2.566667, 3.066667],
    [2.65, 2.1375, 2.9375, 3.2875, 2.375, 3.175, 2.3375],
    [3.133333, 2.533334, 3.166667, 2.7, 1.833333, 3.066667, 2.466667],
    [3.0, 1.866667, 2.266667, 3.233333, 2.433334, 3.066667, 3.033334],
    [3.595238, 2.919048, 2.842857, 2.261905, 2.138096, 3.1, 2.042857],
]
SWAB_PLAIN = {1: [0.736772, 0.75, 0.133529, 0.526321, 0.187472], 3: [0.84145, 0.833333, 0.388336, 0.625139, 0.312086]}
SWAB_BRIDGED = {
    1: [0.736772, 0.75, 0.104656, 0.624412, -0.076883],
    3: [0.833333, 0.833333, 0.784863, 0.795817, 0.333184],
}
SWAB_BORDA = {
    "modelgpt": [
        [4, 2, 5, 6, 3, 1, 7],
        [2, 3, 5, 1, 7, 6, 4],
        [6, 2, 4, 1, 5, 3, 7],
        [3, 5, 1, 2, 6, 4, 7],
        [4, 5, 2, 6, 7, 3, 1],
    ],
    "swab_m": [
        [1, 3, 5, 4, 2, 6, 7],
        [7, 6, 2, 4, 3, 5, 1],
        [6, 4, 7, 5, 2, 1, 3],
        [5, 1, 4, 6, 2, 3, 7],
        [3, 7, 6, 5, 4, 1, 2],
    ],
    "swab_c": [
        [5.5, 2.0, 4.5, 5.5, 2.0, 2.0, 6.5],
        [3.0, 2.0, 5.0, 4.0, 5.0, 6.0, 3.0],
        [6.0, 2.5, 5.5, 2.5, 3.0, 4.0, 4.5],
        [3.5, 3.0, 1.5, 4.5, 4.5, 5.0, 6.0],
        [5.5, 5.0, 3.0, 4.5, 4.5, 4.5, 1.0],
    ],
    "swab": [
        [4.0, 2.5, 4.5, 4.5, 1.5, 4.5, 6.5],
        [5.5, 3.5, 3.5, 5.5, 3.0, 5.5, 1.5],
        [6.0, 3.5, 7.0, 4.5, 1.5, 3.0, 2.5],
        [4.5, 1.0, 3.0, 6.5, 2.5, 4.5, 6.0],
        [5.0, 6.0, 5.0, 4.0, 3.0, 3.5, 1.5],
    ],
}


def unit(values):
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def swab_recipe():
    models, counts, size, dimensions, captions, images = 7, [4, 3, 5, 6, 3], 6, 8, 4, 9
    rng = np.random.default_rng(7)
    topic = rng.normal(size=(1, size))
    names = [unit(topic + rng.normal(size=(count, size))) for count in counts]
    accuracy = [rng.random((models, count)) for count in counts]
    classifier = [[rng.normal(size=(count, dimensions)) for count in counts] for _ in range(models)]
    classifier = [[unit(values) for values in one] for one in classifier]
    shape = (captions, dimensions)
    text = [[[row + 0.6 * rng.normal(size=shape) for row in values] for values in one] for one in classifier]
    shape = (images, dimensions)
    image = [[[row + 0.9 * rng.normal(size=shape) + 0.5 for row in values] for values in one] for one in classifier]
    similarity = [[source @ target.T for target in names] for source in names]
    return similarity, accuracy, classifier, text, image


def others(*left_out):
    return [index for index in range(5) if index not in left_out]


def test_swab_ranks_are_those_of_the_authors_code():
    similarity, accuracy, *_ = swab_recipe()
    for target, figures in enumerate(SWAB_RANKS):
        sources = others(target)
        found = swab.transported_ranks(
            [similarity[source][target] for source in sources], [accuracy[source] for source in sources]
        )
        np.testing.assert_allclose(found, figures, atol=2e-6)


def plain_and_bridged():
    """[M, T, F] plain and [M, T, T, F] bridged features of the recipe without noise."""
    similarity, _, classifier, text, image = swab_recipe()
    models, datasets = len(classifier), 5
    plain = np.zeros((models, datasets, 5))
    bridged = np.zeros((models, datasets, datasets, 5))
    for model in range(models):
        gaps = [
            swab.modality_gap(
                np.concatenate(image[model][d]),
                np.repeat(np.arange(len(image[model][d])), 9),
                text[model][d],
                classifier[model][d],
            )
            for d in range(datasets)
        ]
        for d in range(datasets):
            found = modelgpt.text_features(text[model][d], classifier[model][d], sigma=0.0)
            plain[model, d] = [found[name] for name in modelgpt.TEXT_FEATURES]
            for held in range(datasets):
                sources = others(held, d)
                gap = swab.predicted_gaps(
                    [similarity[s][d] for s in sources], [gaps[s] for s in sources], classes=len(classifier[model][d])
                )
                found = swab.bridged_features(text[model][d], classifier[model][d], gap, sigma=0.0)
                bridged[model, held, d] = [found[name] for name in modelgpt.TEXT_FEATURES]
    return plain, bridged


def test_swab_features_and_borda_counts_are_those_of_the_authors_code():
    similarity, class_accuracy, *_ = swab_recipe()
    plain, bridged = plain_and_bridged()
    for dataset, figures in SWAB_PLAIN.items():
        np.testing.assert_allclose(plain[2, dataset], figures, atol=2e-6)
    for dataset, figures in SWAB_BRIDGED.items():
        np.testing.assert_allclose(bridged[2, 1, dataset], figures, atol=2e-6)
    accuracy = np.stack([values.mean(axis=1) for values in class_accuracy], axis=1)
    for target in range(5):
        sources = others(target)
        columns = [*sources, target]
        reference = np.repeat(accuracy[:, :1], 5, axis=1)[..., None]
        ranks = swab.transported_ranks(
            [similarity[source][target] for source in sources], [class_accuracy[source] for source in sources]
        )
        for features, one, two in (
            (plain[:, columns], "modelgpt", "swab_c"),
            (bridged[:, target][:, columns], "swab_m", "swab"),
        ):
            with_reference = np.concatenate([reference, features], axis=2)
            score = modelgpt.predict_by_features(with_reference, accuracy[:, sources])
            np.testing.assert_allclose(swab.borda_count(score), SWAB_BORDA[one][target], atol=1e-9)
            np.testing.assert_allclose(swab.borda_count(score, ranks), SWAB_BORDA[two][target], atol=1e-9)


def test_language_methods_by_their_views():
    similarity, class_accuracy, *_ = swab_recipe()
    plain, bridged = plain_and_bridged()
    names = modelgpt.TEXT_FEATURES
    data = Evidence(
        models=[f"m{index}" for index in range(7)],
        datasets=list("abcde"),
        accuracy=np.stack([values.mean(axis=1) for values in class_accuracy], axis=1),
        class_names=[tuple("v" * count) for count in (4, 3, 5, 6, 3)],
        class_accuracy=class_accuracy,
        class_similarity=similarity,
        text_features={name: plain[..., index] for index, name in enumerate(names)},
        bridged_features={name: bridged[..., index] for index, name in enumerate(names)},
    )
    for method in swab.METHODS:
        score = method.score(View(data, 1, others(1), method.looks_at))
        assert np.isfinite(score).all(), method.name
    named = {method.name: method for method in swab.METHODS}
    found = named["swab_transport"].score(View(data, 1, others(1), swab.SEES))
    np.testing.assert_allclose(found, SWAB_RANKS[1], atol=2e-6)


def test_transported_ranks_without_related_classes_or_with_gaps_in_the_table():
    rng = np.random.default_rng(0)
    far = [np.full((3, 2), 0.1)]
    assert swab.transported_ranks(far, [rng.random((4, 3))]) is None
    near = [np.full((3, 2), 0.9)]
    accuracy = np.array([[0.9, 0.8, 0.7], [0.5, np.nan, 0.5], [0.1, 0.2, np.nan], [np.nan] * 3])
    found = swab.transported_ranks(near, [accuracy], mass=1.0)
    assert found[0] > found[1] > found[2]
    assert np.isnan(found[3])


def test_borda_shares_places_of_ties():
    np.testing.assert_allclose(swab.borda_count(np.array([0.3, 0.3, 0.9, np.nan])), [2.5, 2.5, 4.0, 1.0], atol=0)
