"""Compare the demo's ranking with the labels that were kept aside.

    python -m vlmrank.demo.verdict [RESULTS] [MODELS]

RESULTS is the results folder (default `results`), MODELS the zoo's (default `resources/demo/models`).
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np

from vlmrank.demo import TARGET
from vlmrank.demo.tasks import TASKS as DRAWN
from vlmrank.errors import VlmrankError
from vlmrank.text import rank_interval


def verdict(results: Path, models: Path, target: str = TARGET) -> list[str]:
    """Lines that name the recommended model, how sure the ranking is, the truth, and the report.

    Raises
    ------
    VlmrankError : the ranking or a model's training.json is missing.
    """
    sheet = results / "ranking" / f"{target}.csv"
    if not sheet.is_file():
        raise VlmrankError(f"{sheet} is missing: there is no ranking of {target} yet; run `make demo`")
    with sheet.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "ok"]
    if not rows:
        raise VlmrankError(f"{sheet}: no model could be ranked")
    truth = {}
    for row in rows:
        notes = models / row["model"] / "training.json"
        if notes.is_file():
            truth[row["model"]] = json.loads(notes.read_text(encoding="utf-8"))["accuracy"][target]
    first = rows[0]["model"]
    sure = rank_interval(float(rows[0]["rank_low"]), float(rows[0]["rank_high"]), len(rows))
    lines = [
        f"task:        {target} ({', '.join(DRAWN[target].classes)}), seen without labels",
        f"recommended: {first} ({sure}; in the first five with probability {float(rows[0]['p_top5']):.2f})",
    ]
    if first in truth:
        best = max(truth, key=truth.get)
        place = 1 + sum(value > truth[first] for value in truth.values())
        lines.append(
            f"truth:       labels that were kept aside give it an accuracy of {truth[first]:.3f}, number {place} of "
            f"{len(truth)}; the best, {best}, has {truth[best]:.3f}, the mean is {np.mean(list(truth.values())):.3f}"
        )
    lines.append(f"report:      {results / 'report.html'}")
    return lines


def main(arguments: list[str]) -> int:
    """Print the verdict; 1 where there is none."""
    results, models = (*arguments, *("results", "resources/demo/models")[len(arguments) :])
    try:
        print("\n".join(verdict(Path(results), Path(models))))
    except VlmrankError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
