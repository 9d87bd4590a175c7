"""Read files of a results folder in which anything may be absent or broken."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vlmrank import store
from vlmrank.errors import VlmrankError


class Reader:
    """Read what exists, and remember what could not be read."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.unreadable: dict[str, str] = {}

    def get(self, name: str, read: Any, default: Any = None) -> Any:
        """Result of `read` on a file; the default if the file is absent or broken."""
        path = self.results / name
        if not path.is_file() or path.stat().st_size == 0:
            return default
        try:
            return read(path)
        except (VlmrankError, ValueError, KeyError, OSError) as error:
            self.unreadable[name] = f"{type(error).__name__}: {error}"
            return default

    def table(self, name: str, columns: Sequence[str] = ()) -> pd.DataFrame:
        """A CSV file; an empty table with these columns if it is absent, broken or lacks one of them."""
        table = self.get(name, store.read_csv)
        if table is not None and (lacking := [column for column in columns if column not in table.columns]):
            self.unreadable[name] = f"lacks the columns {', '.join(lacking)}"
            table = None
        return pd.DataFrame(columns=list(columns)) if table is None else table


def number(value: Any) -> float | None:
    """A finite number, None for anything else."""
    return float(value) if isinstance(value, (int, float)) and np.isfinite(value) else None


def names(folder: Path, suffix: str) -> list[str]:
    """Names of the files of a folder, without their suffix, sorted."""
    return sorted(path.name[: -len(suffix)] for path in folder.glob(f"*{suffix}") if not path.name.startswith("."))


def read_timings(folder: Path | None) -> pd.DataFrame:
    """Jobs, seconds and memory by rule, from Snakemake's benchmark files `<rule>/**/*.tsv`."""
    rows = []
    for rule in sorted(path for path in folder.iterdir() if path.is_dir()) if folder and folder.is_dir() else ():
        seconds, memory, cpu = [], [], []
        for path in rule.rglob("*.tsv"):
            try:
                table = pd.read_csv(path, sep="\t", na_values=["-"])
            except (ValueError, OSError):
                continue
            if "s" not in table:
                continue
            seconds += [float(s) for s in table["s"].dropna()]
            memory += [float(m) for m in table.get("max_rss", pd.Series(dtype=float)).dropna()]
            cpu += [float(c) for c in table.get("cpu_time", pd.Series(dtype=float)).dropna()]
        if seconds:
            rows.append(
                {
                    "rule": rule.name,
                    "jobs": len(seconds),
                    "seconds": sum(seconds),
                    "median": statistics.median(seconds),
                    "longest": max(seconds),
                    "cpu": sum(cpu) if cpu else float("nan"),
                    "memory": max(memory) if memory else float("nan"),
                }
            )
    return pd.DataFrame(rows, columns=["rule", "jobs", "seconds", "median", "longest", "cpu", "memory"])
