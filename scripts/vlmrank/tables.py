"""Published accuracy tables -> rows of accuracy.csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vlmrank.store import read_csv


@dataclass(frozen=True)
class Published:
    """Rows that matched the sheets (model, dataset, acc1, n, origin), and those that did not."""

    accuracy: pd.DataFrame
    unmatched: pd.DataFrame


def read_tables(
    tables: Sequence[Mapping[str, Any]], *, models: Sequence[str], datasets: Sequence[str], names: str | None = None
) -> Published:
    """Read the user's own tables with the columns model, dataset, acc1 and optionally n."""
    columns = ["model", "dataset", "acc1", "n", "origin"]
    found = [pd.DataFrame(columns=columns)]
    for table in tables:
        rows = read_csv(table["path"]).assign(origin=str(table["path"]))
        found.append(rows if "n" in rows else rows.assign(n=0))
    rows = pd.concat(found)[columns]
    known = rows.model.isin(models) & rows.dataset.isin(datasets)
    return Published(rows[known], rows[~known])
