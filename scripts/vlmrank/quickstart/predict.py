"""Predict the user's images with one model, zero-shot and without labels."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vlmrank.datasets.decode import ImageError
from vlmrank.datasets.prepare import further_images, load_images
from vlmrank.errors import FAILED, OK, FailedPair, VlmrankError, reason_of
from vlmrank.store import Pair, read_pair, write_pair
from vlmrank.store.identities import pair_identity

BATCH = 16
WHAT = {"predictions": "zero-shot"}  # in place of the options of a conductance


def predicted_pair(
    model: Mapping[str, Any], dataset: Mapping[str, Any], place: Path, *, cache: str | os.PathLike[str], device: str
) -> Pair:
    """The zero-shot logits of a model on all drawn images of a target, as a pair file without conductance.

    Parameters
    ----------
    model, dataset : cards.
    place : the pair file, reused if it is of the same model, images and class names.
    cache : folder of downloaded weights.
    device : `auto`, `cpu` or `cuda`.
    """
    identity = pair_identity(model, dataset, WHAT, "")
    try:
        known = read_pair(place, of=(model["model"], dataset["dataset"]))
        if known.ok and known.attributes.get("identity") == identity:
            return known
    except (OSError, VlmrankError):
        pass
    started = time.perf_counter()
    found, status, reason = Pair(), OK, ""
    try:
        found = _predict(model, dataset, cache=cache, device=device)
    except (VlmrankError, RuntimeError, ValueError, MemoryError) as error:
        status, reason = FAILED, reason_of(error)
    attributes = {
        **{name: model.get(name) or "" for name in ("model", "architecture", "pretrained", "weights_sha256")},
        **{"dataset": dataset["dataset"], "class_names": dataset["classes"], "templates": dataset["templates"]},
        **{"objective": "zero-shot", "precision": "float32", "identity": identity},
        **{"seconds": time.perf_counter() - started, "status": status, "reason": reason},
    }
    pair = Pair(**{**vars(found), "attributes": attributes})
    write_pair(place, pair)
    return pair


def _predict(
    model: Mapping[str, Any], dataset: Mapping[str, Any], *, cache: str | os.PathLike[str], device: str
) -> Pair:
    import torch
    import torch.nn.functional as F

    from vlmrank.models.device import choose_device
    from vlmrank.models.load import load_from_card
    from vlmrank.models.texts import class_embeddings

    loaded = load_from_card(model, cache=cache, device=choose_device(device))
    texts = class_embeddings(loaded.model, loaded.tokenizer, dataset["classes"], dataset["templates"])
    scale = loaded.model.logit_scale.exp()
    hashes = {record["id"]: record["sha256"] for record in (*dataset["images"], *dataset["predicted"])}
    failed: dict[str, str] = {}
    names: list[str] = []
    logits, embeddings = [], []
    for batch in _batches(dataset, loaded.preprocess, failed):
        with torch.no_grad():
            images = torch.stack([tensor for _, tensor in batch]).to(texts.device)
            embedding = F.normalize(loaded.model.encode_image(images), dim=-1)
            values = (scale * embedding @ texts.T).float().cpu().numpy()
        fine = np.isfinite(values).all(axis=1)
        failed |= {name: "its logits are not finite" for (name, _), good in zip(batch, fine, strict=True) if not good}
        names += [name for (name, _), good in zip(batch, fine, strict=True) if good]
        logits.append(values[fine])
        embeddings.append(embedding.float().cpu().numpy()[fine])
    if not names:
        raise FailedPair(f"no image could be used; {next(iter(failed.items()), ('', ''))[1]}")
    return Pair(
        predicted_id=names,
        predicted_sha256=[hashes.get(name, "") for name in names],
        logits=np.concatenate(logits),
        embedding=np.concatenate(embeddings),
        class_embedding=texts.float().cpu().numpy(),
        failed_images=failed,
    )


def _batches(dataset: Mapping[str, Any], preprocess: Any, failed: dict[str, str]) -> Iterator[list[tuple[str, Any]]]:
    """Preprocessed images in batches; those that cannot be decoded go to `failed`."""
    first = load_images(dataset)
    failed.update(first.failed)
    batch = []
    drawn = zip(first.image_ids, first.images, strict=True)
    for name, picture in itertools.chain(drawn, further_images(dataset)):
        if isinstance(picture, ImageError):
            failed[name] = str(picture)
            continue
        batch.append((name, preprocess(picture)))
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
