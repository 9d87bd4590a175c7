"""Shorten a models sheet to the models worth computing, by published accuracy and budget."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vlmrank.errors import VlmrankError
from vlmrank.models.names import HUB
from vlmrank.models.registry import BYTES_PER_PARAMETER, architectures
from vlmrank.workflow.resources import conductance_needs
from vlmrank.workflow.sheets import ModelRow


def download_bytes(row: ModelRow) -> float | None:
    """Approximate download size of a row's weights in bytes; 0 if on this machine, None if unknown."""
    if row.folder is not None or row.checkpoint is not None:
        return 0.0
    parameters = (architectures().get(row.architecture) or {}).get("parameters")
    known = parameters is not None and not math.isnan(parameters) and not row.architecture.startswith(HUB)
    return float(parameters) * BYTES_PER_PARAMETER if known else None


def minutes_of(row: ModelRow, config: Mapping[str, Any], datasets: int) -> float:
    """Time limit for the conductance of a model on all datasets, minutes."""
    options = config["conductance"]
    points = options["points" if options["tolerance"] is None else "max_points"]
    facts = architectures().get(row.architecture) or {}
    work = {"images": config["images"]["per_dataset"], "points": points, "gpu": options["device"] != "cpu"}
    return conductance_needs(facts, datasets, **work).minutes


def shorten(
    rows: Mapping[str, ModelRow], config: Mapping[str, Any], *, datasets: int
) -> tuple[dict[str, ModelRow], dict[str, str]]:
    """The rows to compute, in the order of the sheet, and model -> why it is not computed.

    Parameters
    ----------
    rows : model -> row of the sheet.
    config : of the run; its `shortlist` says how.
    datasets : number of datasets with conductance.

    Raises
    ------
    VlmrankError : no model fits the budget.
    """
    how, models = config["shortlist"], list(rows)
    if not how["by"]:
        return dict(rows), {}
    from vlmrank.published.shipped import places  # takes two seconds to import
    from vlmrank.published.shortlist import shortlist

    found = shortlist(
        places(models),
        [download_bytes(row) for row in rows.values()],
        top=how["top"],
        budget=None if how["budget_gb"] is None else how["budget_gb"] * 1e9,
        minutes=[minutes_of(row, config, datasets) for row in rows.values()],
        budget_minutes=how["budget_minutes"],
    )
    if not found.order:
        first = f"{models[0]}: {found.reasons[0]}"
        raise VlmrankError(f"shortlist: none of the {len(models)} models fits. The first, {first}. Raise the budget.")
    kept = {models[place] for place in found.order}
    reasons = {models[place]: reason for place, reason in sorted(found.reasons.items())}
    return {model: row for model, row in rows.items() if model in kept}, reasons
