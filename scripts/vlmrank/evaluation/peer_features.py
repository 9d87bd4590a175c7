"""Features that only peers need: embeddings of labelled images and of captions of the classes.

Written for each model and dataset, read by `evidence`. `embed_dataset` needs torch; reading and writing do not.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vlmrank.datasets.prompts import DEFAULT_TEMPLATES
from vlmrank.errors import FailedPair
from vlmrank.store.hdf5 import UTF8, attributes_of, create_hdf5, open_hdf5, set_attribute, texts

CAPTIONS = 12  # templates that captions are made from, drawn from the templates of all datasets
ARRAYS = ("embedding", "logits", "captions", "class_embedding")
Card = Mapping[str, Any]


@dataclass(frozen=True)
class PeerFeatures:
    """One model on one dataset; all embeddings have unit length. N labelled images, C classes, P captions per class.

    Attributes
    ----------
    embedding : float32 [N, D], of labelled images.
    logits : float32 [N, C], zero-shot.
    labels : int64 [N].
    captions : float32 [C, P, D], of each class name in P templates.
    class_embedding : float32 [C, D], mean over the dataset's own templates.
    failed_images : image identifier -> reason, of labelled images that could not be read.
    attributes : model, dataset, status, reason, seconds, identity.
    """

    embedding: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    logits: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    labels: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    captions: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 0), np.float32))
    class_embedding: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    failed_images: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


def caption_templates(datasets: Sequence[Card], *, seed: int = 0) -> list[str]:
    """At most `CAPTIONS` different templates of all datasets, the same for every model and dataset.

    ModelGPT has captions written by a large language model; the prompts in the user's own sheets take their place.
    """
    known = sorted({template for card in datasets for template in card.get("templates") or []})
    if len(known) <= CAPTIONS:
        return known
    return [known[index] for index in np.sort(np.random.default_rng(seed).choice(len(known), CAPTIONS, replace=False))]


def draw_labelled(card: Card, *, images: int, seed: int = 0) -> list[Card]:
    """At most `images` labelled test images of a dataset, drawn at random; the same for every model."""
    known = [record for record in card.get("test") or [] if record.get("label", -1) >= 0]
    if len(known) <= images:
        return known
    return [known[index] for index in np.sort(np.random.default_rng(seed).choice(len(known), images, replace=False))]


def embed_dataset(loaded, card: Card, templates: Sequence[str], *, images: int, seed: int = 0) -> PeerFeatures:
    """Embed one dataset's labelled images and its classes' captions with a loaded model, in float32 on every device.

    Parameters
    ----------
    loaded : a `vlmrank.zoo.LoadedModel`.
    card : dataset card (classes, templates, test).
    templates : for the captions.
    images : labelled images to embed, at most.
    seed : of their draw.

    Raises
    ------
    FailedPair : an image is not the one that the card was written for.
    """
    import torch
    from torch.nn.functional import normalize

    from vlmrank.datasets.decode import ChangedImageError, ImageError, read_image
    from vlmrank.models.precision import in_precision
    from vlmrank.models.texts import class_embeddings, text_embeddings

    model, classes = loaded.model, list(card.get("classes") or [])
    if not classes:
        return PeerFeatures()
    parameter = next(loaded.visual.parameters())
    own = card.get("templates") or DEFAULT_TEMPLATES
    pixels, labels, failed = [], [], {}
    for record in draw_labelled(card, images=images, seed=seed):
        try:
            pixels.append(loaded.preprocess(read_image(record)))
        except ChangedImageError as error:
            raise FailedPair(f"image {record['id']}: {error}") from error
        except ImageError as error:
            failed[record["id"]] = str(error)
            continue
        labels.append(int(record["label"]))
    with torch.no_grad(), in_precision("float32", parameter.device):
        class_embedding = class_embeddings(model, loaded.tokenizer, classes, own).float()
        prompts = [template.replace("{c}", name) for name in classes for template in templates or own]
        captions = (
            text_embeddings(model, loaded.tokenizer, prompts).float().view(len(classes), -1, *class_embedding.shape[1:])
        )
        embedding = torch.empty(0, class_embedding.shape[1], device=parameter.device)
        if pixels:
            batches = torch.stack(pixels).to(parameter.device, parameter.dtype).split(64)
            embedding = normalize(torch.cat([model.encode_image(batch) for batch in batches]).float(), dim=-1)
        logits = model.logit_scale.exp().float() * embedding @ class_embedding.T
    return PeerFeatures(
        embedding=embedding.cpu().numpy(),
        logits=logits.cpu().numpy(),
        labels=np.array(labels, np.int64),
        captions=captions.cpu().numpy(),
        class_embedding=class_embedding.cpu().numpy(),
        failed_images=failed,
    )


def write_features(path: str | os.PathLike[str], features: PeerFeatures) -> None:
    """Write a model's features on one dataset as HDF5."""
    with create_hdf5(path, "features") as file:
        file["labels"] = features.labels
        for array in ARRAYS:
            file[array] = np.asarray(getattr(features, array), np.float32)
        file.create_dataset("failed_images", data=texts(list(features.failed_images)), dtype=UTF8)
        file.create_dataset("failed_reasons", data=texts(list(features.failed_images.values())), dtype=UTF8)
        for name, value in features.attributes.items():
            set_attribute(file, name, value)


def read_features(path: str | os.PathLike[str]) -> PeerFeatures:
    """Read a model's features on one dataset."""
    with open_hdf5(path, "features") as file:
        failed = dict(zip(file["failed_images"].asstr()[()], file["failed_reasons"].asstr()[()], strict=True))
        arrays = {array: file[array][()] for array in ("labels", *ARRAYS)}
        return PeerFeatures(**arrays, failed_images=failed, attributes=attributes_of(file))
