"""Rank, evaluate and report on published accuracies alone, where no conductance exists: baselines only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vlmrank.baselines import all_methods, describe_methods, select_methods
from vlmrank.baselines.base import Evidence
from vlmrank.datasets.prompts import clip_benchmark_prompts
from vlmrank.errors import VlmrankError
from vlmrank.evaluation.evaluate import HIGHER_IS_BETTER, METRICS, differences, evaluate_methods, summarise
from vlmrank.evaluation.evidence import table_of
from vlmrank.models.registry import architectures
from vlmrank.ranking import aggregate_ranks, ranking_table
from vlmrank.store import OK, write_csv, write_json

METHOD = "baselines only"


@dataclass(frozen=True)
class PublishedRun:
    """What `evaluate_published` found.

    Attributes
    ----------
    summary : method, metric, mean, ci_low, ci_high, higher_is_better.
    left_out : method -> why it could not be scored.
    reference : metric -> mean over the datasets of ranking by the accuracy on one dataset, which counts as known for
        every target, itself included, as the peers count it; empty where no reference was named.
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
    """Cards of what is only known by name; the models' parameters, nan where unknown."""
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


def rank_by_accuracies(accuracy: np.ndarray, models: Sequence[str], *, bootstrap: int, seed: int) -> pd.DataFrame:
    """Rank M models by their mean percentile rank on S sources, [M, S] accuracies with nan for unknown.

    Every source counts alike, since without conductance none is nearer than another; a model with missing accuracies
    is ranked by those it has, and its interval is wider.
    """
    result = aggregate_ranks(accuracy, np.zeros_like(accuracy), bootstrap=bootstrap, seed=seed)
    return ranking_table(result, models).reset_index(drop=True)


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
    results : folder that everything is written to.
    unmatched : what of the tables matched no name.
    targets : datasets to rank the models for, each by all the others.
    reference : dataset whose accuracy is compared as a score of its own.
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
    rankings = {}
    for target in targets:
        sources = [index for index, name in enumerate(datasets) if name != target]
        rankings[target] = rank_by_accuracies(matrix[:, sources], models, bootstrap=bootstrap, seed=seed)
        write_csv(results / "ranking" / f"{_file(target)}.csv", rankings[target])
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
    folder = results / "evaluation"
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
