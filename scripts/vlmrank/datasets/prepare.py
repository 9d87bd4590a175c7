"""Prepare a dataset card: the drawn images, the labelled images to measure accuracy on, class names and prompts."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from vlmrank.datasets.decode import ChangedImageError, ImageError, read_image
from vlmrank.datasets.draw import Draw, draw_further, draw_images, has_utf8_name, hashed
from vlmrank.datasets.items import DatasetCells, Source
from vlmrank.datasets.layout import counted, look_like_codes
from vlmrank.datasets.prompts import CLIP_BENCHMARK, DEFAULT_TEMPLATES, Prompts, clip_benchmark_prompts, read_prompts
from vlmrank.datasets.sources import read_source
from vlmrank.errors import FailedPair, VlmrankError
from vlmrank.store import FAILED, OK
from vlmrank.store.file_hashes import FileHashes
from vlmrank.store.packs import PACKED_KIND, read_pack

DEFAULT_DRAW = Draw()
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedImages:
    """Decoded images of a dataset card.

    Attributes
    ----------
    images : RGB.
    image_ids : one per image.
    failed : image id -> reason, for images that cannot be decoded.
    """

    images: Sequence[Image.Image]
    image_ids: Sequence[str]
    failed: Mapping[str, str]


def _prompts(classes: str) -> Prompts:
    if not classes:
        return Prompts()
    if classes.startswith(CLIP_BENCHMARK):
        return clip_benchmark_prompts(classes.removeprefix(CLIP_BENCHMARK))
    return read_prompts(classes)


def prepare_dataset(
    cells: DatasetCells, draw: Draw = DEFAULT_DRAW, *, cache: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """Draw the images of one row of the datasets sheet and list everything that later stages need.

    K images are drawn with a seed. Labels play no part, unless a draw by classes is asked for and the dataset is a
    labelled source; the labels of a target are neither used nor written. An image that cannot be decoded is listed with
    its reason and replaced by the next one.

    Parameters
    ----------
    cells : of the row.
    draw : how images are drawn.
    cache : folder of downloads.

    Returns
    -------
    The dataset card, ready for JSON: dataset, role, domain, classes, templates, seed, images [{id, path, sha256,
    label}], predicted (as images: those beyond the K that are predicted), failed_images [{id, reason}], test [{id,
    path, sha256, label}] or None, n_test, no_test (why accuracy cannot be measured on labels that are there), notes
    (what was left out, a sentence each), status, reason. Any error gives a card of status `failed`, so that other
    datasets go on.
    """
    card: dict[str, Any] = {
        "dataset": cells.dataset,
        "role": cells.role,
        "domain": cells.domain,
        "classes": [],
        "templates": [],
        "seed": draw.seed,
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
        if cells.kind == PACKED_KIND:
            return {
                **card,
                **read_pack(cells.path).datasets[cells.dataset],
                "dataset": cells.dataset,
                "role": cells.role,
            }
        _fill(card, cells, draw, cache)
    except VlmrankError as error:
        card.update(status=FAILED, reason=str(error))
    except Exception as error:  # whatever the user's files hold: the other datasets go on
        logger.exception("%s", cells.dataset)
        card.update(status=FAILED, reason=f"{type(error).__name__}: {' '.join(str(error).split())}")
    return card


def _fill(card: dict[str, Any], cells: DatasetCells, draw: Draw, cache: str | os.PathLike[str] | None) -> None:
    """Read the row's images, and put the names, the draw and the labelled images into the card."""
    prompts, is_source = _prompts(cells.classes), cells.role == "source"
    source = read_source(cells.kind, cells.path, classes=prompts.classes, cache=cache, labels=is_source)
    if not is_source and not prompts.classes and len(source.classes) == 1:
        card["notes"].append(f"its one folder, {source.classes[0]}, is not taken for a class")
        source = replace(source, classes=[])
    names = list(prompts.classes or source.classes)
    try:
        tests = _test_source(cells.kind, cells.test, source, names, cache)
    except VlmrankError as error:  # the ranking of a target does not need labels
        if is_source:
            raise
        tests, card["no_test"] = None, str(error)
    names = names or list(tests.classes if tests else ())
    card["classes"] = names
    if look_like_codes(names):
        card["notes"].append(f"its class names are codes ({names[0]}, ...), which mean nothing to a model: name them")
    templates = prompts.templates or source.templates or (tests.templates if tests else ()) or DEFAULT_TEMPLATES
    card["templates"] = list(templates) if names else []
    card["domain"] = cells.domain or prompts.domain
    for where, found in (("", source), (" of the test images", tests if cells.test else None)):
        card["notes"] += [f"left out: {text}{where}" for text in (counted(found.left_out) if found else ())]
    labelled = source.labelled and is_source
    order = draw_images(card, source, draw, labelled=labelled)
    draw_further(card, source, order, draw, labelled=labelled, hashes=FileHashes(cache, cells.path))
    needed = is_source and not cells.test
    card["no_test"] = card["no_test"] or _no_test(tests, names) or (source.unlabelled if needed else "")
    if tests is not None and names and not card["no_test"]:
        named = [item for item in tests.items if has_utf8_name(item)]
        card["test"] = hashed(named, FileHashes(cache, cells.test or cells.path))
        card["n_test"] = len(card["test"])
        if len(named) < len(tests.items):
            card["notes"].append(f"left out: {len(tests.items) - len(named)} test images whose names are not UTF-8")


def _test_source(kind: str, test: str, source: Source, names: Sequence[str], cache: object) -> Source | None:
    """The labelled images that accuracy is measured on: those of `test`, else the source itself if it is labelled."""
    if not test:
        return source if source.labelled else None
    found = read_source(kind, test, classes=names, cache=cache)
    if not found.labelled:
        raise VlmrankError(f"test: {found.unlabelled or f'the {len(found.items)} images'} in {test} have no label")
    return found


def _no_test(tests: Source | None, names: Sequence[str]) -> str:
    """Why existing labels give no accuracy."""
    if tests is None:
        return ""
    if not names:
        return "the labels are numbers and nothing names the classes; give a file of class names in the column classes"
    seen = {item.label for item in tests.items}
    if len(seen) < 2:
        return f"all {len(tests.items)} labelled images are of one class ({names[min(seen)]})"
    return ""


def further_images(card: Mapping[str, Any]) -> Iterator[tuple[str, Image.Image | ImageError]]:
    """Decode the images that are only predicted, one at a time: (identifier, picture or error).

    Raises
    ------
    FailedPair : an image has changed since it was drawn.
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

    Images that cannot be decoded now, or could not be when they were drawn, are left out with the reason.

    Raises
    ------
    FailedPair : an image has changed, or none can be used.
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
    """Check before a run that a target can be used: list its images and decode one.

    A target that cannot be used becomes a row with its reason; the run stops here only if no target can be used. A
    target that is not on this machine yet counts as usable.

    Parameters
    ----------
    rows : of the datasets sheet.
    made : whether the workflow itself will make a path.

    Raises
    ------
    VlmrankError : there are targets and none can be used; gives the reason of each.
    """
    reasons = []
    for row in rows:
        if row.role != "target":
            continue
        if row.kind == "torchvision" or row.path.startswith("hf-hub:") or made(row.path):
            return
        card = prepare_dataset(DatasetCells(**row.values() | {"test": ""}), Draw(images=1))
        if card["status"] == OK:
            return
        reasons.append(f"{row.dataset} (line {row.line}): {card['reason']}")
    if reasons:
        raise VlmrankError("\n".join(("no target can be used, so that nothing would be ranked:", *reasons)))
