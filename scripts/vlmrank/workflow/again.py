"""Find failed results that the next run should try again, because the cause may have passed.

A reason with the words `run again` (`vlmrank.errors.RUN_AGAIN`) means that the cause may be gone: an image that was
missing for a moment, a process that was killed. The head process reads the reasons of the last run from `pairs.csv` and
has Snakemake remake these files; results that are in the store by then are reused.
"""

from __future__ import annotations

import os
from pathlib import Path

from vlmrank.errors import RUN_AGAIN, SINCE_FETCHED, SINCE_PREPARED, VlmrankError
from vlmrank.store import read_csv

FILES = {
    "fetch": "models/{model}.json",
    "prepare": "datasets/{dataset}.json",
    "conductance": "conductance/{model}/{dataset}.h5",
    "accuracy": "accuracy/{model}/{dataset}.json",
    "peers": "peers/{model}/{dataset}.h5",
}


def files_to_make_again(results: str | os.PathLike[str]) -> list[str]:
    """Sorted result files whose row in `<results>/pairs.csv` has a reason that asks for another run.

    If an input has changed since its card was written, the card is among them.
    """
    table = Path(results) / "pairs.csv"
    try:
        rows = read_csv(table)[["stage", "model", "dataset", "reason"]]
    except (OSError, ValueError, KeyError, VlmrankError):  # missing or truncated: every row is new anyway
        return []
    found = set()
    for row in rows[rows["reason"].str.contains(RUN_AGAIN, regex=False)].itertuples():
        stages = [row.stage]
        stages += ["prepare"] if SINCE_PREPARED in row.reason else []
        stages += ["fetch"] if SINCE_FETCHED in row.reason else []
        found |= {FILES[stage].format(model=row.model, dataset=row.dataset) for stage in stages if stage in FILES}
    return sorted(f"{results}/{name}" for name in found)
