"""The first page of Snakemake's own report: the answer for each target."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlmrank import store
from vlmrank.errors import VlmrankError

RESULTS = "VLMRANK_RESULTS"  # set by the workflow as it is read: the results folder of this run


def remember(results: str) -> None:
    """Remember the results folder of the workflow that this process reads, for `landing`."""
    os.environ[RESULTS] = results


def landing(results: str | Path | None = None) -> dict[str, int]:
    """The answers as the headings of `snakemake --report-metadata`, each with the number of models compared.

    Snakemake 9.27 prints headings unchanged, but texts below them as the whole output of a converter, so the values
    must be numbers. `results` is by default the folder of the workflow that this process has read.
    """
    folder = Path(results or os.environ.get(RESULTS) or "results")
    found = {}
    for path in sorted((folder / "ranking").glob("*.answer.json")):
        task = path.name.removesuffix(".answer.json")
        try:
            text = _sentence(store.read_json(path))
            count = len(store.read_csv(path.with_name(f"{task}.csv")))
        except (VlmrankError, ValueError, KeyError, TypeError, OSError) as error:
            text, count = str(error), 0
        found[f"{task}: {text}. Why: Answer, report.html. Models compared:"] = count
    return found or {f"No answer yet in {folder}/ranking. Targets answered:": 0}


def _sentence(facts: Mapping[str, Any]) -> str:
    if not facts["model"]:
        return "no model could be ranked"
    parts = [f"take {facts['model']}", f"evidence: {facts['verdict']}"]
    if facts.get("accuracy_low") is not None:
        parts.append(f"expected accuracy {100 * facts['accuracy_low']:.0f} to {100 * facts['accuracy_high']:.0f}%")
    if facts.get("known_tasks"):
        parts.append(f"in the top five on {facts['known_in_top5']:.0f} of {facts['known_tasks']:.0f} known tasks")
    return "; ".join(parts)
