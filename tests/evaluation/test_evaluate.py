"""The protocol: what is left out, what a method may look at, intervals and paired differences."""

import dataclasses
import sys
from subprocess import run

import numpy as np
import pandas as pd
import pytest

from vlmrank.baselines import Evidence, Method, Unavailable, View, all_methods, select_methods
from vlmrank.baselines.base import INPUTS, SOURCE_ACCURACIES, TARGET_IMAGES, TRUTH
from vlmrank.errors import VlmrankError
from vlmrank.evaluation import evaluate as evaluation
from vlmrank.evaluation import evidence, gather
from vlmrank.predictions import committee_agreement
from vlmrank.store import Pair

MODELS, DATASETS = [f"m{index}" for index in range(8)], ["cats", "dogs", "cells", "digits", "maps"]


def small_evidence(seed=0, draws=2):
    rng = np.random.default_rng(seed)
    m, t = len(MODELS), len(DATASETS)
    return Evidence(
        models=MODELS,
        datasets=DATASETS,
        accuracy=rng.random((m, t)),
        images=np.full((m, t), 400.0),
        domain=["photo", "photo", "medical", "", ""],
        parameters=np.arange(m, dtype=float),
        statistics={name: rng.random((draws, m, t)) for name in ("mutual_information", "confidence", "entropy")},
        divergence={
            name: rng.random((draws, m, t, t))
            for name in ("dcd", "symmetric", "cosine", "jensen_shannon", "embedding", "uniform_blocks")
        },
        logits={
            "": [
                [[(rng.normal(size=(6, 3)), tuple("uvwxyz")) for _ in range(draws)] for _ in range(m)] for _ in range(t)
            ]
        },
        class_names=[("a",), ("b", "c"), ("d", "e", "f"), ("g",), ()],
    )


def values_of(table, method, metric):
    part = table[(table["method"] == method) & (table["metric"] == metric)]
    return part.set_index("target")["value"]


def test_sources_leave_out_the_target_or_its_domain():
    data = small_evidence()
    assert list(evaluation.sources_of(data, 0)) == [1, 2, 3, 4]
    assert list(evaluation.sources_of(data, 0, "domain")) == [2, 3, 4]
    assert list(evaluation.sources_of(data, 3, "domain")) == [0, 1, 2, 4]  # no domain: one of its own
    with pytest.raises(ValueError, match="unknown protocol"):
        evaluation.sources_of(data, 0, "continent")


def test_siblings_are_no_sources_for_each_other():
    data = dataclasses.replace(small_evidence(), group=["pets", "pets", "", "", "pets"])
    assert list(evaluation.sources_of(data, 0)) == [2, 3]
    assert list(evaluation.sources_of(data, 4, "domain")) == [2, 3]
    assert list(evaluation.sources_of(data, 2)) == [0, 1, 3, 4]
    assert list(evaluation.sources_of(data, 3)) == [0, 1, 2, 4]  # no group: no siblings
    assert list(evaluation.sources_of(data, 0, "siblings")) == [1, 2, 3, 4]


def test_another_protocol_is_evaluated_only_where_it_differs(monkeypatch):
    data = dataclasses.replace(small_evidence(), group=["pets", "pets", "", "", ""])
    methods = select_methods(all_methods(), ["average_rank", "mutual_information", "doc", "vlmrank", "random"])
    known = evaluation.evaluate_methods(data, methods)
    for protocol in ("domain", "siblings"):
        expected = evaluation.evaluate_methods(data, methods, protocol=protocol).metrics
        found = evaluation.evaluate_protocol(data, methods, known, protocol=protocol)
        keys = ["method", "target", "metric"]
        pd.testing.assert_frame_equal(
            found.sort_values(keys, ignore_index=True),
            expected.sort_values(keys, ignore_index=True),
            check_dtype=False,
        )
        assert list(dict.fromkeys(found["method"])) == list(dict.fromkeys(known.metrics["method"]))
    asked, score_target = set(), evaluation.score_target

    def spy(method, evidence, target, sources, **options):
        asked.add((method.name, target))
        return score_target(method, evidence, target, sources, **options)

    monkeypatch.setattr(evaluation, "score_target", spy)
    evaluation.evaluate_protocol(data, methods, known, protocol="siblings")
    assert asked == {(name, target) for name in ("average_rank", "doc", "vlmrank") for target in (0, 1)}


def test_a_dataset_without_accuracies_is_neither_source_nor_target():
    data = small_evidence()
    accuracy = data.accuracy.copy()
    accuracy[:, 1] = np.nan
    data = dataclasses.replace(data, accuracy=accuracy)
    assert list(evaluation.sources_of(data, 0)) == [2, 3, 4]
    table = evaluation.evaluate_methods(data, all_methods()).metrics
    assert "dogs" not in set(table["target"])


def test_every_method_works_and_the_oracle_is_perfect():
    outcome = evaluation.evaluate_methods(small_evidence(), all_methods())
    assert set(outcome.metrics["method"]) == {method.name for method in all_methods()} - set(outcome.left_out)
    assert {"vlmrank", "fused", "average_rank", "random", "biggest"} <= set(outcome.metrics["method"])
    assert np.isfinite(outcome.metrics["value"]).all()
    for metric, higher in evaluation.HIGHER_IS_BETTER.items():
        np.testing.assert_allclose(values_of(outcome.metrics, "oracle", metric), 1.0 if higher else 0.0, atol=1e-12)
    mean = values_of(outcome.metrics, "random", "kendall_tau").mean()
    np.testing.assert_allclose(mean, 0.0, atol=0.08)


def test_missing_accuracies_are_allowed():
    data = small_evidence()
    accuracy = data.accuracy.copy()
    accuracy[::3, 1] = np.nan
    accuracy[1, :] = np.nan
    data = dataclasses.replace(data, accuracy=accuracy)
    for protocol in evaluation.PROTOCOLS:
        outcome = evaluation.evaluate_methods(data, all_methods(), protocol=protocol)
        assert np.isfinite(outcome.metrics["value"]).all()


def test_a_method_cannot_look_at_what_it_does_not_declare():
    def cheat(view):
        return view.true_accuracy

    sees = frozenset({SOURCE_ACCURACIES})
    with pytest.raises(PermissionError, match="true accuracies"):
        evaluation.score_target(Method("cheat", "cheat", sees, cheat), small_evidence(), 0, [1, 2])
    with pytest.raises(ValueError, match="looks at"):
        Method("cheat", "cheat", frozenset({"the future"}), cheat)


def test_each_method_declares_no_more_than_it_uses():
    used = set()

    class Spy(View):
        def _check(self, *inputs):
            used.update(inputs)
            super()._check(*inputs)

    for method in all_methods():
        used.clear()
        try:
            method.score(Spy(small_evidence(), 0, [1, 2, 3], method.looks_at))
        except Unavailable:
            continue
        # class names shape the pseudo-labels behind the divergences and the predictions, upstream of the view
        assert method.looks_at - {"class names"} <= used | {TRUTH}, method.name
        assert set(method.looks_at) <= set(INPUTS)


def test_what_was_not_gathered_is_left_out_with_a_reason():
    bare = dataclasses.replace(small_evidence(), divergence={}, statistics={}, parameters=None, logits={})
    outcome = evaluation.evaluate_methods(bare, all_methods())
    assert "no divergence" in outcome.left_out["vlmrank"]
    assert "size" in outcome.left_out["biggest"]
    left = {"average_rank", "reference_accuracy", "random", "oracle", "oracle_weights", "noise_ceiling"}
    assert set(outcome.metrics["method"]) == left


def test_a_metric_is_the_mean_over_the_draws():
    data = small_evidence(draws=3)
    method = Method("mi", "mi", frozenset({TARGET_IMAGES}), lambda view: view.statistic("mutual_information"))
    table = evaluation.evaluate_methods(data, [method]).metrics
    by_hand = np.mean(
        [
            evaluation.METRICS["kendall_tau"](
                truth=data.accuracy[:, 2], score=data.statistics["mutual_information"][draw, :, 2]
            )
            for draw in range(3)
        ]
    )
    np.testing.assert_allclose(values_of(table, "mi", "kendall_tau")["cells"], by_hand, atol=1e-12)


def test_oracle_weights_by_hand():
    # target; a source with correlation .8, one with correlation -1 (weight 0), one of which all accuracies are equal
    accuracy = np.array([[1, 2, 4, 1], [2, 1, 3, 1], [3, 4, 2, 1], [4, 3, 1, 1], [5, 5, 0, 1]]) / 10.0
    accuracy[0, 1] = np.nan
    models = [f"m{index}" for index in range(len(accuracy))]
    data = Evidence(models=models, datasets=["t", "a", "b", "c"], accuracy=accuracy)
    method = select_methods(all_methods(), ["oracle_weights"])[0]
    score = method.score(View(data, 0, [1, 2, 3], method.looks_at))
    np.testing.assert_allclose(score, [np.nan, 0.125, 0.625, 0.375, 0.875], rtol=0, atol=1e-12)


def test_noise_ceiling_falls_with_fewer_test_images():
    data = small_evidence()
    few = dataclasses.replace(data, images=np.full_like(data.accuracy, 5.0))
    methods = select_methods(all_methods(), ["noise_ceiling"])
    many = evaluation.evaluate_methods(data, methods).metrics
    scarce = evaluation.evaluate_methods(few, methods).metrics
    assert values_of(many, "noise_ceiling", "ndcg_at_5").mean() > values_of(scarce, "noise_ceiling", "ndcg_at_5").mean()


def test_average_rank_and_reference_by_hand():
    data = small_evidence()
    named = {method.name: method for method in all_methods()}
    score = evaluation.score_target(named["reference_accuracy"], data, 0, [1, 2, 3])[0]
    np.testing.assert_allclose(score, data.accuracy[:, 2], atol=0)  # cells has most classes
    accuracy = np.array([[0.9, 0.1], [0.5, np.nan], [0.1, 0.8]])
    tiny = Evidence(models=["a", "b", "c"], datasets=["s", "t"], accuracy=accuracy)
    score = evaluation.score_target(named["average_rank"], tiny, 1, [0])[0]
    assert list(np.argsort(-score)) == [0, 1, 2]


def test_interval_and_paired_difference_by_hand():
    rows = [
        ("vlmrank", "a", "ndcg_at_5", 0.6), ("vlmrank", "b", "ndcg_at_5", 0.4), ("vlmrank", "c", "ndcg_at_5", 0.5),
        ("swab", "a", "ndcg_at_5", 0.5), ("swab", "b", "ndcg_at_5", 0.4), ("swab", "c", "ndcg_at_5", 0.6),
        ("vlmrank", "a", "regret_at_1", 0.1), ("swab", "a", "regret_at_1", 0.3),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["method", "target", "metric", "value"])
    summary = evaluation.summarise(table, bootstrap=500).set_index(["method", "metric"])
    np.testing.assert_allclose(summary.loc[("vlmrank", "ndcg_at_5"), "mean"], 0.5, atol=1e-12)
    assert (
        0.4 <= summary.loc[("vlmrank", "ndcg_at_5"), "ci_low"] < 0.5 < summary.loc[("vlmrank", "ndcg_at_5"), "ci_high"]
    )
    assert not summary.loc[("swab", "regret_at_1"), "higher_is_better"]
    paired = evaluation.differences(table, bootstrap=500).set_index(["method", "reference", "metric"])
    row = paired.loc[("vlmrank", "swab", "ndcg_at_5")]
    assert (row["won"], row["tied"], row["lost"]) == (1, 1, 1)
    np.testing.assert_allclose(row["mean"], 0.0, atol=1e-12)
    np.testing.assert_allclose(paired.loc[("vlmrank", "swab", "regret_at_1"), "mean"], 0.2, atol=1e-12)


def test_tasks_of_a_domain_are_drawn_together():
    # ten tasks in five domains, level within a domain: the interval is that of the five domains' means
    targets = [f"t{index}" for index in range(10)]
    domains = {target: f"d{index // 2}" for index, target in enumerate(targets)}
    values = np.repeat([0.1, 0.5, 0.3, 0.9, 0.2], 2)
    clusters = evaluation.clusters_of(targets, domains)
    assert list(clusters) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    found = evaluation.mean_with_interval(values, clusters=clusters, bootstrap=500)
    np.testing.assert_allclose(found, evaluation.mean_with_interval(values[::2], bootstrap=500), rtol=0, atol=1e-12)
    alone = evaluation.mean_with_interval(values, bootstrap=500)
    assert found[2] - found[1] > 1.2 * (alone[2] - alone[1])
    # fewer than five domains cannot be resampled, and an unknown one is the task's own
    assert list(evaluation.clusters_of(targets[:4], domains)) == [0, 1, 2, 3]
    assert len(set(evaluation.clusters_of(targets, {**domains, "t9": ""}))) == 6
    table = pd.DataFrame({"method": "vlmrank", "target": targets, "metric": "ndcg_at_5", "value": values})
    row = evaluation.summarise(table, domains=domains, bootstrap=500).iloc[0]
    np.testing.assert_allclose(row[["mean", "ci_low", "ci_high"]].to_numpy(float), found, rtol=0, atol=1e-12)


def test_a_constant_difference_has_an_interval_of_no_width():
    values = pd.DataFrame(
        [(method, target, "ndcg_at_5", base + shift)
         for method, shift in (("vlmrank", 0.1), ("swab", 0.0))
         for target, base in zip("abcdef", (0.1, 0.8, 0.3, 0.5, 0.2, 0.7), strict=True)],
        columns=["method", "target", "metric", "value"],
    )  # fmt: skip
    row = evaluation.differences(values, bootstrap=300).iloc[0]
    np.testing.assert_allclose([row["ci_low"], row["ci_high"]], 0.1, atol=1e-12)


def test_the_default_leaves_out_most_joined_peers_and_nothing_else():
    every = [method.name for method in select_methods(all_methods(), "all")]
    default = [method.name for method in select_methods(all_methods(), "default")]
    assert every == [method.name for method in all_methods()]
    left = set(every) - set(default)
    assert "average_rank+laf" in left and all(name.startswith("average_rank+") for name in left)
    assert {"average_rank+mutual_information", "average_rank+agreement", "laf"} <= set(default)


def test_unknown_method_is_named():
    with pytest.raises(VlmrankError, match="astrology"):
        select_methods(all_methods(), ["vlmrank", "astrology"])


ALIGNMENT = {"epsilon": 1.0, "rho": 0.5, "depth": 1.0}
DIVERGENCE = {"kind": "subspace", "rank": 3, "smoothing": 1e-3}


def random_pair(rng, *, dataset, images=12, failed=False):
    if failed:
        return Pair(attributes={"status": "failed", "reason": "no", "dataset": dataset})
    return Pair(
        blocks={"b0": rng.normal(size=(images, 6)), "b1": rng.normal(size=(images, 5))},
        image_id=[f"{dataset}{index}" for index in range(images)],
        logits=rng.normal(size=(images, 4)),
        embedding=rng.normal(size=(images, 7)),
        class_embedding=rng.normal(size=(4, 7)),
        attributes={"status": "ok", "dataset": dataset, "class_names": list("wxyz")},
    )


def test_gathered_evidence_survives_a_failed_pair_and_the_file(tmp_path):
    rng = np.random.default_rng(0)
    pairs = {name: random_pair(rng, dataset=name, failed=name == "dogs") for name in DATASETS}
    found = gather.gather_evidence(
        pairs, gather.Draws(images=5, draws=3), sources=DATASETS, alignment=ALIGNMENT, divergence=DIVERGENCE
    )
    assert found.divergence["dcd"].shape == (3, 5, 5)
    for name, values in found.divergence.items():
        missing = np.isnan(values).all(axis=0)
        assert missing[1].all() and missing[:, 1].all() and missing.sum() == 9, name
        if name not in ("dcd", "uniform_blocks"):
            np.testing.assert_allclose(values, values.transpose(0, 2, 1), atol=1e-12)
    assert np.abs(found.divergence["dcd"][0] - found.divergence["dcd"][1])[0, 2] > 1e-6  # draws differ
    evidence.write_evidence(tmp_path / "m.h5", found)
    back = evidence.read_evidence(tmp_path / "m.h5")
    assert back.datasets == tuple(DATASETS)
    np.testing.assert_array_equal(back.divergence["dcd"], found.divergence["dcd"])
    assert back.image_ids == found.image_ids and len(back.image_ids[0]) == 12 and back.image_ids[1] == ()
    np.testing.assert_array_equal(
        back.drawn[""][0], [gather.draw_images(12, images=5, draw=d, seed=0) for d in range(3)]
    )
    accuracy = pd.DataFrame(
        [(m, d, rng.random(), 100) for m in ("one", "two", "three") for d in DATASETS],
        columns=["model", "dataset", "acc1", "n"],
    )
    gathered = evidence.assemble_evidence({"one": found, "two": back, "three": found}, accuracy)
    assert gathered.divergence["dcd"].shape == (3, 3, 5, 5)
    assert gathered.draws == 3
    outcome = evaluation.evaluate_methods(gathered, all_methods())
    assert np.isfinite(outcome.metrics["value"]).all()


def test_draws_are_alike_across_models_and_exhaust_nothing():
    first = gather.draw_images(64, images=16, draw=3, seed=1)
    np.testing.assert_array_equal(first, gather.draw_images(64, images=16, draw=3, seed=1))
    assert len(set(first)) == 16
    assert list(gather.draw_images(7, images=16, draw=0, seed=0)) == list(range(7))


def test_evaluation_imports_without_torch():
    code = (
        "import sys, vlmrank.evaluation.evaluate, vlmrank.evaluation.evidence, vlmrank.baselines;"
        "sys.exit('torch' in sys.modules)"
    )
    environment = {"PYTHONPATH": "scripts", "PATH": ""}
    assert run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_without_any_known_accuracy_predictions_alone_rank():
    data = small_evidence()
    nothing = dataclasses.replace(data, accuracy=np.full(data.accuracy.shape, np.nan), images=None)
    found = evaluation.evaluate_methods(nothing, select_methods(all_methods(), "default"))
    assert found.metrics.empty and {"agreement", "mutual_information"} <= set(found.scores)
    assert "average_rank" in found.left_out and "vlmrank" in found.left_out
    assert np.isfinite(found.scores["agreement"]).all()
    place = np.arange(len(MODELS), dtype=float)
    told = dataclasses.replace(nothing, published=place)
    ranked = evaluation.evaluate_methods(told, select_methods(all_methods(), ["agreement"])).scores["agreement"]
    logits = [draws[0] for draws in data.logits[""][0]]
    expected = committee_agreement([values for values, _ in logits], place).mean(axis=1)
    np.testing.assert_allclose(ranked[0, :, 0], expected, rtol=0, atol=1e-12)
    assert not np.allclose(ranked[0, :, 0], found.scores["agreement"][0, :, 0], rtol=0, atol=1e-6)
