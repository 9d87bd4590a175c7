"""Prepare a dataset: which K images are drawn, which labelled images accuracy is measured on, and the prompts."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from vlmrank.datasets.decode import ChangedImageError, ImageError, open_image, pixels_sha256, read_bytes, read_image
from vlmrank.datasets.prompts import CLIP_BENCHMARK, DEFAULT_TEMPLATES, Prompts, clip_benchmark_prompts, read_prompts
from vlmrank.datasets.sources import Item, Source, read_source
from vlmrank.errors import FailedPair, VlmrankError
from vlmrank.store import FAILED, OK
from vlmrank.store.file_hashes import FileHashes, hash_all

MAX_FAILED = 200  # broken images that are tried before a dataset is given up


@dataclass(frozen=True)
class LoadedImages:
    """Decoded images of a dataset card.

    Attributes
    ----------
    images : RGB.
    image_ids : as long.
    failed : image id -> reason, of those that cannot be decoded (any more).
    """

    images: Sequence[Image.Image]
    image_ids: Sequence[str]
    failed: Mapping[str, str]


def draw_order(labels: Sequence[int], *, seed: int, stratified: bool) -> list[int]:
    """A seeded order of all images, of which the first K are taken.

    Stratified: the classes take turns, in a random order that is drawn anew for each round, so that the first K images
    hold each class as equally often as K and the class's size allow.

    Parameters
    ----------
    labels : class index of each image; read only where `stratified`.

    Examples
    --------
    >>> sorted(draw_order([0, 0, 1], seed=0, stratified=False))
    [0, 1, 2]
    >>> first = draw_order([0] * 50 + [1] * 2, seed=0, stratified=True)[:4]
    >>> sum(index >= 50 for index in first)
    2
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(labels))
    if not stratified:
        return order.tolist()
    queues: dict[int, list[int]] = {}
    for index in order.tolist():
        queues.setdefault(labels[index], []).append(index)
    result: list[int] = []
    names = sorted(queues)
    depth = 0
    while names:
        for position in generator.permutation(len(names)):
            result.append(queues[names[position]][depth])
        depth += 1
        names = [name for name in names if len(queues[name]) > depth]
    return result


def _is_text(item: Item) -> bool:
    """Whether a card, which is UTF-8, can hold the image's name and path."""
    try:
        f"{item.id}{item.place['path']}".encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _take(item: Item) -> str:
    """Decode an image and return its hash: of the file's bytes, or of the pixels where there is no file of its own."""
    if not _is_text(item):
        raise ImageError("its name is not valid UTF-8: rename it")
    if item.place.get("torchvision"):
        return pixels_sha256(read_image(item.place))
    content = read_bytes(item.place)
    open_image(content)
    return hashlib.sha256(content).hexdigest()


def _prompts(classes: str) -> Prompts:
    if not classes:
        return Prompts()
    if classes.startswith(CLIP_BENCHMARK):
        return clip_benchmark_prompts(classes.removeprefix(CLIP_BENCHMARK))
    return read_prompts(classes)


def prepare_dataset(
    dataset: str,
    role: str,
    kind: str,
    path: str,
    *,
    test: str = "",
    classes: str = "",
    domain: str = "",
    images: int = 16,
    seed: int = 0,
    stratified: bool = False,
    cache: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Draw the images of one row of the datasets sheet and list everything that later stages need.

    K images are drawn with a seed, without looking at labels unless `stratified` is asked for and the dataset is a
    labelled source; the labels of a target are neither used nor written. An image that cannot be decoded is named with
    its reason, and the next one is drawn for it.

    Parameters
    ----------
    dataset, role, kind, path, test, classes, domain : cells of the row.
    images : K.
    seed : of the draw; the same seed, images and K give the same draw on every machine.
    stratified : whether classes take turns, for labelled sources.
    cache : folder of downloads.

    Returns
    -------
    The dataset card, ready for JSON: dataset, role, domain, classes, templates, seed, images [{id, path, sha256,
    label}], failed_images [{id, reason}], test [{id, path,
    sha256, label}] or None, n_test, status, reason. What the user gave
    wrong makes a card of status `failed`, so that other datasets go on.
    """
    card: dict[str, Any] = {
        "dataset": dataset,
        "role": role,
        "domain": domain,
        "classes": [],
        "templates": [],
        "seed": seed,
        "images": [],
        "failed_images": [],
        "test": None,
        "n_test": 0,
        "status": OK,
        "reason": "",
    }
    try:
        prompts = _prompts(classes)
        source = read_source(kind, path, classes=prompts.classes, cache=cache)
        names = list(prompts.classes or source.classes)
        tests = _test_source(kind, test, source, names, cache)
        names = names or list(tests.classes if tests else ())
        card["classes"] = names
        templates = prompts.templates or source.templates or (tests.templates if tests else ()) or DEFAULT_TEMPLATES
        card["templates"] = list(templates) if names else []
        card["domain"] = domain or prompts.domain
        labelled = source.labelled and role == "source"
        _draw(card, source, images, seed, stratified and labelled, labelled)
        if tests is not None and names:
            named = [item for item in tests.items if _is_text(item)]
            card["test"] = _hashed(named, cache, about=test or path)
            card["n_test"] = len(card["test"])
    except VlmrankError as error:
        card.update(status=FAILED, reason=str(error))
    return card


def _test_source(kind: str, test: str, source: Source, names: Sequence[str], cache: object) -> Source | None:
    """The labelled images that accuracy is measured on: those of `test`, else the source itself if it is labelled."""
    if not test:
        return source if source.labelled else None
    found = read_source(kind, test, classes=names, cache=cache)
    if not found.labelled:
        missing = sum(item.label < 0 for item in found.items)
        raise VlmrankError(f"test: {missing} of the {len(found.items)} images in {test} have no label")
    return found


def _hashed(items: Sequence[Item], cache: str | os.PathLike[str] | None, *, about: str) -> list[dict[str, Any]]:
    """Records of labelled images, with the hashes of what they hold now; without one where it cannot be read."""
    hashes = FileHashes(cache, about)

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
            return ""  # the job that measures says why

    found = hash_all(functools.partial(one, item) for item in items)
    hashes.keep()
    return [
        {"id": item.id, **item.place, "sha256": digest, "label": item.label}
        for item, digest in zip(items, found, strict=True)
    ]


def _draw(card: dict[str, Any], source: Source, k: int, seed: int, stratified: bool, labelled: bool) -> None:
    for index in draw_order([item.label for item in source.items], seed=seed, stratified=stratified):
        if len(card["images"]) == k:
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
    if not card["images"]:
        first = card["failed_images"][0]
        raise VlmrankError(
            f"none of the {len(source.items)} images can be read; the first: {first['id']}: {first['reason']}"
        )


def load_images(card: Mapping[str, Any]) -> LoadedImages:
    """Decode the drawn images of a dataset card, each from the bytes that were hashed when it was drawn.

    One that cannot be decoded any more is left out with its reason, beside those that could not be when it was drawn.

    Raises
    ------
    FailedPair : an image is not what it was, or none can be used.
    """
    failed = {image["id"]: image["reason"] for image in card.get("failed_images") or []}
    images: dict[str, Image.Image] = {}
    for record in card["images"]:
        try:
            images[record["id"]] = read_image(record)
        except ChangedImageError as error:
            raise FailedPair(f"{card['dataset']}, image {record['id']}: {error}") from error
        except ImageError as error:
            failed[record["id"]] = str(error)
    if card["images"] and not images:
        first = card["images"][0]["id"]
        raise FailedPair(f"{card['dataset']}: no image could be used; {first}: {failed[first]}")
    return LoadedImages(list(images.values()), list(images), failed)
