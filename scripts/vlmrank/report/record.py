"""The track record: how the choice did on known tasks, and how well its claims held."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from vlmrank.answer.tasks import first_pick
from vlmrank.evaluation.scores import Scores
from vlmrank.report.collect import Run
from vlmrank.report.names import method_label

# Simple alternatives: sort models by known facts, or by the confidence of their predictions.
SIMPLE = ("average_rank", "reference_accuracy", "biggest", "confidence", "entropy")
CLAIMS = {
    "rank_interval": "The true rank lay within the interval",
    "accuracy_interval_first_pick": "The accuracy of the first pick lay within its interval",
    "p_top5_first_pick": "The first pick was among the true five best",
}


def find_own_method(methods: list[str], preferred: str | None = None) -> str | None:
    """The name of our own method among those evaluated."""
    if preferred in methods:
        return preferred
    own = [m for m in methods if m == "vlmrank"] or sorted(m for m in methods if m.startswith("vlmrank"))
    return own[0] if own else None


def record_of(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record behind the verdict: each known task answered from the others; losses in points of accuracy."""
    if not facts.get("known_tasks") or facts.get("loss_known") is None:
        return None
    return {
        "method": facts["ranked_by"],
        "tasks": int(facts["known_tasks"]),
        "loss": 100 * facts["loss_known"],
        "loss_random": 100 * facts["loss_random"],
        "hits": int(facts["known_in_top5"]),
    }


def track_record(run: Run, preferred: str | None = None) -> dict[str, Any] | None:
    """How a method did on known tasks, for runs without an answer; losses in points of accuracy."""
    if run.summary.empty:
        return None
    own = find_own_method(list(dict.fromkeys(run.summary["method"])), preferred)
    if own is None:
        return None
    found: dict[str, Any] = {"method": own, "tasks": int(run.metrics[run.metrics["method"] == own]["target"].nunique())}
    rows = run.summary[run.summary["metric"] == "regret_at_1"].set_index("method")["mean"]
    if own not in rows.index or pd.isna(rows[own]):
        return None
    found["loss"] = 100 * float(rows[own])
    if "random" in rows.index and pd.notna(rows["random"]):
        found["loss_random"] = 100 * float(rows["random"])
    return found


def _outcomes(scores: Scores, method: str, tasks: np.ndarray) -> np.ndarray:
    """[tasks, 2] loss of a method's first pick and whether it was among the five best, means over its repetitions."""
    found = np.full((len(tasks), 2), np.nan)
    for row, task in enumerate(tasks):
        tries = [first_pick(one[:, task], scores.truth[:, task]) for one in scores.values[method]]
        losses = np.array([(loss, hit) for loss, _, hit in tries])
        if np.isfinite(losses).all() and len(losses):
            found[row] = losses.mean(axis=0)
    return found


def comparison(run: Run, record: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Rows of the comparison: this choice, the best simple method, a random model, the oracle.

    Returns
    -------
    name, note, hits (expected number of tasks with the pick among the five best), tasks, loss (points of accuracy).
    """
    scores = run.scores
    if scores is None or record is None:
        return []
    known = np.array(
        [
            i
            for i, name in enumerate(scores.datasets)
            if name not in run.targets and np.isfinite(scores.truth[:, i]).sum() >= 3
        ],
        int,
    )
    found = {}
    for method in {*SIMPLE, "random", "oracle", record["method"]} & set(scores.values):
        outcomes = _outcomes(scores, method, known)
        good = np.isfinite(outcomes[:, 0])
        if good.any():
            found[method] = (float(outcomes[good, 1].sum()), int(good.sum()), 100 * float(outcomes[good, 0].mean()))

    def row(name: str, note: str, values: tuple[float, int, float]) -> dict[str, Any]:
        return {"name": name, "note": note, **dict(zip(("hits", "tasks", "loss"), values, strict=True))}

    rows = []
    if "hits" in record:
        note = "each known task answered from the others"
        rows.append(row("This choice", note, (record["hits"], record["tasks"], record["loss"])))
    elif record["method"] in found:
        rows.append(row("This choice", method_label(record["method"]), found[record["method"]]))
    simple = {method: found[method] for method in SIMPLE if method in found}
    if simple:
        best = min(simple, key=lambda method: (simple[method][2], -simple[method][0]))
        note = f"{method_label(best)}: the best of {len(simple)} simple ones, picked in hindsight"
        rows.append(row("Best simple rule", note, simple[best]))
    for method, name, note in (
        ("random", "A model at random", "mean over many draws"),
        ("oracle", "Oracle", "knows the answer; nobody can do better"),
    ):
        if method in found:
            rows.append(row(name, note, found[method]))
    return rows


def reliability(run: Run) -> list[dict[str, Any]]:
    """Claimed and observed frequency, its interval and the number of cases, per bin of the chance of the top five."""
    table = run.calibration[run.calibration["quantity"] == "p_top5"] if len(run.calibration) else run.calibration
    return [
        {
            "claimed": float(r.claimed),
            "seen": float(r.seen),
            "cases": int(r.cases),
            "low": float(r.low),
            "high": float(r.high),
        }
        for r in table.itertuples()
    ]


def claims(run: Run) -> list[dict[str, Any]]:
    """The other claims about known tasks against the outcomes, in words and per cent."""
    if run.calibration.empty:
        return []
    rows = run.calibration.set_index("quantity")
    return [
        {
            "text": text,
            "claimed": float(rows.loc[name, "claimed"]),
            "seen": float(rows.loc[name, "seen"]),
            "cases": int(rows.loc[name, "cases"]),
            "low": float(rows.loc[name, "low"]),
            "high": float(rows.loc[name, "high"]),
        }
        for name, text in CLAIMS.items()
        if name in rows.index
    ]
