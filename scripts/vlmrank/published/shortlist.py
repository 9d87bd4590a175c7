"""Choose which models to try first, by published accuracy and within a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlmrank.text import human_bytes, ordinal

OFF_LIST = "not on the shortlist"


@dataclass(frozen=True)
class Shortlist:
    """Models to try and models to leave out.

    Attributes
    ----------
    order : indices of the models to try, most promising first.
    reasons : index -> why a model is left out.
    bytes : to download for all of `order`, as far as known.
    """

    order: tuple[int, ...]
    reasons: Mapping[int, str]
    bytes: float


def shortlist(
    place: np.ndarray,
    download: Sequence[float | None],
    *,
    top: int | None = 10,
    budget: float | None = None,
    minutes: Sequence[float] = (),
    budget_minutes: float | None = None,
) -> Shortlist:
    """The first `top` models by published accuracy whose downloads fit the budget; those of unknown accuracy come last.

    A model that does not fit is skipped, and smaller ones further down are tried.

    Parameters
    ----------
    place : [M], place by published accuracy, 1 is the best; nan if unknown.
    download : bytes of M downloads, 0 if already here, None if unknown.
    top : number of models; None for all.
    budget : total bytes; None for no limit. A download of unknown size does not fit into a budget.
    minutes, budget_minutes : M predicted computing times, and their limit in total.

    Examples
    --------
    >>> found = shortlist(np.array([2.0, 1.0, np.nan]), [1e9, 9e9, 0.0], top=2, budget=5e9)
    >>> found.order, found.reasons[1]
    ((0, 2), 'not on the shortlist: its 9.0 GB do not fit the budget of 5.0 GB (1st by published accuracy)')
    """
    size = [float("inf") if one is None else float(one) for one in download]
    known = np.isfinite(place)
    order = sorted(range(len(place)), key=lambda one: (not known[one], place[one] if known[one] else size[one], one))
    taken, reasons, total, spent = [], {}, 0.0, 0.0
    for one in order:
        standing = f"{ordinal(int(place[one]))} by published accuracy" if known[one] else "no published accuracy"
        if top is not None and len(taken) >= top:
            reasons[one] = f"{OFF_LIST}: {standing}"
        elif budget is not None and total + size[one] > budget and size[one] > 0:
            what = f"its {human_bytes(size[one])}" if np.isfinite(size[one]) else "downloads of unknown size"
            reasons[one] = f"{OFF_LIST}: {what} do not fit the budget of {human_bytes(budget)} ({standing})"
        elif budget_minutes is not None and spent + minutes[one] > budget_minutes:
            what = f"its {minutes[one]:.0f} minutes do not fit the budget of {budget_minutes:.0f} minutes"
            reasons[one] = f"{OFF_LIST}: {what} ({standing})"
        else:
            taken.append(one)
            spent += minutes[one] if len(minutes) else 0.0
            total += size[one] if np.isfinite(size[one]) else 0.0
    return Shortlist(tuple(taken), reasons, total)
