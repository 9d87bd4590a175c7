"""Read a person's labels: a CSV with one image and its class, or "I don't know", per row.

`ranking/{target}.to_label.csv` asks for them; the same file, filled in by hand or by the page of `vlmrank label`, is
what the next run reads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from vlmrank.accuracy.formats import read_cells
from vlmrank.errors import VlmrankError
from vlmrank.text import nearest

COLUMNS = ["image", "path", "label"]
DONT_KNOW = "I don't know"
UNSURE = (DONT_KNOW.lower(), "i dont know", "i don\N{RIGHT SINGLE QUOTATION MARK}t know", "?")  # as people write it


@dataclass(frozen=True)
class Labels:
    """What is known of a target's images.

    Attributes
    ----------
    known : image identifier -> index of its class.
    unknown : images that a person looked at and could not label.
    """

    known: Mapping[str, int] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()

    def text_of(self, image: str, classes: Sequence[str]) -> str:
        """The cell of an image: its class, "I don't know" or nothing."""
        if image in self.unknown:
            return DONT_KNOW
        return classes[self.known[image]] if image in self.known else ""


def read_labels(path: str | os.PathLike[str], *, classes: Sequence[str], images: Sequence[str]) -> Labels:
    """Read a filled-in list; rows without a label are still open, and other columns are ignored.

    Parameters
    ----------
    classes : the target's class names, in order; letter case and spaces around them do not matter in the file.
    images : identifiers of the target's images.

    Raises
    ------
    VlmrankError : not a table, no such column, image or class, or two different labels for one image.
    """
    cells = read_cells(path)
    for name in ("image", "label"):
        if name not in cells:
            found = ", ".join(map(str, cells.columns))
            raise VlmrankError(f"{path}: there is no column {name!r}; found {found}. Begin with a *.to_label.csv")
    place = {name.strip().lower(): index for index, name in reversed(list(enumerate(classes)))}
    place |= {name: index for index, name in enumerate(classes)}
    there, given = set(images), {}
    for line, image, label in zip(cells.index, cells["image"], cells["label"], strict=True):
        image, label = str(image).strip(), "" if pd.isna(label) else str(label).strip()
        if not label:
            continue
        where = f"{path}, line {line}"
        if image not in there:
            raise VlmrankError(f"{where}: the target has no image {image!r}. {nearest(image, there)}".rstrip())
        index = place.get(label, place.get(label.lower()))
        if index is None and label.lower() not in UNSURE:
            hint = nearest(label, [*classes, DONT_KNOW])
            raise VlmrankError(f"{where}: there is no class {label!r} for {image}. {hint}".rstrip())
        if given.setdefault(image, index) != index:
            raise VlmrankError(f"{where}: {image} has another label further up; keep one of them")
    return Labels(
        {image: index for image, index in given.items() if index is not None},
        frozenset(image for image, index in given.items() if index is None),
    )


def list_to_label(
    ask: Sequence[str], labels: Labels, *, paths: Mapping[str, str], classes: Sequence[str]
) -> pd.DataFrame:
    """The list to fill in: first the labelled images, then the requested images without a label.

    Parameters
    ----------
    ask : identifiers of the images to label, most informative first.
    labels : known labels; they stay in the list, so that the filled-in list has all of them.
    paths : identifier -> path of the image.
    classes : names.
    """
    answered = sorted({*labels.known, *labels.unknown})
    rows = [(image, paths.get(image, ""), labels.text_of(image, classes)) for image in answered]
    rows += [(image, paths.get(image, ""), "") for image in ask]
    return pd.DataFrame(rows, columns=COLUMNS)
