"""The ranked models of a target, with their rank intervals in whole ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from vlmrank import store
from vlmrank.report.collect import Model, Run


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


def bounds(low: float, high: float) -> tuple[int | None, int | None]:
    """A rank interval in whole ranks, rounded outwards.

    >>> bounds(1.98, 4.025), bounds(float("nan"), 3.0)
    ((1, 5), (None, None))
    """
    if pd.isna(low) or pd.isna(high):
        return None, None
    return math.floor(low), math.ceil(high)


def picks_of(run: Run, target: str) -> list[Pick]:
    """The models of a target that have a rank, the best first."""
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
