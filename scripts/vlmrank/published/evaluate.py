"""Rank, evaluate and report from published accuracies alone, without conductance: baselines only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from vlmrank.answer.check import calibration_table, statements
from vlmrank.answer.tables import answer_facts, ranking_rows, settings_for, tasks_of
from vlmrank.answer.tasks import TaskAnswer, answer_tasks
from vlmrank.baselines import all_methods, describe_methods, select_methods
from vlmrank.baselines.base import Evidence, Method
from vlmrank.datasets.prompts import clip_benchmark_prompts
from vlmrank.errors import VlmrankError
from vlmrank.evaluation.evaluate import HIGHER_IS_BETTER, METRICS, differences, evaluate_methods, summarise
from vlmrank.evaluation.evidence import table_of
from vlmrank.evaluation.scores import Scores
from vlmrank.models.registry import architectures
from vlmrank.store import OK, write_csv, write_json

METHOD = "baselines only"
BY_DEFAULT = "average_rank"  # the method that ranks unless the known tasks favour another


@dataclass(frozen=True)
class PublishedRun:
    """The results of `evaluate_published`.

    Attributes
    ----------
    summary : method, metric, mean, ci_low, ci_high, higher_is_better.
    left_out : method -> why it could not be scored.
    reference : metric -> mean over the datasets, for ranking by the accuracy on one dataset. As in related work, that
        accuracy counts as known for every target, itself included. Empty without a reference.
    rankings : target -> the ranking's table.
    """

    summary: pd.DataFrame
    left_out: Mapping[str, str]
    reference: Mapping[str, float]
    rankings: Mapping[str, pd.DataFrame]


def reference_metrics(accuracy: np.ndarray, reference: int) -> dict[str, float]:
    """Mean over all targets of each metric for ranking by one column of [M, T] accuracies (the ImageNet baseline)."""
    score = accuracy[:, reference]
    usable = [t for t in range(accuracy.shape[1]) if np.isfinite(accuracy[:, t]).sum() >= 2]
    return {
        name: float(np.mean([metric(truth=accuracy[:, t], score=score) for t in usable]))
        for name, metric in METRICS.items()
    }


def _class_names(dataset: str) -> tuple[str, ...]:
    try:
        return clip_benchmark_prompts(dataset).classes
    except VlmrankError:
        return ()


def _write_cards(folder: Path, models: Sequence[str], datasets: Sequence[str], targets: Sequence[str]) -> list[float]:
    """Write cards for models and datasets known only by name; return the models' parameters, nan if unknown."""
    sizes, parameters = architectures(), []
    for model in models:
        architecture, _, tag = model.partition("--")
        size = sizes.get(architecture) or {}
        parameters.append(float(size.get("parameters") or np.nan))
        known = {name: size.get(name) for name in ("family", "parameters", "image_parameters", "gflops")}
        card = {"model": model, "architecture": architecture, "pretrained": tag, **known, "mismatches": []}
        write_json(folder / "models" / f"{_file(model)}.json", {**card, "status": OK, "reason": ""})
    for dataset in datasets:
        role = "target" if dataset in targets else "source"
        card = {"dataset": dataset, "role": role, "domain": "", "classes": [], "templates": [], "seed": 0}
        card |= {"images": [], "failed_images": [], "test": None, "n_test": 0, "status": OK, "reason": ""}
        write_json(folder / "datasets" / f"{_file(dataset)}.json", card)
    return parameters


def _file(name: str) -> str:
    return name.replace("/", "-").lstrip(".")


def _answers(scores: Scores, methods: Sequence[Method], *, draws: int, seed: int) -> dict[int, TaskAnswer]:
    """The answer for each dataset from the accuracies on all others."""
    how = replace(settings_for({"score": "auto", "bootstrap": draws}, seed), default=BY_DEFAULT)
    return answer_tasks(tasks_of(scores, methods, {}), how)


def evaluate_published(
    accuracy: pd.DataFrame,
    results: str | os.PathLike[str],
    *,
    unmatched: pd.DataFrame | None = None,
    targets: Sequence[str] = (),
    reference: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> PublishedRun:
    """Write rankings and the leave-one-dataset-out evaluation of a table of accuracies alone.

    Parameters
    ----------
    accuracy : columns model, dataset, acc1, n, origin; cells may be missing.
    results : folder to write to.
    unmatched : what was left out of the tables, since it matched no name.
    targets : datasets to rank the models for, each by all the others.
    reference : dataset whose accuracy is compared as a score.
    bootstrap, seed : of the intervals.

    Raises
    ------
    VlmrankError : a target or the reference is not in the table, or there are too few rows.
    """
    models, datasets = sorted(accuracy["model"].unique()), sorted(accuracy["dataset"].unique())
    if len(models) < 2 or len(datasets) < 2:
        raise VlmrankError(f"{len(models)} models and {len(datasets)} datasets: at least two of each are needed")
    for name in (*targets, *([reference] if reference else [])):
        if name not in datasets:
            raise VlmrankError(f"the tables have no dataset {name!r}; they have {', '.join(datasets)}")
    results = Path(results)
    matrix = table_of(accuracy, models, datasets, "acc1")
    parameters = _write_cards(results, models, datasets, targets)
    write_csv(results / "accuracy.csv", accuracy)
    if unmatched is not None:
        write_csv(results / "accuracy_unmatched.csv", unmatched)
    evidence = Evidence(
        models=models,
        datasets=datasets,
        accuracy=matrix,
        images=table_of(accuracy, models, datasets, "n"),
        parameters=np.array(parameters),
        class_names=[_class_names(name) for name in datasets],
    )
    methods = select_methods(all_methods(), "default")
    found = evaluate_methods(evidence, methods, seed=seed)
    summary = summarise(found.metrics, bootstrap=bootstrap, seed=seed)
    gained = differences(found.metrics, ("average_rank",), bootstrap=bootstrap, seed=seed)
    scores = Scores(models, datasets, matrix, found.scores)
    answers = _answers(scores, methods, draws=max(bootstrap, 100), seed=seed)
    rankings = {}
    for target in targets:
        answer = answers[datasets.index(target)]
        rankings[target] = ranking_rows(answer, models).reset_index(drop=True)
        write_csv(results / "ranking" / f"{_file(target)}.csv", rankings[target])
        title = next(one.title for one in methods if one.name == answer.choice.method)
        write_json(results / "ranking" / f"{_file(target)}.answer.json", answer_facts(answer, models, title=title))
    folder = results / "evaluation"
    write_csv(folder / "calibration.csv", calibration_table(statements(answers, matrix), seed=seed))
    write_csv(folder / "metrics.csv", found.metrics)
    write_csv(folder / "summary.csv", summary)
    write_csv(folder / "differences.csv", gained)
    write_csv(folder / "methods.csv", describe_methods(methods))
    known = reference_metrics(matrix, datasets.index(reference)) if reference else {}
    return PublishedRun(summary, found.left_out, known, rankings)


def summary_table(run: PublishedRun, reference: str | None) -> list[tuple[str, ...]]:
    """Rows of text: method and the mean of each metric; the reference first."""
    names = list(METRICS)
    rows = [("method", *(f"{name} {'↑' if HIGHER_IS_BETTER[name] else '↓'}" for name in names))]
    if reference:
        rows.append((f"accuracy on {reference}", *(f"{run.reference[name]:.6f}" for name in names)))
    for method, part in run.summary.groupby("method", sort=False):
        means = part.set_index("metric")["mean"]
        rows.append((str(method), *(f"{means[name]:.6f}" for name in names)))
    return rows
