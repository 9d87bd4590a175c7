"""The first screen of the report for one target: the model to take, its cost, and how sure the answer is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vlmrank import store
from vlmrank.report.collect import Model, Run, part_columns
from vlmrank.report.picks import Pick, picks_of
from vlmrank.report.quality import Check
from vlmrank.report.target_checks import known_answer, target_checks
from vlmrank.text import ordinal


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
        parts.append(f"{_digits(model.gflops)} GFLOPs per image")
    return " and ".join(parts)


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _millions(value: float) -> str:
    return f"{_digits(value / 1e6)} million" if value >= 1e6 else f"{value:,.0f}"


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


def answer(run: Run, target: str, checks: list[Check], *, method: str | None = None) -> Answer:
    """The answer for one target; `checks` are those of the whole run."""
    picks = picks_of(run, target)
    card = next((card for card in run.datasets if card["dataset"] == target), {})
    used = [pair for pair in run.quality if pair.dataset == target and pair.status == store.OK]
    drawn = len(card.get("images") or ()) if run.quality else 0
    images = max((pair.images for pair in used), default=drawn)
    attributed = max((pair.attributed for pair in used), default=drawn)
    facts = run.facts.get(target, {})
    record = _record_of(facts) or track_record(run, method)
    evidence = target_checks(run, target, picks, (images, attributed), record)
    truth = _truth(run, target, picks)
    if truth is not None:
        evidence.append(known_answer(target, truth))
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
