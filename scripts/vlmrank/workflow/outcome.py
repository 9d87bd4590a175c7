"""The run summary: what failed and why, what is recommended, the last lines on the terminal."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from vlmrank.answer.tables import sentence
from vlmrank.errors import LEFT_OUT, VlmrankError
from vlmrank.store import FAILED, OK, distrusted_models, read_csv, read_json
from vlmrank.text import rank_interval

AGAIN = "Try them again with: snakemake --forcerun {rules} (finished pairs are kept)"


# models of equal rank that the recommendation names
EQUALS = 3


def distrust(folder: str | os.PathLike[str]) -> list[str]:
    """One line if a folder holds pairs of an earlier version that may be wrong; else none."""
    models = distrusted_models(folder)
    if not models:
        return []
    which = f"{models[0]}" + (f" and {len(models) - 1} other models" if len(models) > 1 else "")
    return [
        f"{folder}: the conductance of {which} was made by the secant rule of an earlier version, which was wrong in "
        "passes of a single sample: it is computed again, and nothing of it is used"
    ]


@dataclass(frozen=True)
class Outcome:
    """Summary of `pairs.csv`: numbers of pairs and of failed pairs, and one line per cause.

    `rules` are the rules to run again after fixing the causes.
    """

    pairs: int
    failed: int
    rules: tuple[str, ...]
    lines: tuple[str, ...]
    notes: tuple[str, ...]


def outcome(pairs: str | os.PathLike[str], rules: Mapping[tuple[str, str], str] | None = None) -> Outcome:
    """Summarise `pairs.csv`: one line for a model or dataset that failed as a whole, and one for pairs of one model
    with one reason.

    A pair counts as failed if any of its stages failed. `notes` says what was left out of pairs that succeeded. `rules`
    maps each (model, dataset) to the rule that computes its conductance.
    """
    table = read_csv(pairs)
    both = table[(table["model"] != "") & (table["dataset"] != "")]
    bad = table[table["status"] == FAILED]
    bad_pairs = bad[(bad["model"] != "") & (bad["dataset"] != "")]
    whole = bad[(bad["model"] == "") | (bad["dataset"] == "")]
    lines = [f"  {row.model or row.dataset} (all its pairs): {row.reason}" for row in whole.itertuples()]
    rest = bad_pairs[~bad_pairs["model"].isin(set(whole["model"]) - {""})]
    rest = rest[~rest["dataset"].isin(set(whole["dataset"]) - {""})]
    lines += _grouped(rest, both)
    left_out = table[(table["status"] != FAILED) & table["reason"].str.startswith(LEFT_OUT)]
    notes = [
        f"  {dataset}: {reason.removeprefix(LEFT_OUT)}"
        for (dataset, reason), _ in left_out.groupby(["dataset", "reason"], sort=False)
    ]
    again = {"fetch": "fetch_model", "prepare": "prepare_dataset", "accuracy": "measure_accuracy"}
    made_by = [
        (rules or {}).get((row.model, row.dataset), "compute_conductance")
        if row.stage == "conductance"
        else again.get(row.stage)
        for row in bad.itertuples()
    ]
    return Outcome(
        rules=tuple(dict.fromkeys(rule for rule in made_by if rule)),
        pairs=len(both.drop_duplicates(["model", "dataset"])),
        failed=len(bad_pairs.drop_duplicates(["model", "dataset"])) or len(whole),
        lines=tuple(lines),
        notes=tuple(notes),
    )


def _grouped(bad: pd.DataFrame, both: pd.DataFrame) -> list[str]:
    """One line for a reason that all models share on a dataset, or one model on several."""
    lines, rest = [], []
    every = both.groupby("dataset")["model"].nunique()
    for (dataset, reason), rows in bad.groupby(["dataset", "reason"], sort=False):
        if rows["model"].nunique() == every[dataset] > 1:
            lines.append(f"  {dataset} with every model: {reason}")
        else:
            rest.append(rows)
    for (model, reason), rows in pd.concat(rest).groupby(["model", "reason"], sort=False) if rest else ():
        names = list(dict.fromkeys(rows["dataset"]))
        whole = len(names) == both[both["model"] == model]["dataset"].nunique() and len(names) > 1
        lines.append(f"  {model} on {'every dataset' if whole else ', '.join(names)}: {reason}")
    return lines


def last_lines(
    results: str | os.PathLike[str],
    targets: Sequence[str],
    rules: Mapping[tuple[str, str], str] | None = None,
    *,
    since: float = 0.0,
    stopped: bool = False,
) -> list[str]:
    """The last lines of a run: the recommendation for each target, the report, the failed pairs.

    Parameters
    ----------
    results : results folder.
    targets : names of the target datasets.
    rules : the rule that computes the conductance of each (model, dataset), if it is not `compute_conductance`.
    since : files older than this (seconds since the epoch) are marked as those of another run.
    stopped : the run failed before its end, so an earlier recommendation may no longer hold.
    """
    results, lines = Path(results), []
    for target in targets:
        path = results / "ranking" / f"{target}.csv"
        if path.exists():
            old = earlier_time(path, since) if stopped else ""
            failure = f"{target}: not ranked, since the run failed; {path} is of an earlier one{old}"
            lines.append(failure if old else recommendation(path, target) + _expected(path.with_suffix(".answer.json")))
    pairs, report = results / "pairs.csv", results / "report.html"
    if pairs.exists():
        found = outcome(pairs, rules)
        earlier = earlier_time(pairs, since)
        if found.notes:
            lines += ["Left out:", *found.notes]
        if found.lines:
            lines += [f"{found.failed} of {found.pairs} pairs failed{earlier}:", *found.lines]
            lines += [AGAIN.format(rules=" ".join(found.rules))] if found.rules else []
        else:
            lines.append(f"All {found.pairs} pairs succeeded{earlier}.")
    if report.exists():
        lines.append(f"Report: {report}{earlier_time(report, since) if stopped else ''}")
    return lines


def _expected(path: Path) -> str:
    """What is expected of the first model, to follow the recommendation; empty if unknown."""
    try:
        return f"; {sentence(read_json(path))}" if path.exists() else ""
    except (VlmrankError, ValueError, KeyError):
        return ""


def earlier_time(path: Path, since: float) -> str:
    """When a file was written, if that was before this run."""
    written = path.stat().st_mtime
    return "" if written >= since - 1 else time.strftime(" (as of %Y-%m-%d %H:%M)", time.localtime(written))


def recommendation(path: str | os.PathLike[str], target: str) -> str:
    """`target: take model (90 % interval of its rank: 1 to 3 of 8)` from a ranking file."""
    table = read_csv(path)
    usable = table[table["status"] == OK]
    if usable.empty:
        return f"{target}: no model could be ranked"
    best, equal = usable.iloc[0], usable[usable["rank"] == usable["rank"].min()]["model"]
    names = " or ".join(equal[:EQUALS]) + (f" (or another {len(equal) - EQUALS})" if len(equal) > EQUALS else "")
    sure = rank_interval(float(best["rank_low"]), float(best["rank_high"]), len(usable))
    notes = [note for note in ("equal scores" if len(equal) > 1 else "", sure) if note]
    return f"{target}: take {names}" + (f" ({'; '.join(notes)})" if notes else "")
