"""Draw images: which K are attributed, and which further ones are only predicted."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vlmrank.datasets.decode import ImageError, open_image, pixels_sha256, read_bytes, read_image
from vlmrank.datasets.items import Item, Source
from vlmrank.errors import RUN_AGAIN, VlmrankError
from vlmrank.store.file_hashes import FileHashes, hash_all

MAX_FAILED = 200  # broken images that are tried before a dataset is given up
# Most images that are predicted of a target, and of a source, whose predictions only the evaluation uses.
MOST_PREDICTED = {"target": 2048, "source": 256}


@dataclass(frozen=True)
class Draw:
    """How images are drawn: the `images` section of the config.

    Attributes
    ----------
    images : K, the images that are attributed.
    predictions : number of images that are predicted, the K included: `all` (at most `MOST_PREDICTED`) or a number.
    seed : of the draw; the same seed, images and K give the same draw on every machine.
    stratified : whether labelled sources are drawn evenly over their classes.
    max_lost : share of unreadable images at which a source is given up; two are always allowed.
    """

    images: int = 16
    predictions: int | str = "all"
    seed: int = 0
    stratified: bool = False
    max_lost: float = 0.1


def draw_order(names: Sequence[str], labels: Sequence[int], *, seed: int, stratified: bool) -> list[int]:
    """A seeded order of all images, of which the first K are taken.

    Images are sorted by a hash of seed and name, so that adding or removing one moves no other. Stratified: the classes
    take turns, in a new order each round, so that the first K images are spread over the classes as evenly as possible.

    Parameters
    ----------
    names : identifier of each image.
    labels : class index of each image; read only where `stratified`.

    Examples
    --------
    >>> first, more = (draw_order("abcdefg"[:count], [0] * count, seed=0, stratified=False) for count in (6, 7))
    >>> [index for index in more if index < 6] == first
    True
    >>> first = draw_order([str(i) for i in range(52)], [0] * 50 + [1] * 2, seed=0, stratified=True)[:4]
    >>> sum(index >= 50 for index in first)
    2
    """

    def drawn(*what: object) -> bytes:
        return hashlib.sha256(os.fsencode("\0".join(map(str, (seed, *what))))).digest()

    order = sorted(range(len(names)), key=lambda index: drawn(names[index]))
    if not stratified:
        return order
    queues: dict[int, list[int]] = {}
    for index in order:
        queues.setdefault(labels[index], []).append(index)
    turns = [(turn, drawn(turn, label), index) for label, queue in queues.items() for turn, index in enumerate(queue)]
    return [index for _, _, index in sorted(turns)]


def has_utf8_name(item: Item) -> bool:
    """Whether an image's name and path can be written in UTF-8, as a card needs."""
    try:
        f"{item.id}{item.place['path']}".encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _take(item: Item) -> str:
    """Decode an image and return its hash: of the file's bytes, or of the pixels if it has no file of its own."""
    if not has_utf8_name(item):
        raise ImageError("its name is not valid UTF-8: rename it")
    if item.place.get("torchvision"):
        return pixels_sha256(read_image(item.place))
    content = read_bytes(item.place)
    open_image(content)
    return hashlib.sha256(content).hexdigest()


def hashed(items: Sequence[Item], hashes: FileHashes) -> list[dict[str, Any]]:
    """Records of images with the hashes of their current content; an empty hash if unreadable."""

    def one(item: Item) -> str:
        try:
            if item.place.get("torchvision"):
                return pixels_sha256(read_image(item.place))
            return hashes.of(
                item.place["path"],
                lambda: hashlib.sha256(read_bytes(item.place)).hexdigest(),
                part=str(item.place.get("offset", "")),
            )
        except (ImageError, OSError):
            return ""  # the job that reads it reports why

    found = hash_all(functools.partial(one, item) for item in items)
    hashes.keep()
    return [
        {"id": item.id, **item.place, "sha256": digest, "label": item.label}
        for item, digest in zip(items, found, strict=True)
    ]


def draw_images(card: dict[str, Any], source: Source, draw: Draw, *, labelled: bool) -> list[Item]:
    """Put the first K decodable images into the card; return the items not tried, in the order of the draw."""
    names, labels = [item.id for item in source.items], [item.label for item in source.items]
    order = draw_order(names, labels, seed=draw.seed, stratified=draw.stratified and labelled)
    left = len(order)
    for place, index in enumerate(order):
        if len(card["images"]) == draw.images:
            left = place
            break
        item = source.items[index]
        try:
            digest = _take(item)
        except ImageError as error:
            card["failed_images"].append({"id": _shown(item.id), "reason": str(error)})
            if len(card["failed_images"]) >= MAX_FAILED:
                raise VlmrankError(f"{MAX_FAILED} images cannot be read; the first: {item.id}: {error}") from error
            continue
        label = item.label if labelled else -1
        card["images"].append({"id": item.id, **item.place, "sha256": digest, "label": label})
    lost, tried = len(card["failed_images"]), len(card["failed_images"]) + len(card["images"])
    if not card["images"]:
        first = card["failed_images"][0]
        raise VlmrankError(
            f"none of the {len(source.items)} images can be read; the first: {first['id']}: {first['reason']}"
        )
    if lost:  # a reason that asks for another run goes first
        first = next((one for one in card["failed_images"] if RUN_AGAIN in one["reason"]), card["failed_images"][0])
        told = (
            f"{lost} of the {tried} images that were tried cannot be read; the first: {first['id']}: {first['reason']}"
        )
        card["notes"].append(told)
        if card["role"] == "source" and lost > max(2, draw.max_lost * tried):
            raise VlmrankError(f"{told} (images.max_lost is {draw.max_lost:g})")
    return [source.items[index] for index in order[left:]]


def draw_further(
    card: dict[str, Any], source: Source, items: Sequence[Item], draw: Draw, *, labelled: bool, hashes: FileHashes
) -> None:
    """Put the images that are only predicted into the card, hashed but not decoded."""
    most = MOST_PREDICTED[card["role"]] if draw.predictions == "all" else int(draw.predictions)
    items = items[: max(most - len(card["images"]), 0)]
    named = [item for item in items if has_utf8_name(item)]
    records = hashed(named, hashes)
    lost = [(item, "its name is not valid UTF-8: rename it") for item in items if not has_utf8_name(item)]
    for item, record in zip(named, records, strict=True):
        if record["sha256"]:
            card["predicted"].append(record if labelled else {**record, "label": -1})
            continue
        try:
            _take(item)
            lost.append((item, f"it could be read only at the second try; {RUN_AGAIN}"))
        except ImageError as error:
            lost.append((item, str(error)))
    card["failed_images"] += [{"id": _shown(item.id), "reason": reason} for item, reason in lost]
    if lost:
        first = f"{_shown(lost[0][0].id)}: {lost[0][1]}"
        card["notes"].append(f"{len(lost)} more images cannot be read; the first: {first}")
    card["n_predicted"] = len(card["predicted"])
    seen = len(card["images"]) + len(card["predicted"])
    if seen + len(card["failed_images"]) < len(source.items):
        card["notes"].append(f"{seen} of its {len(source.items)} images are taken (images.predictions)")
