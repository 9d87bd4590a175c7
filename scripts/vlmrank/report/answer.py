"""The answer in plain words: which model, how sure, what it costs, from what, and what speaks against relying on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vlmrank import store
from vlmrank.report.collect import Model, Run, part_columns
from vlmrank.report.names import ordinal
from vlmrank.report.quality import Check, plural


@dataclass(frozen=True)
class Pick:
    """A model in the ranking of a target; ranks count from 1."""

    model: Model
    rank: int
    low: int | None
    high: int | None
    p_top5: float | None

    @property
    def interval(self) -> str:
        """The rank interval in words."""
        if self.low is None or self.high is None:
            return "unknown"
        return f"{self.low}" if self.low == self.high else f"{self.low} to {self.high}"


@dataclass(frozen=True)
class Answer:
    """What stands on the first screen for one target."""

    target: str
    ranked: int
    total: int
    images: int
    attributed: int
    sources: int
    pick: Pick | None
    second: Pick | None
    lighter: Pick | None
    rivals: int
    facts: Mapping[str, Any]
    checks: tuple[Check, ...]
    record: Mapping[str, Any] | None
    truth: Mapping[str, Any] | None


def cost_words(model: Model) -> str:
    """Parameters and operations of a model in words, empty where both are unknown."""
    parts = []
    if model.parameters:
        inside = f" ({_millions(model.image_parameters)} in the image tower)" if model.image_parameters else ""
        parts.append(f"{_millions(model.parameters)} parameters{inside}")
    if model.gflops:
        parts.append(f"{_digits(model.gflops)} GFLOPs an image")
    return " and ".join(parts)


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _millions(value: float) -> str:
    return f"{_digits(value / 1e6)} million" if value >= 1e6 else f"{value:,.0f}"


def bounds(low: float, high: float) -> tuple[int | None, int | None]:
    """A rank interval in whole ranks, rounded outwards.

    >>> bounds(1.98, 4.025), bounds(float("nan"), 3.0)
    ((1, 5), (None, None))
    """
    if pd.isna(low) or pd.isna(high):
        return None, None
    return math.floor(low), math.ceil(high)


def _picks(run: Run, target: str) -> list[Pick]:
    models = {model.name: model for model in run.models}
    table = run.rankings[target]
    table = table[(table["status"] != store.FAILED) & table["rank"].notna()].sort_values("rank", kind="stable")
    return [
        Pick(
            model=models[row.model],
            rank=int(row.rank),
            low=bounds(row.rank_low, row.rank_high)[0],
            high=bounds(row.rank_low, row.rank_high)[1],
            p_top5=float(row.p_top5) if pd.notna(row.p_top5) else None,
        )
        for row in table.itertuples()
    ]


def pooled_divergence(run: Run) -> np.ndarray:
    """Mean over models of their divergences [D, D] in the order of `run.datasets`; row = source, column = target."""
    names = [card["dataset"] for card in run.datasets]
    total, count = np.zeros((len(names),) * 2), np.zeros((len(names),) * 2)
    for divergences in run.divergences.values():
        matrix = reorder(divergences, names)
        known = np.isfinite(matrix)
        total[known] += matrix[known]
        count += known
    with np.errstate(invalid="ignore"):
        return total / np.where(count, count, np.nan)


def reorder(divergences: store.Divergences, names: list[str]) -> np.ndarray:
    """One model's divergences [D, D] in the order of `names`, nan where it has none."""
    place = {name: i for i, name in enumerate(divergences.datasets)}
    index = np.array([place.get(name, -1) for name in names])
    matrix = np.full((len(names),) * 2, np.nan)
    have = np.flatnonzero(index >= 0)
    matrix[np.ix_(have, have)] = divergences.dcd[np.ix_(index[have], index[have])]
    return matrix


def _cost(model: Model) -> float | None:
    return model.gflops or model.image_parameters or model.parameters


def _lighter(picks: list[Pick]) -> Pick | None:
    """The best-ranked model of at most half the first one's cost whose rank interval meets the first one's."""
    first = picks[0]
    cost = _cost(first.model)
    if cost is None or first.high is None:
        return None
    measure = "gflops" if first.model.gflops else "image_parameters" if first.model.image_parameters else "parameters"
    for pick in picks[1:]:
        other = getattr(pick.model, measure)
        if other is not None and other <= cost / 2 and pick.low is not None and pick.low <= first.high:
            return pick
    return None


def find_own_method(methods: list[str], preferred: str | None = None) -> str | None:
    """The name of our own method among those evaluated."""
    if preferred in methods:
        return preferred
    own = [m for m in methods if m == "vlmrank"] or sorted(m for m in methods if m.startswith("vlmrank"))
    return own[0] if own else None


def track_record(run: Run, preferred: str | None = None) -> dict[str, Any] | None:
    """How the method did on tasks whose answer is known: losses in points of accuracy, beside random choice."""
    if run.summary.empty:
        return None
    own = find_own_method(list(dict.fromkeys(run.summary["method"])), preferred)
    if own is None:
        return None
    found: dict[str, Any] = {"method": own, "tasks": int(run.metrics[run.metrics["method"] == own]["target"].nunique())}
    for name, key in (("loss", "regret_at_1"), ("loss5", "regret_at_5")):
        rows = run.summary[run.summary["metric"] == key].set_index("method")["mean"]
        if own in rows.index and pd.notna(rows[own]):
            found[name] = 100 * float(rows[own])
            if "random" in rows.index and pd.notna(rows["random"]):
                found[f"{name}_random"] = 100 * float(rows["random"])
    return found


def _record_of(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record that the verdict was judged by: each known task answered from the others."""
    if not facts.get("known_tasks") or facts.get("loss_known") is None:
        return None
    return {
        "method": facts["ranked_by"],
        "tasks": facts["known_tasks"],
        "loss": 100 * facts["loss_known"],
        "loss_random": 100 * facts["loss_random"],
        "hits": int(facts["known_in_top5"]),
    }


def image_counts(predicted: int, attributed: int) -> str:
    """How many images were looked at, and of how many the conductance was computed.

    >>> image_counts(128, 16), image_counts(16, 16)
    ('128 unlabelled images of the task (conductance of 16 of them)', '16 unlabelled images of the task')
    """
    part = f" (conductance of {attributed} of them)" if attributed < predicted else ""
    return f"{plural(predicted, 'unlabelled image')} of the task{part}"


def _images(target: str, images: int, attributed: int, *, seen: bool) -> Check:
    name = "Number of target images"
    if not seen:
        found = "No image of the task was looked at: the ranking follows the accuracies on the known tasks alone."
        return Check(name, 1, found, "A run with conductance adapts the ranking to the task.", target=target)
    return Check(
        name,
        3 if images < 4 else 2 if images < 8 else 0,
        f"Decided from {image_counts(images, attributed)}.",
        "Add images; 16 to 64 are enough." if images < 8 else "",
        target=target,
    )


def _evidence(
    run: Run, target: str, picks: list[Pick], images: tuple[int, int], near: np.ndarray, record: Any
) -> list[Check]:
    """The checks that concern one target."""
    sources = len(run.sources)
    checks = [
        Check(
            "Number of known tasks",
            3 if sources < 3 else 2 if sources < 6 else 0,
            f"Decided from {plural(sources, 'source task')}.",
            "With few sources the nearest one may still be unlike the task; add datasets with known accuracies."
            if sources < 6
            else "",
            target=target,
        ),
        _images(target, *images, seen=bool(run.quality)),
    ]
    if picks and picks[0].high is not None and len(picks) > 1:
        width = picks[0].high - picks[0].low + 1
        wide = width / len(picks)
        checks.append(
            Check(
                "Width of the first model's interval",
                2 if wide > 0.5 and width > 2 else 1 if wide > 0.25 and width > 2 else 0,
                f"Its likely rank is {picks[0].interval} of {len(picks)}.",
                "Other images or sources would have put another model first; test the first few on labelled images."
                if wide > 0.25 and width > 2
                else "",
                target=target,
            )
        )
    names = [card["dataset"] for card in run.datasets]
    if np.isfinite(near).any() and target in names:
        place = [i for i, name in enumerate(names) if name in run.sources]
        own = near[place, names.index(target)]
        among = near[np.ix_(place, place)].copy()
        np.fill_diagonal(among, np.nan)
        best = [np.nanmin(column) for column in among.T if np.isfinite(column).any()]
        if np.isfinite(own).any() and best:
            nearest = float(np.nanmin(own))
            farther = float(np.mean([value >= nearest for value in best]))
            far = nearest > max(best)
            checks.append(
                Check(
                    "Distance to the known tasks",
                    2 if far else 1 if farther < 0.1 else 0,
                    f"The nearest source leaves {nearest:.2f} of the target uncovered; among the sources themselves "
                    f"this is {min(best):.2f} to {max(best):.2f}.",
                    "The task is unlike every known one: the ranking extrapolates. Add a source that resembles it."
                    if far
                    else "",
                    target=target,
                )
            )
    if record is None:
        checks.append(
            Check(
                "Held-out evaluation",
                1,
                "None: nothing is known of how well the method does on this zoo.",
                target=target,
            )
        )
    elif "loss_random" in record:
        worse = record["loss"] >= record["loss_random"]
        checks.append(
            Check(
                "Held-out evaluation",
                2 if worse else 1 if record["tasks"] < 5 else 0,
                f"On {plural(record['tasks'], 'task')} with known answer the first model lost "
                f"{record['loss']:.1f} points, a random one {record['loss_random']:.1f}.",
                "On this zoo the method is no better than chance." if worse else "",
                target=target,
            )
        )
    checks += _class_names(run, target, known=record is not None)
    return checks


def _class_names(run: Run, target: str, *, known: bool) -> list[Check]:
    """What class names would add, for a target without any whose images were looked at."""
    card = next((card for card in run.datasets if card["dataset"] == target), {})
    if card.get("classes") or not run.quality or card.get("status") == store.FAILED:
        return []
    other = " The record on known tasks was measured with class names." if known else ""
    return [
        Check(
            "Class names",
            1,
            f"The task has none: models are compared by what their image towers do, not by what they predict.{other}",
            "With a file of class names (column classes of the datasets sheet) predictions on them count as well.",
            target=target,
        )
    ]


def answer(run: Run, target: str, checks: list[Check], *, method: str | None = None) -> Answer:
    """The answer for one target; `checks` are those of the whole run."""
    picks = _picks(run, target)
    card = next((card for card in run.datasets if card["dataset"] == target), {})
    used = [pair for pair in run.quality if pair.dataset == target and pair.status == store.OK]
    drawn = len(card.get("images") or ()) if run.quality else 0
    images = max((pair.images for pair in used), default=drawn)
    attributed = max((pair.attributed for pair in used), default=drawn)
    near = pooled_divergence(run)
    facts = run.facts.get(target, {})
    record = _record_of(facts) or track_record(run, method)
    evidence = _evidence(run, target, picks, (images, attributed), near, record)
    truth = _truth(run, target, picks)
    if truth is not None:
        evidence.append(_known_answer(target, truth))
    first = picks[0] if picks else None
    rivals = 0
    if first is not None and first.high is not None:
        rivals = sum(pick.low is not None and pick.low <= first.high for pick in picks[1:])
    return Answer(
        target=target,
        ranked=len(picks),
        total=len(run.rankings[target]),
        images=images,
        attributed=attributed,
        sources=len(run.sources),
        pick=first,
        second=picks[1] if len(picks) > 1 else None,
        lighter=_lighter(picks) if picks else None,
        rivals=rivals,
        facts=facts,
        checks=tuple(evidence),
        record=record,
        truth=truth,
    )


def known_accuracy(run: Run, target: str) -> dict[str, float]:
    """Model -> accuracy on the target, where this run holds it; the ranking never uses it."""
    rows = run.accuracy[(run.accuracy["dataset"] == target) & run.accuracy["acc1"].notna()]
    return dict(zip(rows["model"], rows["acc1"].astype(float), strict=True))


def _truth(run: Run, target: str, picks: list[Pick]) -> dict[str, Any] | None:
    """How the first model really does among those ranked, where the target's accuracies are known."""
    known = known_accuracy(run, target)
    ranked = [pick.model for pick in picks if pick.model.name in known]
    if len(ranked) < 2 or picks[0].model.name not in known:
        return None
    own = known[picks[0].model.name]
    best = max(ranked, key=lambda model: known[model.name])
    place = sum(known[model.name] > own for model in ranked) + 1
    return {"own": own, "best": known[best.name], "label": best.label, "place": ordinal(place), "count": len(ranked)}


def _known_answer(target: str, truth: Mapping[str, Any]) -> Check:
    lost = 100 * (truth["best"] - truth["own"])
    return Check(
        "Known answer",
        2 if lost > 5 else 1 if lost > 2 else 0,
        f"By the accuracies that this run holds for the task, the first model is {truth['place']} of {truth['count']} "
        f"and loses {lost:.1f} points to the best.",
        f"Where accuracies are known, trust them: {truth['label']} is the best." if lost > 2 else "",
        target=target,
    )


def because(run: Run, found: Answer) -> str:
    """Why the first model stands where it does: its weightiest known tasks, and the parts of its score."""
    if found.pick is None:
        return ""
    name = found.pick.model.name
    weights = run.weights[found.target]
    weights = weights[(weights["model"] == name) & (weights["weight"] > 0)].sort_values("weight", ascending=False)
    known = run.accuracy[run.accuracy["acc1"].notna()]
    parts = []
    for row in weights.head(3).itertuples():
        there = known[known["dataset"] == row.source]
        own = there.loc[there["model"] == name, "acc1"]
        if own.empty:
            continue
        rank = int((there["acc1"] > own.iloc[0]).sum()) + 1
        parts.append(f"{row.source} ({ordinal(rank)} of {len(there)}, {row.weight:.0%} of the weight)")
    sentences = []
    if parts:
        sentences.append(
            f"Its places on the known tasks that look most like this one from inside the model: {'; '.join(parts)}."
        )
    table = run.rankings[found.target]
    columns = part_columns(table)
    if len(columns) > 1:
        ranked = table[table["rank"].notna()]
        own = ranked[ranked["model"] == name].iloc[0]
        places = {column: ordinal(int((ranked[column] > own[column]).sum()) + 1) for column in columns}
        shares = [
            f"{own[column]:+.2f} from {title} ({places[column]} of {len(ranked)})" for column, title in columns.items()
        ]
        sentences.append(f"Its score of {own['score']:.2f} is {' and '.join(shares)}.")
    return " ".join(sentences)
