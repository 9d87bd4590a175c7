"""Prepare a dataset: which K images are drawn, which labelled images accuracy is measured on, and the prompts."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from vlmrank.datasets.decode import ChangedImageError, ImageError, open_image, pixels_sha256, read_bytes, read_image
from vlmrank.datasets.items import Item, Source
from vlmrank.datasets.layout import counted, look_like_codes
from vlmrank.datasets.prompts import CLIP_BENCHMARK, DEFAULT_TEMPLATES, Prompts, clip_benchmark_prompts, read_prompts
from vlmrank.datasets.sources import read_source
from vlmrank.errors import RUN_AGAIN, FailedPair, VlmrankError
from vlmrank.store import FAILED, OK
from vlmrank.store.file_hashes import FileHashes, hash_all

MAX_FAILED = 200  # broken images that are tried before a dataset is given up
MAX_LOST = 0.1
# Images that are predicted, at most: of a target, and of a source, whose predictions only the evaluation looks at.
MOST_PREDICTED = {"target": 2048, "source": 256}
logger = logging.getLogger(__name__)


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


def draw_order(names: Sequence[str], labels: Sequence[int], *, seed: int, stratified: bool) -> list[int]:
    """A seeded order of all images, of which the first K are taken.

    The images stand in the order of a hash of seed and name, so that one more or less moves no other. Stratified: the
    classes take turns, in an order that each round has anew, so that the first K images hold each class as equally
    often as K and the class's size allow.

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
    predictions: int | str = "all",
    seed: int = 0,
    stratified: bool = False,
    max_lost: float = MAX_LOST,
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
    predictions : images that are predicted, the K and the next in the order of the draw: `all` (at most
        `MOST_PREDICTED`) or a number.
    seed : of the draw; the same seed, images and K give the same draw on every machine.
    stratified : whether classes take turns, for labelled sources.
    max_lost : the share of the images tried that a source may lose before it is given up; two it may always lose.
    cache : folder of downloads.

    Returns
    -------
    The dataset card, ready for JSON: dataset, role, domain, classes, templates, seed, images [{id, path, sha256,
    label}], predicted (as images: those beyond the K that are predicted), failed_images [{id, reason}], test [{id,
    path, sha256, label}] or None, n_test, no_test (why accuracy cannot be measured on labels that are there), notes
    (what was left out, a sentence each), status, reason. Whatever goes wrong makes a card of status `failed`, so that
    other datasets go on.
    """
    card: dict[str, Any] = {
        "dataset": dataset,
        "role": role,
        "domain": domain,
        "classes": [],
        "templates": [],
        "seed": seed,
        "images": [],
        "predicted": [],
        "n_predicted": 0,
        "failed_images": [],
        "test": None,
        "n_test": 0,
        "no_test": "",
        "notes": [],
        "status": OK,
        "reason": "",
    }
    try:
        prompts = _prompts(classes)
        needed = role == "source" and not test
        source = read_source(kind, path, classes=prompts.classes, cache=cache, labels=role == "source")
        if role == "target" and not prompts.classes and len(source.classes) == 1:
            card["notes"].append(f"its one folder, {source.classes[0]}, is not taken for a class")
            source = replace(source, classes=[])
        names = list(prompts.classes or source.classes)
        try:
            tests = _test_source(kind, test, source, names, cache)
        except VlmrankError as error:  # a target is ranked without labels: they only say what came true
            if role == "source":
                raise
            tests, card["no_test"] = None, str(error)
        names = names or list(tests.classes if tests else ())
        card["classes"] = names
        if look_like_codes(names):
            card["notes"].append(
                f"its class names are codes ({names[0]}, ...), which mean nothing to a model: name them"
            )
        templates = prompts.templates or source.templates or (tests.templates if tests else ()) or DEFAULT_TEMPLATES
        card["templates"] = list(templates) if names else []
        card["domain"] = domain or prompts.domain
        for where, found in (("", source), (" of the test images", tests if test else None)):
            card["notes"] += [f"left out: {text}{where}" for text in (counted(found.left_out) if found else ())]
        labelled = source.labelled and role == "source"
        order = _draw(card, source, images, seed, stratified and labelled, labelled, max_lost)
        most = MOST_PREDICTED[role] if predictions == "all" else int(predictions)
        _draw_further(card, source, order, most, labelled, cache, about=path)
        card["no_test"] = card["no_test"] or _no_test(tests, names) or (source.unlabelled if needed else "")
        if tests is not None and names and not card["no_test"]:
            named = [item for item in tests.items if _is_text(item)]
            card["test"] = _hashed(named, cache, about=test or path)
            card["n_test"] = len(card["test"])
            if len(named) < len(tests.items):
                card["notes"].append(f"left out: {len(tests.items) - len(named)} test images whose names are not UTF-8")
    except VlmrankError as error:
        card.update(status=FAILED, reason=str(error))
    except Exception as error:  # whatever lies in folders and files: the other datasets go on
        logger.exception("%s", dataset)
        card.update(status=FAILED, reason=f"{type(error).__name__}: {' '.join(str(error).split())}")
    return card


def _test_source(kind: str, test: str, source: Source, names: Sequence[str], cache: object) -> Source | None:
    """The labelled images that accuracy is measured on: those of `test`, else the source itself if it is labelled."""
    if not test:
        return source if source.labelled else None
    found = read_source(kind, test, classes=names, cache=cache)
    if not found.labelled:
        raise VlmrankError(f"test: {found.unlabelled or f'the {len(found.items)} images'} in {test} have no label")
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


def _no_test(tests: Source | None, names: Sequence[str]) -> str:
    """Why labels that are there give no accuracy."""
    if tests is None:
        return ""
    if not names:
        return "the labels are numbers and nothing names the classes; give a file of class names in the column classes"
    seen = {item.label for item in tests.items}
    if len(seen) < 2:
        return f"all {len(tests.items)} labelled images are of one class ({names[min(seen)]})"
    return ""


def _draw(
    card: dict[str, Any], source: Source, k: int, seed: int, stratified: bool, labelled: bool, max_lost: float
) -> list[Item]:
    """Draw K images that can be decoded into the card; return the items not tried, in the order of the draw."""
    names, labels = [item.id for item in source.items], [item.label for item in source.items]
    order = draw_order(names, labels, seed=seed, stratified=stratified)
    left = len(order)
    for place, index in enumerate(order):
        if len(card["images"]) == k:
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
    if lost:  # one that may be there in another run goes first: its reason asks for it
        first = next((one for one in card["failed_images"] if RUN_AGAIN in one["reason"]), card["failed_images"][0])
        told = (
            f"{lost} of the {tried} images that were tried cannot be read; the first: {first['id']}: {first['reason']}"
        )
        card["notes"].append(told)
        if card["role"] == "source" and lost > max(2, max_lost * tried):
            raise VlmrankError(f"{told} (images.max_lost is {max_lost:g})")
    return [source.items[index] for index in order[left:]]


def _draw_further(
    card: dict[str, Any], source: Source, items: Sequence[Item], most: int, labelled: bool, cache: object, *, about: str
) -> None:
    """Put the next images that are only predicted into the card, hashed but not decoded yet."""
    items = items[: max(most - len(card["images"]), 0)]
    named = [item for item in items if _is_text(item)]
    records = _hashed(named, cache, about=about)
    lost = [(item, "its name is not valid UTF-8: rename it") for item in items if not _is_text(item)]
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


def further_images(card: Mapping[str, Any]) -> Iterator[tuple[str, Image.Image | ImageError]]:
    """Decode the images that are only predicted, one at a time: identifier, and picture or why there is none.

    Raises
    ------
    FailedPair : an image is not what it was when it was drawn.
    """
    for record in card.get("predicted") or []:
        try:
            found: Image.Image | ImageError = read_image(record)
        except ChangedImageError as error:
            raise FailedPair(f"image {record['id']}: {error}") from error
        except ImageError as error:
            found = error
        yield record["id"], found


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
            raise FailedPair(f"image {record['id']}: {error}") from error
        except ImageError as error:
            failed[record["id"]] = str(error)
    if card["images"] and not images:
        first = card["images"][0]["id"]
        raise FailedPair(f"no image could be used; {first}: {failed[first]}")
    return LoadedImages(list(images.values()), list(images), failed)


def check_targets(rows: Sequence[Any], *, made: Callable[[str], bool] = lambda path: False) -> None:
    """Look before anything runs whether a target can be used: its images are listed and one is decoded.

    A target that cannot be used is a row of its own, with its reason; here the run ends only if there is no other. A
    target that is not on this machine yet counts as usable.

    Parameters
    ----------
    rows : of the datasets sheet.
    made : whether the workflow itself will make a path.

    Raises
    ------
    VlmrankError : there are targets, and none can be used; with the reason of each.
    """
    reasons = []
    for row in rows:
        if row.role != "target":
            continue
        if row.kind == "torchvision" or row.path.startswith("hf-hub:") or made(row.path):
            return
        card = prepare_dataset(**row.values() | {"test": ""}, images=1)
        if card["status"] == OK:
            return
        reasons.append(f"{row.dataset} (line {row.line}): {card['reason']}")
    if reasons:
        raise VlmrankError("\n".join(("no target can be used, so that nothing would be ranked:", *reasons)))
