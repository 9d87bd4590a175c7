"""Answer every task of a run: choose the method, calibrate ranks, estimate accuracy and loss, give the verdict.

Everything is learned from the run's other tasks with known accuracies, siblings left out, and from the benchmark's
prior. The same function answers known tasks, each left out in turn, so that claims can be compared with outcomes. T
tasks, M models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import logit
from scipy.stats import rankdata

from vlmrank.answer.calibration import Noise, RankAnswer, draw_ranks, fit_noise, rank_statements
from vlmrank.answer.choice import Choice, choose_method
from vlmrank.answer.expectation import EDGE, Expectation, draw_accuracies, expect, level_shifts
from vlmrank.answer.prior import NOISE
from vlmrank.answer.verdict import Verdict, verdict
from vlmrank.metrics import ndcg_at_k_score

ANCHOR = "dawid_skene"  # its accuracies, estimated without labels, show how hard a task is
TOP = 5
LOSS_TASKS = 5.0  # weight of the claimed loss, in tasks, when losses are scaled to those observed


@dataclass(frozen=True)
class Tasks:
    """Scores and accuracies of a run's tasks.

    Attributes
    ----------
    scores : method -> float64 [T, M], each made without the task's own accuracies; nan = no score.
    accuracy : float64 [M, T], nan = unknown.
    siblings : bool [T, T], tasks that are never used for each other; the diagonal counts as True.
    """

    scores: Mapping[str, np.ndarray]
    accuracy: np.ndarray
    siblings: np.ndarray

    def known_for(self, task: int) -> np.ndarray:
        """Indices of the tasks with at least three known accuracies that may be used for `task`."""
        enough = np.isfinite(self.accuracy).sum(axis=0) >= 3
        return np.flatnonzero(enough & ~self.siblings[task] & (np.arange(len(enough)) != task))

    def anchors(self) -> np.ndarray:
        """[T] logit of the mean accuracy that the predictions suggest; nan without predictions."""
        found = self.scores.get(ANCHOR)
        if found is None:
            return np.full(self.accuracy.shape[1], np.nan)
        known = np.isfinite(found)
        mean = np.where(known, found, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        return np.where(known.any(axis=1), logit(np.clip(mean, EDGE, 1 - EDGE)), np.nan)


@dataclass(frozen=True)
class Settings:
    """How tasks are answered.

    Attributes
    ----------
    default : the method that ranks unless the known tasks say otherwise.
    gains : method -> its mean gain in NDCG@5 over the default on the benchmark's choosing tasks.
    fixed : a method to use regardless of the known tasks; None: choose.
    noise : the prior of the noise.
    level : of the intervals.
    draws : number of draws.
    seed : of the draws.
    """

    default: str
    gains: Mapping[str, float] = field(default_factory=dict)
    fixed: str | None = None
    noise: Noise = NOISE
    level: float = 0.9
    draws: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class TaskAnswer:
    """The answer for one task; arrays are [M].

    Attributes
    ----------
    choice : the method and the evidence for it.
    score : sorts the models, higher is better; nan = no score.
    noise : how the score relates to the truth.
    ranks : calibrated intervals and chances.
    expected : accuracies and losses.
    pick : index of the first model; -1 if none has a score.
    known : number of known tasks.
    hits : number of them on which the method's first pick was among the five best.
    loss_known, loss_random : mean loss of the first pick and of a random model on them; nan without any.
    verdict : from these numbers.
    labels : number of labelled images of the task that were used.
    drawn : float64 [D, M], the drawn accuracies behind them; None if no accuracy is known.
    loss_factor : factor applied to drawn losses, from the known tasks.
    """

    choice: Choice
    score: np.ndarray
    noise: Noise
    ranks: RankAnswer
    expected: Expectation
    pick: int
    known: int
    hits: float
    loss_known: float
    loss_random: float
    verdict: Verdict
    labels: int = 0
    drawn: np.ndarray | None = None
    loss_factor: float = 1.0


def method_quality(tasks: Tasks) -> dict[str, np.ndarray]:
    """Method -> NDCG@5 on each task [T]; nan if fewer than three accuracies are known or nothing was scored."""
    enough = np.isfinite(tasks.accuracy).sum(axis=0) >= 3
    found = {}
    for name, scores in tasks.scores.items():
        values = np.full(len(enough), np.nan)
        for task in np.flatnonzero(enough & np.isfinite(scores).any(axis=1)):
            values[task] = ndcg_at_k_score(truth=tasks.accuracy[:, task], score=scores[task], k=TOP)
        found[name] = values
    return found


def _chosen(tasks: Tasks, task: int, known: np.ndarray, quality: Mapping[str, np.ndarray], how: Settings) -> Choice:
    scored = {name for name, scores in tasks.scores.items() if np.isfinite(scores[task]).any()}
    if how.fixed is not None and how.fixed in scored:
        return Choice(how.fixed, {how.fixed: 0.0}, len(known))
    usable = {name: values[known] for name, values in quality.items() if name in scored}
    return choose_method(usable, how.gains, default=how.default)


@dataclass(frozen=True)
class _Draft:
    """An answer before its expected loss is scaled to losses observed on the other tasks."""

    choice: Choice
    score: np.ndarray
    known: np.ndarray
    noise: Noise
    ranks: RankAnswer
    drawn: np.ndarray | None
    claimed: float
    pick: int


def _draft(tasks: Tasks, task: int, quality: Mapping[str, np.ndarray], anchors: np.ndarray, how: Settings) -> _Draft:
    known = tasks.known_for(task)
    choice = _chosen(tasks, task, known, quality, how)
    models = tasks.accuracy.shape[0]
    scores = tasks.scores.get(choice.method)
    score = np.full(models, np.nan) if scores is None else scores[task]
    noise = fit_noise([] if scores is None else scores[known], tasks.accuracy[:, known].T, prior=how.noise)
    ranks = draw_ranks(noise, score, draws=how.draws, seed=how.seed)
    said = rank_statements(ranks, level=how.level, top=TOP)
    pick = int(np.nanargmax(score)) if np.isfinite(score).any() else -1
    if pick < 0 or not len(known):
        return _Draft(choice, score, known, noise, said, None, np.nan, pick)
    levels = np.array([np.nanmean(logit(np.clip(tasks.accuracy[:, one], EDGE, 1 - EDGE))) for one in known])
    shifts = level_shifts(levels, anchors[known], anchors[task])
    drawn = draw_accuracies(ranks, tasks.accuracy[:, known].T, shifts=shifts, seed=how.seed)
    scored = np.isfinite(score)
    claimed = float((drawn[:, scored].max(axis=1) - drawn[:, pick]).mean())
    return _Draft(choice, score, known, noise, said, drawn, claimed, pick)


def answer_tasks(tasks: Tasks, how: Settings, *, wanted: Sequence[int] | None = None) -> dict[int, TaskAnswer]:
    """Answer tasks, each from the other known ones.

    Parameters
    ----------
    tasks : of the run.
    how : settings.
    wanted : indices of the tasks to answer; all by default.
    """
    quality, anchors = method_quality(tasks), tasks.anchors()
    count = tasks.accuracy.shape[1]
    wanted = range(count) if wanted is None else list(wanted)
    needed = sorted({*wanted, *(int(one) for task in wanted for one in tasks.known_for(task))})
    drafts = {task: _draft(tasks, task, quality, anchors, how) for task in needed}
    return {task: _finish(tasks, task, drafts, how) for task in wanted}


def first_pick(score: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Outcome of the first pick among the models of known accuracy.

    Returns
    -------
    loss : accuracy lost against the best; random_loss : the same for a random model; hit : 1 if the pick is among the
        five best, else 0. All nan if no such model has a score.
    """
    usable = np.where(np.isfinite(truth), score, np.nan)
    if not np.isfinite(usable).any():
        return np.nan, np.nan, np.nan
    own, best = truth[int(np.nanargmax(usable))], np.nanmax(truth)
    return float(best - own), float(best - np.nanmean(truth)), float((truth > own).sum() < TOP)


def _loss_factor(drafts: Mapping[int, _Draft], known: np.ndarray, outcomes: np.ndarray) -> float:
    """Ratio of observed to claimed losses on the known tasks, shrunk towards 1 by `LOSS_TASKS`."""
    claimed = np.array([drafts[int(one)].claimed for one in known])
    both = np.isfinite(claimed) & np.isfinite(outcomes)
    if not both.any():
        return 1.0
    weight = LOSS_TASKS * claimed[both].mean()
    return float((weight + outcomes[both].sum()) / (weight + claimed[both].sum()))


def _finish(tasks: Tasks, task: int, drafts: Mapping[int, _Draft], how: Settings) -> TaskAnswer:
    draft = drafts[task]
    models = len(draft.score)
    outcomes = np.array([first_pick(drafts[int(one)].score, tasks.accuracy[:, one]) for one in draft.known])
    outcomes = outcomes.reshape(-1, 3)
    scored = np.isfinite(outcomes[:, 0])
    loss_known, loss_random = (
        (float(column[scored].mean()) if scored.any() else np.nan) for column in outcomes[:, :2].T
    )
    factor = _loss_factor(drafts, draft.known, outcomes[:, 0])
    nothing = np.full(models, np.nan)
    expected = Expectation(*[nothing] * 6)
    if draft.drawn is not None:
        expected = expect(draft.drawn, level=how.level, loss_factor=factor)
    found = TaskAnswer(
        choice=draft.choice,
        score=draft.score,
        noise=draft.noise,
        ranks=draft.ranks,
        expected=expected,
        pick=draft.pick,
        known=int(scored.sum()),
        hits=float(outcomes[scored, 2].sum()),
        loss_known=loss_known,
        loss_random=loss_random,
        verdict=Verdict("none", "No model could be scored."),
        drawn=draft.drawn,
        loss_factor=factor,
    )
    return replace(found, verdict=judged(found))


def judged(answer: TaskAnswer) -> Verdict:
    """The verdict that follows from an answer's own numbers."""
    if answer.pick < 0:
        return Verdict("none", "No model could be scored.")
    return verdict(
        loss=float(answer.expected.loss[answer.pick]),
        p_top5=float(answer.ranks.p_top[answer.pick]),
        known_tasks=answer.known,
        loss_known=answer.loss_known,
        loss_random=answer.loss_random,
        chance_top5=min(1.0, TOP / max(int(np.isfinite(answer.score).sum()), 1)),
        labels=answer.labels,
    )


def with_labels(answer: TaskAnswer, drawn: np.ndarray, labels: int, how: Settings) -> TaskAnswer:
    """The answer after some of the task's images were labelled: models are sorted by their expected accuracy.

    Parameters
    ----------
    drawn : float64 [D, M], drawn accuracies after the labels (`label_update.update_draws`), their losses calibrated.
    labels : number of labels.
    how : settings, as before.
    """
    there = np.isfinite(drawn).all(axis=0)
    ranks = np.full(drawn.shape, np.nan)
    ranks[:, there] = rankdata(-drawn[:, there], axis=1)
    expected = expect(drawn, level=how.level)
    found = replace(
        answer,
        score=expected.accuracy,
        ranks=rank_statements(ranks, level=how.level, top=TOP),
        expected=expected,
        pick=int(np.nanargmax(expected.accuracy)),
        labels=labels,
        drawn=drawn,
        loss_factor=1.0,
    )
    return replace(found, verdict=judged(found))
