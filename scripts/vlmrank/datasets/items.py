"""A dataset before decoding: the cells of its row, and its images as a list of items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class DatasetCells:
    """The cells of a row of the datasets sheet that define the dataset; docs/usage.md describes them."""

    dataset: str
    role: str
    path: str
    kind: str = "folder"
    test: str = ""
    classes: str = ""
    domain: str = ""


@dataclass(frozen=True)
class Item:
    """One image of a source.

    Attributes
    ----------
    id : unique within the source, independent of where the source lies on disk.
    place : what `read_image` needs: `path` (and `offset`, `size`, or `torchvision`, `index`).
    label : index into the class names, -1 where unknown.
    """

    id: str
    place: Mapping[str, Any]
    label: int = -1


@dataclass(frozen=True)
class Source:
    """All images of one source, in a fixed order.

    Attributes
    ----------
    items : the images.
    labelled : whether every image has a label.
    classes : names that the source itself provides, in the order of the labels; may be empty.
    templates : that the source itself provides.
    unlabelled : if only some images have a label: how many have none, and the first of them.
    left_out : reason -> files and members that are not images.
    """

    items: Sequence[Item]
    labelled: bool = False
    classes: Sequence[str] = field(default_factory=list)
    templates: Sequence[str] = field(default_factory=list)
    unlabelled: str = ""
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)


def source_of(items: Sequence[Item], *, places: Sequence[str] = (), **facts: Any) -> Source:
    """A source, labelled if all items are; `places` are the items' positions for the message."""
    missing = [number for number, item in enumerate(items) if item.label < 0]
    told = ""
    if 0 < len(missing) < len(items):
        first = places[missing[0]] if places else items[missing[0]].id
        told = f"{len(missing)} of {len(items)} images {'has' if len(missing) == 1 else 'have'} no label ({first})"
    return Source(items, labelled=bool(items) and not missing, unlabelled=told, **facts)
