"""Thumbnails of the target's images with the best models' predictions; images on which they disagree come first."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vlmrank import store
from vlmrank.datasets.decode import ImageError, read_image
from vlmrank.errors import VlmrankError
from vlmrank.report.collect import Run

BEST = 5  # models whose predictions are compared
MOST = 64  # images per target
ALL = 400  # images per page, shared by its targets
SIDE, QUALITY = 128, 75  # pixels of the longer side, JPEG quality


@dataclass(frozen=True)
class Guesses:
    """The best models' predictions on the images.

    Attributes
    ----------
    models : names of at most `BEST` models, best first.
    images : identifiers of the N images that all of them predicted.
    labels : int [models, N], index of the class.
    """

    models: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    labels: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.int64))

    def disagreements(self, one: int, other: int) -> int:
        """Number of images on which two of the models disagree."""
        return int((self.labels[one] != self.labels[other]).sum())

    @property
    def dissent(self) -> np.ndarray:
        """float [N], share of the models that disagree with the majority."""
        if not len(self.models):
            return np.zeros(len(self.images))
        return np.array([1 - max(Counter(column).values()) / len(column) for column in self.labels.T.tolist()])


def read_guesses(run: Run, target: str, results: Path) -> Guesses:
    """The predictions of the best models on the target's images."""
    table = run.rankings[target]
    first = table[table["rank"].notna()].sort_values("rank", kind="stable")["model"].head(BEST)
    found: dict[str, dict[str, int]] = {}
    for model in first:
        try:
            read = store.read_logits(results / "conductance" / model / f"{target}.h5")
        except (VlmrankError, OSError):
            continue
        if read is not None:
            names, logits = read
            found[model] = dict(zip(names, np.argmax(logits, axis=1).tolist(), strict=True))
    if not found:
        return Guesses()
    images = [image for image in next(iter(found.values())) if all(image in one for one in found.values())]
    return Guesses(tuple(found), tuple(images), np.array([[one[i] for i in images] for one in found.values()], int))


def _thumbnail(record: Mapping[str, Any]) -> str:
    """A small JPEG as a data URI."""
    if record.get("torchvision"):
        raise ImageError("images of torchvision are not opened here")
    small = read_image(record)
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _seen(guesses: Guesses, position: int | None, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The classes predicted for an image, by number of models; `first` marks that of the recommended model."""
    if position is None:
        return []
    column = guesses.labels[:, position].tolist()
    return [
        {"name": classes[label], "models": count, "first": label == column[0]}
        for label, count in Counter(column).most_common()
        if 0 <= label < len(classes)
    ]


def thumbnails(run: Run, target: str, guesses: Guesses) -> list[dict[str, Any]]:
    """At most `MOST` images of a target; those on which the best models disagree most come first."""
    card = next((card for card in run.datasets if card["dataset"] == target), {})
    classes = [str(name) for name in card.get("classes") or ()]
    records = {str(record.get("id")): record for part in ("images", "predicted") for record in card.get(part) or ()}
    place = {image: position for position, image in enumerate(guesses.images)}
    dissent = guesses.dissent
    order = sorted(records, key=lambda image: -dissent[place[image]] if image in place else 0.0)
    images = []
    for image in order[: min(MOST, max(8, ALL // len(run.targets)))]:
        position = place.get(image)
        entry = {"id": image, "data": "", "reason": "", "seen": _seen(guesses, position, classes)}
        entry["disputed"] = position is not None and dissent[position] > 0
        try:
            entry["data"] = _thumbnail(records[image])
        except (ImageError, KeyError, OSError) as error:
            entry["reason"] = f"no picture: {error}"
        images.append(entry)
    return images
