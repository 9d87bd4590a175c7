"""Measured zero-shot accuracy, as clip-benchmark measures it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vlmrank.datasets.decode import ChangedImageError, ImageError, read_image
from vlmrank.datasets.prompts import DEFAULT_TEMPLATES, unique_names
from vlmrank.errors import LEFT_OUT, RUN_AGAIN, FailedPair
from vlmrank.models.texts import class_embeddings
from vlmrank.store import FAILED, OK

SCALE = 100.0  # clip-benchmark's; it does not change an order


@dataclass(frozen=True)
class Accuracy:
    """Zero-shot accuracy on N labelled images; None where it is not defined.

    Attributes
    ----------
    acc1, acc5 : share of images whose class is the first, or among the first five; acc5 needs five classes.
    mean_per_class_recall : mean accuracy of the classes that have an image.
    n : N.
    per_class : class -> (accuracy, number of images), for classes that have an image.
    """

    acc1: float | None = None
    acc5: float | None = None
    mean_per_class_recall: float | None = None
    n: int = 0
    per_class: Mapping[str, tuple[float, int]] = field(default_factory=dict)


def zero_shot_accuracy(logits: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Accuracy:
    """Accuracies of zero-shot logits.

    Parameters
    ----------
    logits : [N, C].
    labels : int [N].
    classes : C names.

    Examples
    --------
    >>> found = zero_shot_accuracy(np.array([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0]]), np.array([0, 1, 1]), ["a", "b"])
    >>> round(found.acc1, 3), found.mean_per_class_recall, found.acc5, found.per_class
    (0.667, 0.75, None, {'a': (1.0, 1), 'b': (0.5, 2)})
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    if logits.ndim != 2 or logits.shape != (len(labels), len(classes)):
        raise ValueError(f"logits {logits.shape} do not fit {len(labels)} labels and {len(classes)} classes")
    if not len(labels):
        return Accuracy()
    order = np.argsort(-logits, axis=1, kind="stable")
    correct = order[:, :1] == labels[:, None]
    among = (order[:, :5] == labels[:, None]).any(axis=1)
    names = unique_names(classes)
    counts = np.bincount(labels, minlength=len(names))
    hits = np.bincount(labels, weights=correct[:, 0], minlength=len(names))
    seen = np.flatnonzero(counts)
    return Accuracy(
        acc1=float(correct.mean()),
        acc5=float(among.mean()) if len(names) >= 5 else None,
        mean_per_class_recall=float((hits[seen] / counts[seen]).mean()),
        n=len(labels),
        per_class={names[c]: (float(hits[c] / counts[c]), int(counts[c])) for c in seen},
    )


def measure_accuracy(
    loaded,
    card: Mapping[str, Any],
    *,
    batch: int = 64,
    threads: int | None = None,
    identity: str = "",
    precision: str = "float32",
) -> dict[str, Any]:
    """Measure one loaded model's zero-shot accuracy on the labelled images of a dataset card.

    The prediction is the class whose text embedding (mean over the templates) has the largest cosine with the image's
    embedding.

    Parameters
    ----------
    loaded : a `vlmrank.zoo.LoadedModel`.
    card : a dataset card.
    batch : images per pass.
    threads : that decode images; the number of processors by default.
    identity : stored with the result.
    precision : that the towers run in, as `vlmrank.models.precision.in_precision` takes it.

    Returns
    -------
    acc1, acc5, mean_per_class_recall, n, per_class {class: [acc, n]}, failed_images [{id, reason}], seconds, status,
    reason, ready for JSON. Images that cannot be decoded are listed and left out.

    Raises
    ------
    FailedPair : an image has changed since the card was written.
    """
    import torch
    import torch.nn.functional as F

    from vlmrank.models.precision import at_least_float32, full_precision, in_precision

    started = time.perf_counter()
    records = list(card.get("test") or [])
    if not records or not card.get("classes"):
        return result_of(Accuracy(), [], started, OK, "there are no labelled images", identity)
    parameter = next(loaded.visual.parameters())
    templates = card.get("templates") or DEFAULT_TEMPLATES
    failed: list[dict[str, str]] = []

    def decode(record: Mapping[str, Any]) -> tuple[Mapping[str, Any], Any]:
        try:
            return record, loaded.preprocess(read_image(record))
        except ChangedImageError as error:
            raise FailedPair(f"image {record['id']}: {error}") from error
        except ImageError as error:
            return record, str(error)

    logits, labels = [], []
    arithmetic = in_precision(precision, parameter.device)
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool, torch.no_grad(), arithmetic:
        text = class_embeddings(loaded.model, loaded.tokenizer, card["classes"], templates)
        for start in range(0, len(records), batch):
            decoded = list(pool.map(decode, records[start : start + batch]))
            failed += [{"id": record["id"], "reason": found} for record, found in decoded if isinstance(found, str)]
            good = [(record["label"], found) for record, found in decoded if not isinstance(found, str)]
            if not good:
                continue
            images = torch.stack([found for _, found in good]).to(parameter.device, parameter.dtype)
            embedding = F.normalize(at_least_float32(loaded.model.encode_image(images)), dim=-1)
            with full_precision():
                logits.append((SCALE * embedding @ text.T.to(embedding)).float().cpu().numpy())
            labels += [label for label, _ in good]
    if not labels:
        reason = f"none of the {len(records)} labelled images can be read; the first: {failed[0]['reason']}"
        return result_of(Accuracy(), failed, started, FAILED, reason, identity)
    scores = np.concatenate(logits)
    if not np.isfinite(scores).all():
        return result_of(Accuracy(), failed, started, FAILED, "the model's logits are not finite", identity)
    accuracy = zero_shot_accuracy(scores, np.array(labels), card["classes"])
    return result_of(accuracy, failed, started, OK, "", identity)


def failed_result(reason: str, identity: str = "", *, status: str = FAILED) -> dict[str, Any]:
    """The result of a measurement that failed, or was not needed."""
    return result_of(Accuracy(), [], time.perf_counter(), status, reason, identity)


def result_of(
    accuracy: Accuracy, failed: Sequence[Mapping[str, str]], started: float, status: str, reason: str, identity: str
) -> dict[str, Any]:
    """A measurement, ready for JSON."""
    return {
        "acc1": accuracy.acc1,
        "acc5": accuracy.acc5,
        "mean_per_class_recall": accuracy.mean_per_class_recall,
        "n": accuracy.n,
        "per_class": {name: list(values) for name, values in accuracy.per_class.items()},
        "failed_images": list(failed),
        "seconds": time.perf_counter() - started,
        "status": status,
        "reason": reason,
        "identity": identity,
    }


def lost_for_now(result: Mapping[str, Any]) -> list[str]:
    """One line per image that this result lacks but another run may have."""
    failed = result.get("failed_images") or []
    return [f"image {one['id']}: {one['reason']}" for one in failed if RUN_AGAIN in one["reason"]]


def judge(result: Mapping[str, Any], card: Mapping[str, Any], *, max_lost: float) -> tuple[str, str]:
    """Status and reason of a measured accuracy, by how many labelled images were used.

    An accuracy on a small rest of a test set is not that of the task: the measurement fails if more than `max_lost` of
    the images, or all images of a class, could not be read. Smaller losses are reported.

    Parameters
    ----------
    result : as `measure_accuracy` returns it.
    card : of the dataset.
    max_lost : share of the labelled images, 0 to 1.

    Examples
    --------
    >>> card = {"test": [{"id": name, "label": name > "b"} for name in "abcd"], "classes": ["cat", "dog"]}
    >>> result = {"status": "ok", "n": 3, "failed_images": [{"id": "a", "reason": "it is a film"}]}
    >>> judge(result, card, max_lost=0.5)
    ('ok', 'left out: 1 of the 4 labelled images; the first: a: it is a film')
    >>> judge(result, card, max_lost=0.1)[0]
    'failed'
    """
    if card.get("no_test"):
        return FAILED, card["no_test"]
    lost = result.get("failed_images") or []
    if result["status"] == FAILED or not lost:
        return result["status"], result.get("reason") or ""
    labels = {record["id"]: record["label"] for record in card.get("test") or []}
    gone = {record["id"] for record in lost}
    missing = sorted({labels[name] for name in gone & set(labels)} - {labels[name] for name in set(labels) - gone})
    told = f"{len(lost)} of the {len(labels)} labelled images"
    first = f"the first: {lost[0]['id']}: {lost[0]['reason']}"
    if missing:
        return FAILED, f"{told} cannot be read, among them all of {card['classes'][missing[0]]}; {first}"
    if len(lost) > max_lost * len(labels):
        return FAILED, f"{told} cannot be read (images.max_lost is {max_lost:g}); {first}"
    again = [line for line in lost_for_now(result) if not line.startswith(f"image {lost[0]['id']}:")]
    return OK, f"{LEFT_OUT}{'; '.join((told, first, *again))}"
