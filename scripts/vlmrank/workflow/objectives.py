"""Compute some datasets twice, with and without class names, so that divergences compare one objective.

A target without class names uses the embedding objective. A divergence to a source with the zero-shot objective would
compare two different objectives, so each source is also computed without class names, as its twin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vlmrank.datasets.sources import HUB, brings_names
from vlmrank.store.packs import PACKED_KIND
from vlmrank.workflow.sheets import DatasetRow

TWIN = "@embedding"  # no name in a sheet contains @


def has_names(row: DatasetRow, made: Callable[[str], bool] = lambda path: False) -> bool:
    """Whether a dataset has class names, as far as is known without a download.

    Parameters
    ----------
    row : of the datasets sheet.
    made : whether the workflow itself will make a path; such datasets have names.
    """
    if row.classes or row.kind in ("torchvision", PACKED_KIND):
        return True
    places = [place for place in (row.path, row.test) if place]
    return any(place.startswith(HUB) or made(place) or brings_names(row.kind, place) for place in places)


def twins(
    rows: Sequence[DatasetRow], objective: str = "zero-shot", made: Callable[[str], bool] = lambda path: False
) -> list[str]:
    """Names of the twins that a run needs: those of the sources, if a target has no class names.

    If no source has class names, the targets with class names need a twin instead.
    """
    if objective != "zero-shot":
        return []
    named = {row.dataset: has_names(row, made) for row in rows}
    of = {role: [row.dataset for row in rows if row.role == role] for role in ("source", "target")}
    if not all(named[name] for name in of["target"]):
        return [name + TWIN for name in of["source"] if named[name]]
    if not any(named[name] for name in of["source"]):
        return [name + TWIN for name in of["target"]]
    return []


def without_names(card: Mapping[str, Any]) -> dict[str, Any]:
    """The card of the twin: the same images without class names."""
    return {**card, "dataset": card["dataset"] + TWIN, "classes": [], "templates": [], "test": None, "n_test": 0}


def cards_for(cards: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Mapping[str, Any]]:
    """The card of each name; a twin's card is made from its dataset's."""
    return [without_names(card) if name.endswith(TWIN) else card for card, name in zip(cards, names, strict=True)]
