"""The ranked models of a target, with rank intervals and expected accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from vlmrank import store
from vlmrank.report.collect import Model, Run
from vlmrank.report.words import bounds, count_words, digits


@dataclass(frozen=True)
class Pick:
    """A model in the ranking of a target.

    Attributes
    ----------
    model : the model.
    rank : from 1.
    low, high : interval of the rank, None if unknown.
    p_top5 : chance to be among the true five best.
    accuracy, accuracy_low, accuracy_high : expected accuracy and its interval, 0 to 1.
    loss : expected loss against the best, in accuracy.
    """

    model: Model
    rank: int
    low: int | None
    high: int | None
    p_top5: float | None = None
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    loss: float | None = None

    @property
    def interval(self) -> str:
        """The rank interval, in words."""
        if self.low is None or self.high is None:
            return "unknown"
        return f"{self.low}" if self.low == self.high else f"{self.low} to {self.high}"

    @property
    def cost(self) -> str:
        """Parameters and operations in words, empty if both are unknown."""
        return cost_words(self.model)


def cost_words(model: Model) -> str:
    """Parameters and operations of a model in words, empty if both are unknown."""
    parts = []
    if model.parameters:
        inside = f" ({count_words(model.image_parameters)} in the image tower)" if model.image_parameters else ""
        parts.append(f"{count_words(model.parameters)} parameters{inside}")
    if model.gflops:
        parts.append(f"{digits(model.gflops)} GFLOPs per image")
    return " and ".join(parts)


def _known(value: Any) -> float | None:
    return float(value) if pd.notna(value) else None


def picks_of(run: Run, target: str) -> list[Pick]:
    """The ranked models of a target, best first."""
    models = {model.name: model for model in run.models}
    table = run.rankings[target]
    table = table[(table["status"] != store.FAILED) & table["rank"].notna()].sort_values("rank", kind="stable")
    numbers = ("p_top5", "accuracy", "accuracy_low", "accuracy_high", "loss")
    return [
        Pick(
            models[row.model],
            int(row.rank),
            *bounds(row.rank_low, row.rank_high),
            **{name: _known(getattr(row, name)) for name in numbers},
        )
        for row in table.itertuples()
    ]
