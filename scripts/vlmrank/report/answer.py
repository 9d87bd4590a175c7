"""The first screen of the report for one target: the model to take, its cost, and how sure the answer is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vlmrank import store
from vlmrank.report.collect import Model, Run, part_columns
from vlmrank.report.images import Guesses
from vlmrank.report.picks import Pick, picks_of
from vlmrank.report.quality import Check
from vlmrank.report.record import record_of, track_record
from vlmrank.report.target_checks import known_answer, target_checks
from vlmrank.text import ordinal, plural

SHORTLIST = 5


@dataclass(frozen=True)
class Answer:
    """The contents of the first screen for one target."""

    target: str
    ranked: int
    total: int
    images: int
    attributed: int
    sources: int
    pick: Pick | None
    second: Pick | None
    lighter: Pick | None
    shortlist: tuple[Pick, ...]
    rivals: int
    facts: Mapping[str, Any]
    checks: tuple[Check, ...]
    record: Mapping[str, Any] | None
    truth: Mapping[str, Any] | None
    because: str
    difference: str


def _measure(*models: Model) -> str | None:
    """The first measure of cost that is known for all these models."""
    return next(
        (m for m in ("gflops", "image_parameters", "parameters") if all(getattr(one, m) for one in models)), None
    )


def _lighter(picks: list[Pick]) -> Pick | None:
    """The best-ranked model of at most half the first one's cost whose rank interval meets the first one's."""
    first = picks[0]
    if first.high is None:
        return None
    for pick in picks[1:]:
        measure = _measure(first.model, pick.model)
        if measure is None or pick.low is None or pick.low > first.high:
            continue
        if getattr(pick.model, measure) <= getattr(first.model, measure) / 2:
            return pick
    return None


def difference(first: Pick, second: Pick, guesses: Guesses, *, expected: bool = True) -> str:
    """How the runner-up differs: expected accuracy if the run claims one, cost, number of disagreements."""
    parts = []
    if expected and first.accuracy is not None and second.accuracy is not None:
        lower = 100 * (first.accuracy - second.accuracy)
        about = f"{abs(lower):.1f} points {'lower' if lower > 0 else 'higher'}"
        parts.append(f"expected accuracy {about if abs(lower) >= 0.05 else 'the same'}")
    measure = _measure(first.model, second.model)
    if measure is not None:
        ratio = getattr(second.model, measure) / getattr(first.model, measure)
        what = "operations per image" if measure == "gflops" else "parameters"
        parts.append(f"as many {what}" if 0.95 < ratio < 1.05 else f"{ratio:.2g} times the {what}")
    names = list(guesses.models)
    if first.model.name in names and second.model.name in names:
        count = guesses.disagreements(names.index(first.model.name), names.index(second.model.name))
        parts.append(f"the two disagree on {count:,} of {plural(len(guesses.images), 'image')}")
    return ", ".join(parts)


def answer(run: Run, target: str, *, guesses: Guesses | None = None, method: str | None = None) -> Answer:
    """The answer for one target; `guesses` are the best models' predictions, `method` is the ranking's method."""
    picks = picks_of(run, target)
    card = next((card for card in run.datasets if card["dataset"] == target), {})
    used = [pair for pair in run.quality if pair.dataset == target and pair.status == store.OK]
    drawn = len(card.get("images") or ()) if run.quality else 0
    images = max((pair.images for pair in used), default=drawn)
    facts = run.facts.get(target, {})
    record = record_of(facts) or track_record(run, method)
    first, second = (*picks, None, None)[:2]
    interval = (first.low, first.high) if first else (None, None)
    checks = target_checks(run, target, interval=interval, ranked=len(picks), images=images, record=record)
    truth = _truth(run, target, picks)
    if truth is not None:
        checks.append(known_answer(target, truth))
    rivals = 0
    if first is not None and first.high is not None:
        rivals = sum(pick.low is not None and pick.low <= first.high for pick in picks[1:])
    return Answer(
        target=target,
        ranked=len(picks),
        total=len(run.rankings[target]),
        images=images,
        attributed=max((pair.attributed for pair in used), default=drawn),
        sources=len(run.sources),
        pick=first,
        second=second,
        lighter=_lighter(picks) if picks else None,
        shortlist=tuple(picks[:SHORTLIST]),
        rivals=rivals,
        facts=facts,
        checks=tuple(checks),
        record=record,
        truth=truth,
        because=_because(run, target, first),
        difference=difference(first, second, guesses or Guesses(), expected=facts.get("accuracy") is not None)
        if second
        else "",
    )


def known_accuracy(run: Run, target: str) -> dict[str, float]:
    """Model -> accuracy on the target, if this run knows it; the ranking never uses it."""
    rows = run.accuracy[(run.accuracy["dataset"] == target) & run.accuracy["acc1"].notna()]
    return dict(zip(rows["model"], rows["acc1"].astype(float), strict=True))


def _truth(run: Run, target: str, picks: list[Pick]) -> dict[str, Any] | None:
    """The first model's true standing among those ranked, if the target's accuracies are known."""
    known = known_accuracy(run, target)
    ranked = [pick.model.name for pick in picks if pick.model.name in known]
    if len(ranked) < 2 or picks[0].model.name not in known:
        return None
    own = known[picks[0].model.name]
    best = max(ranked, key=lambda name: known[name])
    place = sum(known[name] > own for name in ranked) + 1
    return {"own": own, "best": known[best], "name": best, "place": ordinal(place), "count": len(ranked)}


def _because(run: Run, target: str, pick: Pick | None) -> str:
    """Why the first model is ranked first: the known tasks with the largest weights, and the parts of its score."""
    if pick is None:
        return ""
    name = pick.model.name
    weights = run.weights[target]
    weights = weights[(weights["model"] == name) & (weights["weight"] > 0)].sort_values("weight", ascending=False)
    known = run.accuracy[run.accuracy["acc1"].notna()]
    parts = []
    for row in weights.head(3).itertuples():
        there = known[known["dataset"] == row.source]
        own = there.loc[there["model"] == name, "acc1"]
        if own.empty:
            continue
        place = ordinal(int((there["acc1"] > own.iloc[0]).sum()) + 1)
        parts.append(f"on {row.source} it is {place} of {len(there)} (this counts {row.weight:.0%})")
    sentences = []
    if parts:
        sentences.append(f"On the known tasks that look most like this one from inside the model: {'; '.join(parts)}.")
    table = run.rankings[target]
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
