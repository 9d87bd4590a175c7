"""The ranking so far: by published accuracy, then by the predictions of the models tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from vlmrank.answer.tables import answer_facts, ranking_rows, settings_for
from vlmrank.answer.tasks import TaskAnswer, Tasks, answer_tasks
from vlmrank.baselines.base import known_mean
from vlmrank.errors import FAILED, UNTRIED
from vlmrank.predictions import align_logits, committee_agreement
from vlmrank.published.shipped import METHOD, TITLE, Prior, answer_by
from vlmrank.store import Pair
from vlmrank.text import ordinal

AGREEMENT, AGREEMENT_TITLE = "agreement", "agreement with the committee"
FEWEST = 3  # fewest models for comparing predictions
UNKNOWN = "no published accuracy"


@dataclass(frozen=True)
class Standing:
    """The current ranking.

    Attributes
    ----------
    table : one row per model, best first, as from `vlmrank.answer.tables.ranking_rows`, with a column `published`: the
        place by published accuracy.
    facts : of the answer, as from `vlmrank.answer.tables.answer_facts`.
    """

    table: pd.DataFrame
    facts: Mapping[str, Any]


def by_published_accuracy(
    prior: Prior, failed: Mapping[str, str], untried: Mapping[str, str] | None = None
) -> Standing:
    """The ranking without predictions; models without a published accuracy come last and say so.

    Parameters
    ----------
    prior : of all candidates.
    failed : model -> why it cannot be used.
    untried : model -> why it was not tried; it keeps its rank.
    """
    untried = untried or {}
    fine = np.array([name not in failed for name in prior.models], dtype=bool)
    score = np.where(fine, prior.rank, np.nan)
    if fine.all() and prior.answer is not None:
        answer = prior.answer
    elif np.isfinite(score).sum() > 1:
        answer = answer_by(score, np.where(fine[:, None], prior.accuracy, np.nan))
    else:
        answer = _answer_of(METHOD, score, np.empty((len(score), 0)))
    why = [failed.get(name) or untried.get(name) or f"{UNKNOWN}, and not tried yet" for name in prior.models]
    table = ranking_rows(answer, prior.models, reasons=why)
    table.loc[(table["status"] == FAILED) & ~table["model"].isin(list(failed)), "status"] = UNTRIED
    table["reason"] = [row.reason or untried.get(row.model, "") for row in table.itertuples()]
    return Standing(_with_places(table, prior), answer_facts(answer, prior.models, title=TITLE))


def by_predictions(
    prior: Prior, pairs: Mapping[str, Pair], *, failed: Mapping[str, str], untried: Mapping[str, str], seed: int = 0
) -> Standing:
    """The ranking of the models that were tried, by how well each agrees with the committee of the others.

    Votes are weighted by average published rank. With fewer than three models there is no committee, and published
    accuracies rank.

    Parameters
    ----------
    prior : of all candidates.
    pairs : model -> its predictions.
    failed : model -> why it could not be used.
    untried : model -> why it was not tried.
    """
    index = [place for place, name in enumerate(prior.models) if name in pairs]
    tried = [prior.models[place] for place in index]
    logits = align_logits([pairs[name].logits for name in tried], [pairs[name].predicted_id for name in tried])
    if sum(values is not None for values in logits) < FEWEST:
        return by_published_accuracy(prior, failed, untried)
    rank = prior.rank[index]
    score = known_mean(committee_agreement(logits, rank if np.isfinite(rank).any() else np.zeros(len(rank))))
    answer = _answer_of(AGREEMENT, score, prior.accuracy[index], seed=seed)
    table = ranking_rows(answer, tried, reasons="its predictions could not be compared with those of the others")
    table = pd.concat([table, _rows(prior, failed, FAILED)]) if failed else table
    facts = answer_facts(answer, tried, title=AGREEMENT_TITLE)
    return Standing(with_untried(table, prior, untried), facts)


def with_untried(table: pd.DataFrame, prior: Prior, untried: Mapping[str, str]) -> pd.DataFrame:
    """A ranking with a row for every model that was not tried, and with `published`."""
    there = set(table["model"])
    rest = {name: untried.get(name, "not tried yet") for name in _by_place(prior) if name not in there}
    return _with_places(pd.concat([table, _rows(prior, rest, UNTRIED)]) if rest else table, prior)


def _rows(prior: Prior, reasons: Mapping[str, str], status: str) -> pd.DataFrame:
    rest = [name for name in _by_place(prior) if name in reasons]
    return pd.DataFrame({"model": rest, "status": status, "reason": [reasons[name] for name in rest]})


def reason_untried(prior: Prior, model: str, why: str) -> str:
    """Why a model of the shortlist was not tried, followed by its place."""
    place = prior.place[prior.models.index(model)]
    return f"not tried: {why} ({ordinal(int(place))} by published accuracy)" if place == place else f"not tried: {why}"


def _answer_of(method: str, score: np.ndarray, accuracy: np.ndarray, *, seed: int = 0) -> TaskAnswer:
    """The answer for a new task by one score [M]; expected accuracies come from the tasks of `accuracy` [M, T]."""
    tasks = accuracy.shape[1]
    scores = np.vstack([np.full((tasks, len(score)), np.nan), score])
    known = np.column_stack([accuracy, np.full(len(accuracy), np.nan)])
    how = replace(settings_for({"score": method, "bootstrap": 1000}, seed), default=method)
    return answer_tasks(Tasks({method: scores}, known, np.eye(tasks + 1, dtype=bool)), how, wanted=[tasks])[tasks]


def _by_place(prior: Prior) -> Sequence[str]:
    order = np.argsort(np.where(np.isfinite(prior.place), prior.place, np.inf), kind="stable")
    return [prior.models[one] for one in order]


def _with_places(table: pd.DataFrame, prior: Prior) -> pd.DataFrame:
    places = dict(zip(prior.models, prior.place, strict=True))
    return table.assign(published=[places[name] for name in table["model"]]).reset_index(drop=True)
