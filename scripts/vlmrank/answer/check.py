"""Check the answers against tasks with known accuracies: coverage of the intervals, losses, verdicts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from vlmrank.answer.tasks import TOP, TaskAnswer, first_pick

BINS = 10
COLUMNS = ["quantity", "claimed", "seen", "cases", "low", "high"]


def statements(answers: Mapping[int, TaskAnswer], accuracy: np.ndarray) -> pd.DataFrame:
    """One row per task and model of known accuracy: the claims and the truth.

    Parameters
    ----------
    answers : task -> answer, made without the task's own accuracies.
    accuracy : [M, T], the truth.

    Returns
    -------
    task, model (indices), first (is it the pick), p_top5, in_top5, rank, rank_low, rank_high, covered, accuracy,
    accuracy_low, accuracy_high, expected_accuracy, loss_claimed, loss_seen (both of the pick alone).
    """
    parts = []
    for task, found in answers.items():
        truth = accuracy[:, task]
        known = np.isfinite(truth) & np.isfinite(found.score)
        if known.sum() < 3:
            continue
        rank = np.full(len(truth), np.nan)
        rank[known] = rankdata(-truth[known])
        pick = int(np.nanargmax(np.where(known, found.score, np.nan)))
        models = np.flatnonzero(known)
        inside = (rank >= np.floor(found.ranks.low)) & (rank <= np.ceil(found.ranks.high))
        part = pd.DataFrame(
            {
                "task": task,
                "model": models,
                "first": models == pick,
                "p_top5": found.ranks.p_top[models],
                "in_top5": rank[models] <= TOP,
                "rank": rank[models],
                "covered": inside[models],
                "accuracy": truth[models],
                "expected_accuracy": found.expected.accuracy[models],
                "accuracy_low": found.expected.accuracy_low[models],
                "accuracy_high": found.expected.accuracy_high[models],
                "loss_claimed": found.expected.loss[models],
            }
        )
        part["loss_seen"] = first_pick(found.score, truth)[0]
        parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _interval(table: pd.DataFrame, values: pd.Series, bootstrap: int, seed: int) -> tuple[float, float]:
    """95 % interval of a mean by resampling tasks."""
    sums = values.groupby(table["task"]).agg(["sum", "count"]).to_numpy(np.float64)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(bootstrap, len(sums)))
    total = sums[drawn].sum(axis=1)
    low, high = np.quantile(total[:, 0] / total[:, 1], [0.025, 0.975])
    return float(low), float(high)


def calibration_table(table: pd.DataFrame, *, level: float = 0.9, bootstrap: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Compare claims with outcomes.

    Parameters
    ----------
    table : from `statements`.
    level : nominal coverage of the intervals.
    bootstrap : number of resamples of the tasks, for low and high.
    seed : of the resamples.

    Returns
    -------
    quantity, claimed, seen, cases, low, high (95 % interval of `seen`). Quantities: `p_top5` (one row per bin of the
    claim), `p_top5_first_pick`, `rank_interval`, `rank_interval_first_pick`, `accuracy_interval_first_pick`,
    `accuracy_first_pick`, `loss_first_pick`.
    """
    if table.empty:
        return pd.DataFrame(columns=COLUMNS)
    rows = []

    def row(quantity: str, part: pd.DataFrame, claimed: float, seen: pd.Series) -> None:
        known = part[seen.notna()]
        if len(known):
            values = seen.dropna().astype(float)
            limits = _interval(known, values, bootstrap, seed)
            rows.append((quantity, claimed, float(values.mean()), len(values), *limits))

    first = table[table["first"]]
    places = np.minimum((table["p_top5"] * BINS).astype(int), BINS - 1)
    for place in sorted(places.unique()):
        part = table[places == place]
        row("p_top5", part, float(part["p_top5"].mean()), part["in_top5"])
    row("p_top5_first_pick", first, float(first["p_top5"].mean()), first["in_top5"])
    row("rank_interval", table, level, table["covered"])
    row("rank_interval_first_pick", first, level, first["covered"])
    within = (first["accuracy"] >= first["accuracy_low"]) & (first["accuracy"] <= first["accuracy_high"])
    row("accuracy_interval_first_pick", first, level, within.where(first["accuracy_low"].notna()))
    row("accuracy_first_pick", first, float(first["expected_accuracy"].mean()), first["accuracy"])
    row("loss_first_pick", first, float(first["loss_claimed"].mean()), first["loss_seen"])
    return pd.DataFrame(rows, columns=COLUMNS)
