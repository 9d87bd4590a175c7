"""What peers ask of a model and the method does not: embeddings of labelled images and of captions of the classes.

Written once a model, read by `evidence`. This module's writing side needs torch; `read_features` does not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vlmrank.store import OK, create_hdf5, open_hdf5

CAPTIONS = 12  # templates that captions are made from, drawn from the templates of all datasets
Card = Mapping[str, Any]


@dataclass(frozen=True)
class PeerFeatures:
    """One model on one dataset; all embeddings have unit length. N labelled images, C classes, P captions a class.

    Attributes
    ----------
    embedding : float32 [N, D], of labelled images.
    logits : float32 [N, C], zero-shot.
    labels : int64 [N].
    captions : float32 [C, P, D], of each class name in P templates.
    class_embedding : float32 [C, D], mean over the dataset's own templates.
    """

    embedding: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    logits: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    labels: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    captions: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 0), np.float32))
    class_embedding: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))


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
    """Embed one dataset's labelled images and its classes' captions with a loaded model.

    Parameters
    ----------
    loaded : model, tokenizer, preprocess, visual, as `vlmrank.zoo.load_model` gives them.
    card : dataset card (classes, templates, test).
    templates : for the captions.
    images : labelled images to embed, at most.
    seed : of their draw.
    """
    import torch
    from torch.nn.functional import normalize

    from vlmrank.datasets.decode import ImageError, read_image

    model, classes = loaded.model, list(card.get("classes") or [])
    if not classes:
        return PeerFeatures()
    parameter = next(loaded.visual.parameters())

    def texts(prompts: Sequence[str]) -> torch.Tensor:
        parts = [
            model.encode_text(loaded.tokenizer(list(prompts[start : start + 256])).to(parameter.device))
            for start in range(0, len(prompts), 256)
        ]
        return normalize(torch.cat(parts).float(), dim=-1).view(len(classes), -1, parts[0].shape[-1])

    with torch.no_grad():
        own = card.get("templates") or ["a photo of a {c}."]
        class_embedding = normalize(
            texts([template.replace("{c}", name) for name in classes for template in own]).mean(1), dim=-1
        )
        captions = texts([template.replace("{c}", name) for name in classes for template in templates or own])
        pixels, labels = [], []
        for record in draw_labelled(card, images=images, seed=seed):
            try:
                pixels.append(loaded.preprocess(read_image(record)))
            except ImageError:
                continue
            labels.append(int(record["label"]))
        embedding = torch.empty(0, class_embedding.shape[1])
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
    )


def embed_for_peers(
    model: Card,
    datasets: Sequence[Card],
    *,
    images: int,
    seed: int = 0,
    cache: str | None = None,
    device: str = "auto",
    threads: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, PeerFeatures]:
    """Load a model once and embed every dataset; nothing where the model or a dataset failed.

    Parameters
    ----------
    model : model card. datasets : dataset cards.
    images, seed : as in `embed_dataset`.
    cache, device : as in `vlmrank.zoo.load_model`.
    threads : for torch.
    say : takes a line of progress.
    """
    if model.get("status") != OK:
        return {card["dataset"]: PeerFeatures() for card in datasets}
    import torch

    from vlmrank.models.load import load_from_card

    torch.set_num_threads(threads)
    loaded = load_from_card(model, cache=cache, device=device)
    templates = caption_templates(datasets, seed=seed)
    found = {}
    for card in datasets:
        good = card.get("status") == OK
        name = card["dataset"]
        found[name] = embed_dataset(loaded, card, templates, images=images, seed=seed) if good else PeerFeatures()
    say(f"{model['model']}: {sum(len(one.labels) for one in found.values())} labelled images embedded for the peers")
    return found


def write_features(path: str | os.PathLike[str], features: Mapping[str, PeerFeatures]) -> None:
    """Write one model's features as HDF5, a group a dataset."""
    with create_hdf5(path, "features") as file:
        for name, one in features.items():
            group = file.create_group(name)
            group["labels"] = one.labels
            for array in ("embedding", "logits", "captions", "class_embedding"):
                group[array] = np.asarray(getattr(one, array), np.float32)


def read_features(path: str | os.PathLike[str]) -> dict[str, PeerFeatures]:
    """Read one model's features."""
    with open_hdf5(path, "features") as file:
        return {
            name: PeerFeatures(**{array: values[()] for array, values in group.items()}) for name, group in file.items()
        }
