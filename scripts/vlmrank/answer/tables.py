"""Write an answer as result files: the ranking table and the facts behind the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from vlmrank.answer.label_step import LabelStep
from vlmrank.answer.labels import Labels
from vlmrank.answer.prior import DEFAULT, GAINS, NOISE
from vlmrank.answer.tasks import Settings, TaskAnswer, Tasks
from vlmrank.baselines import all_methods
from vlmrank.baselines.base import Method
from vlmrank.errors import UNTRIED, VlmrankError
from vlmrank.evaluation.scores import Scores
from vlmrank.ranking import NO_ACCURACY, tied_ranks
from vlmrank.store import FAILED, OK
from vlmrank.text import nearest, plural

PART = "part: "  # prefix of the columns with the parts of the score


def check_method(name: str) -> None:
    """Refuse a `ranking: score` that cannot be used to rank.

    Raises
    ------
    VlmrankError : no such method, or one that sees labels or the truth.
    """
    found = {one.name: one for one in all_methods()}
    if name not in found:
        raise VlmrankError(f"ranking.score: there is no method {name!r}. {nearest(name, ['auto', *found])}".rstrip())
    if not found[name].needs_no_labels:
        raise VlmrankError(f"ranking.score: {name} sees labels of the target, which a ranking has not")


def settings_for(options: Mapping[str, Any], seed: int) -> Settings:
    """Settings from the configuration's `ranking`: `score` (auto or a method) and `bootstrap` (number of draws)."""
    fixed = None if options["score"] == "auto" else options["score"]
    return Settings(default=DEFAULT, gains=GAINS, fixed=fixed, noise=NOISE, draws=options["bootstrap"], seed=seed)


def tasks_of(scores: Scores, methods: Sequence[Method], groups: Mapping[str, str]) -> Tasks:
    """The tasks of an evaluation, with the methods that may rank: no controls, none that sees labels or truth.

    Parameters
    ----------
    scores : of an evaluation.
    methods : those that were evaluated.
    groups : dataset -> group of siblings, if it has one.
    """
    allowed = [
        one.name for one in methods if one.needs_no_labels and one.group != "control" and one.name in scores.values
    ]
    group = np.array([groups.get(name) or f"only {name}" for name in scores.datasets])
    values = {}
    for name in allowed:
        tries = scores.values[name]
        known = np.isfinite(tries)
        mean = np.where(known, tries, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        values[name] = np.where(known.any(axis=0), mean, np.nan).T
    return Tasks(values, scores.truth, group[:, None] == group[None, :])


def ranking_rows(
    answer: TaskAnswer,
    models: Sequence[str],
    *,
    reasons: str | Sequence[str] = NO_ACCURACY,
    parts: Mapping[str, np.ndarray] | None = None,
) -> pd.DataFrame:
    """The ranking as a table, one row per model, best first; models without a score come last, with the reason.

    Parameters
    ----------
    answer : of the target.
    models : M names.
    reasons : why a model has no score.
    parts : title -> [M], whose sum is the score; default the score itself.

    Returns
    -------
    rank (ties averaged), model, score, rank_low, rank_high, p_top5, accuracy, accuracy_low, accuracy_high, loss,
    ranked_by, status, reason, and one column `part: <title>` per part.
    """
    score, expected = answer.score, answer.expected
    known = np.isfinite(score)
    table = pd.DataFrame(
        {
            "rank": tied_ranks(-score),
            "model": models,
            "score": score,
            "rank_low": answer.ranks.low,
            "rank_high": answer.ranks.high,
            "p_top5": answer.ranks.p_top,
            "accuracy": expected.accuracy,
            "accuracy_low": expected.accuracy_low,
            "accuracy_high": expected.accuracy_high,
            "loss": expected.loss,
            "ranked_by": answer.choice.method,
            "status": np.where(known, OK, FAILED),
            "reason": np.where(known, "", reasons),
        }
    )
    for title, values in (parts or {answer.choice.method: score}).items():
        table[PART + title] = values
    return table.sort_values("rank", kind="stable", na_position="last")


def with_untried(ranking: pd.DataFrame, reasons: Mapping[str, str]) -> pd.DataFrame:
    """A ranking with a row at the end for each untried model; `reasons`: model -> why it was not tried."""
    rows = pd.DataFrame({"model": list(reasons), "status": UNTRIED, "reason": list(reasons.values())})
    return pd.concat([ranking, rows], ignore_index=True) if reasons else ranking


def answer_facts(answer: TaskAnswer, models: Sequence[str], *, title: str, level: float = 0.9) -> dict[str, Any]:
    """Contents of the first screen as JSON values; unknown numbers are None."""
    pick = answer.pick
    numbers: dict[str, Any] = {"known_tasks": answer.known, "known_in_top5": answer.hits}
    numbers |= {"loss_known": answer.loss_known, "loss_random": answer.loss_random}
    if pick >= 0:
        numbers |= {
            "p_top5": answer.ranks.p_top[pick],
            "rank_low": answer.ranks.low[pick],
            "rank_high": answer.ranks.high[pick],
            "accuracy": answer.expected.accuracy[pick],
            "accuracy_low": answer.expected.accuracy_low[pick],
            "accuracy_high": answer.expected.accuracy_high[pick],
            "loss": answer.expected.loss[pick],
            "loss_low": answer.expected.loss_low[pick],
            "loss_high": answer.expected.loss_high[pick],
        }
    return {
        "model": models[pick] if pick >= 0 else None,
        "ranked_by": answer.choice.method,
        "title": title,
        "level": level,
        "verdict": answer.verdict.level,
        "reason": answer.verdict.reason,
        "gains": {name: round(gain, 6) for name, gain in answer.choice.expected.items()},
        **{name: None if math.isnan(value) else float(value) for name, value in numbers.items()},
    }


def step_facts(step: LabelStep, labels: Labels, models: Sequence[str]) -> dict[str, Any]:
    """What the first screen says about labels: number used, near ties, number to label next."""
    return {
        "labels": step.answer.labels,
        "labels_unsure": len(labels.unknown),
        "near_ties": [{"model": models[index], "p_best": round(p, 6)} for index, p in step.near_ties.items()],
        "to_label": len(step.ask),
        "to_label_reason": step.reason,
    }


def sentence(facts: Mapping[str, Any]) -> str:
    """The answer in one line: verdict, expected accuracy and loss, and how it did on the known tasks."""
    if facts["model"] is None:
        return "no model could be ranked"
    parts = [f"evidence: {facts['verdict']}"]
    if facts["accuracy_low"] is not None:
        parts.append(f"expect an accuracy of {facts['accuracy_low']:.2f} to {facts['accuracy_high']:.2f}")
        parts.append(f"{100 * facts['loss']:.1f} points below the best on average")
    if facts["known_tasks"]:
        hits, known = facts["known_in_top5"], facts["known_tasks"]
        parts.append(f"in {hits:.0f} of {known:.0f} known tasks the pick was in the top five")
    if facts.get("labels"):
        parts.append(f"{plural(facts['labels'], 'label')} used")
    if facts.get("to_label"):
        ties, images = len(facts["near_ties"]), plural(facts["to_label"], "image")
        parts.append(f"{ties} models could be the best, labels of {images} tell them apart: vlmrank label")
    return "; ".join(parts)
