"""The published accuracies shipped with the package, and the prior ranking that they give before any download.

M models, T tasks (datasets).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from vlmrank.answer.tables import settings_for
from vlmrank.answer.tasks import TaskAnswer, Tasks, answer_tasks
from vlmrank.metrics import regret_at_k_error
from vlmrank.ranking import average_ranks, percentile_ranks

TABLE = Path(__file__).resolve().parents[1] / "data" / "published.csv"
METHOD, TITLE = "average_rank", "average published rank"
SHORTLISTS = (1, 5, 10)  # sizes whose record is reported


@cache
def _table() -> pd.DataFrame:
    return pd.read_csv(TABLE, index_col="model")


def published_tasks() -> list[str]:
    """The datasets of the shipped table."""
    return list(_table().columns)


def published_accuracy(models: Sequence[str]) -> np.ndarray:
    """Published accuracies float64 [M, T] of models by name; nan if unknown."""
    return _table().reindex(list(models)).to_numpy(np.float64)


def published_ranks(models: Sequence[str]) -> dict[str, float]:
    """Model -> average percentile rank among these by published accuracies, for models that have any."""
    ranks = average_ranks(published_accuracy(models))
    return {model: float(rank) for model, rank in zip(models, ranks, strict=True) if np.isfinite(rank)}


def places(models: Sequence[str]) -> np.ndarray:
    """Place [M] of each model among these by average published rank, 1 is the best; nan if nothing is known."""
    rank = average_ranks(published_accuracy(models))
    order = (-np.nan_to_num(rank)).argsort(kind="stable").argsort(kind="stable") + 1
    return np.where(np.isfinite(rank), order, np.nan)


@dataclass(frozen=True)
class Record:
    """Quality of shortlists: for each task, the first k models by average rank over the other tasks.

    Attributes
    ----------
    size : k.
    held : number of tasks with the best model among the k.
    tasks : number of tasks.
    loss : mean over the tasks of the best accuracy minus the best among the k.
    """

    size: int
    held: int
    tasks: int
    loss: float


@dataclass(frozen=True)
class Prior:
    """What published accuracies say about M models on a task without published accuracies.

    Attributes
    ----------
    models : names.
    accuracy : float64 [M, T], nan if unknown.
    rank : float64 [M], mean percentile rank in (0, 1) among these models, higher is better; nan if unknown.
    place : float64 [M], 1 for the best of these models.
    answer : for a new task, calibrated on the T tasks; None if fewer than two models are known.
    records : of shortlists.
    """

    models: tuple[str, ...]
    accuracy: np.ndarray
    rank: np.ndarray
    place: np.ndarray
    answer: TaskAnswer | None
    records: tuple[Record, ...]

    @property
    def known(self) -> int:
        """Number of models with a published accuracy."""
        return int(np.isfinite(self.rank).sum())


def without_own_task(accuracy: np.ndarray) -> np.ndarray:
    """Scores [T, M]: the mean percentile rank of each model over all tasks but one."""
    ranks = percentile_ranks(accuracy)
    known = np.isfinite(ranks)
    total, count = np.where(known, ranks, 0).sum(axis=1), known.sum(axis=1)
    left = count[:, None] - known
    mean = (total[:, None] - np.where(known, ranks, 0)) / np.maximum(left, 1)
    return np.where(left > 0, mean, np.nan).T


def shortlist_records(
    accuracy: np.ndarray, scores: np.ndarray | None = None, *, sizes: Sequence[int] = SHORTLISTS
) -> tuple[Record, ...]:
    """How often the first k models by a task's score include its best one, and the loss of the best of the k.

    Parameters
    ----------
    accuracy : [M, T], nan if unknown.
    scores : [T, M], made without the task's own accuracies; by default the average rank over all other tasks.
    sizes : the k.
    """
    scores = without_own_task(accuracy) if scores is None else scores
    usable = np.isfinite(accuracy).T & np.isfinite(scores)
    tasks = [task for task in range(accuracy.shape[1]) if usable[task].sum() >= 2]
    found = []
    for size in sizes:
        if not tasks or size >= len(accuracy):
            continue
        lost = np.array(
            [
                regret_at_k_error(truth=accuracy[usable[task], task], score=scores[task][usable[task]], k=size)
                for task in tasks
            ]
        )
        found.append(Record(size, int((lost < 1e-9).sum()), len(tasks), float(lost.mean())))
    return tuple(found)


def told(records: Sequence[Record]) -> str:
    """The records of shortlists, in words; empty without a record.

    Examples
    --------
    >>> told([Record(5, 18, 35, 0.017)])
    'the first 5 hold the best model of 18 of 35 tasks (1.7 points lost on average)'
    """
    return ", ".join(
        f"the first {one.size} hold the best model of {one.held} of {one.tasks} tasks "
        f"({100 * one.loss:.1f} points lost on average)"
        for one in records
        if one.size > 1
    )


def published_prior(models: Sequence[str], *, draws: int = 1000, seed: int = 0) -> Prior:
    """Rank models by their average published rank, with intervals calibrated on the published tasks.

    Parameters
    ----------
    models : names as in OpenCLIP's registry, `<architecture>--<tag>`; others are unknown.
    draws, seed : of the intervals.
    """
    accuracy = published_accuracy(models)
    rank = average_ranks(accuracy)
    order = np.where(
        np.isfinite(rank), (-np.nan_to_num(rank)).argsort(kind="stable").argsort(kind="stable") + 1, np.nan
    )
    if np.isfinite(rank).sum() < 2:
        return Prior(tuple(models), accuracy, rank, order, None, ())
    records = shortlist_records(accuracy[np.isfinite(rank)])
    return Prior(tuple(models), accuracy, rank, order, answer_by(rank, accuracy, draws=draws, seed=seed), records)


def answer_by(score: np.ndarray, accuracy: np.ndarray, *, draws: int = 1000, seed: int = 0) -> TaskAnswer:
    """The answer for a new task by average published ranks `score` [M]; calibrated on `accuracy` [M, T]."""
    tasks = accuracy.shape[1]
    scores = np.vstack([without_own_task(accuracy), score])
    known = np.column_stack([accuracy, np.full(len(accuracy), np.nan)])
    how = replace(settings_for({"score": METHOD, "bootstrap": draws}, seed), default=METHOD)
    return answer_tasks(Tasks({METHOD: scores}, known, np.eye(tasks + 1, dtype=bool)), how, wanted=[tasks])[tasks]
