"""Compute one loaded model on several datasets: predictions, embeddings and conductance of each pair."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import vlmrank
from vlmrank.conductance.layer import Conductance
from vlmrank.conductance.memory import map_chunks
from vlmrank.conductance.objective import Objective, embedding_objective, zero_shot_objective
from vlmrank.conductance.options import ConductanceOptions
from vlmrank.conductance.path import ModelPath, conductance_on_path, lay_path
from vlmrank.datasets.prompts import DEFAULT_TEMPLATES
from vlmrank.errors import FailedPair, VlmrankError, reason_of
from vlmrank.models.blocks import visual_blocks
from vlmrank.models.precision import at_least_float32, in_precision
from vlmrank.models.texts import class_embeddings
from vlmrank.store import FAILED, OK, Pair
from vlmrank.store.rows import merge_rows

logger = logging.getLogger(__name__)
NOTHING = 1e-6  # of the score: conductance that is no more than rounding
FURTHER = 64  # images held at once of those that are only predicted


@dataclass(frozen=True)
class PairTask:
    """One dataset for one model.

    Attributes
    ----------
    dataset : its slug.
    images : K PIL images, or a preprocessed tensor [K, 3, H, W].
    image_ids : K identifiers.
    classes : class names; empty where there are none.
    templates : prompts with `{c}` for the class name.
    failed_images : image identifier -> reason, for images that could not be decoded.
    further : identifiers and pictures that are only predicted; taken one at a time, so that thousands need no memory. A
        `VlmrankError` in place of a picture says why there is none.
    sha256 : identifier -> hash of the image's content.
    known : rows of images that are not among `images` or whose prediction is known already.
    attributes : further attributes to store with the pair.
    """

    dataset: str
    images: Sequence[Image.Image] | Tensor
    image_ids: Sequence[str]
    classes: Sequence[str] = ()
    templates: Sequence[str] = DEFAULT_TEMPLATES
    failed_images: Mapping[str, str] = field(default_factory=dict)
    further: Iterable[tuple[str, Image.Image | Tensor | VlmrankError]] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)
    known: Pair | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


def _text_embeddings(loaded, task: PairTask) -> Tensor:
    templates = list(task.templates) or list(DEFAULT_TEMPLATES)
    return class_embeddings(loaded.model, loaded.tokenizer, list(task.classes), templates)


def _tensor(loaded, picture: Image.Image | Tensor | VlmrankError) -> Tensor:
    if isinstance(picture, VlmrankError):
        raise picture
    return picture if isinstance(picture, Tensor) else loaded.preprocess(picture)


def _preprocess(loaded, task: PairTask) -> tuple[Tensor | None, list[str], dict[str, str]]:
    """Return images [K, 3, H, W] if there are any, their identifiers, and the reasons for those that cannot be used."""
    failed = dict(task.failed_images)
    if len(task.images) != len(task.image_ids):
        raise VlmrankError(f"{task.dataset}: {len(task.images)} images but {len(task.image_ids)} identifiers")
    tensors, names = [], []
    for image, name in zip(task.images, task.image_ids, strict=True):
        try:
            tensors.append(_tensor(loaded, image))
            names.append(name)
        except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for a broken image
            failed[name] = f"cannot be decoded: {error}"
    return (torch.stack(tensors) if tensors else None), names, failed


def _unusable(result: Conductance) -> dict[int, str]:
    """Images with a value that is not finite, with the first block that has one, or without any conductance."""
    mass = torch.stack([values.abs().sum(-1) for values in result.blocks.values()], -1).amax(-1)
    still = "its conductance is zero in every block: the score does not change on the way from the baseline"
    reasons = dict.fromkeys((mass <= NOTHING * result.score.abs().amax(-1)).nonzero()[:, 0].tolist(), still)
    for path, values in result.blocks.items():
        for k in (~values.isfinite().all(-1)).nonzero()[:, 0].tolist():
            reasons.setdefault(k, f"block {path}: output or gradient is not finite")
    for k in (~result.score.isfinite().all(-1)).nonzero()[:, 0].tolist():
        reasons.setdefault(k, "the objective is not finite")
    return reasons


def _objective(
    loaded, task: PairTask, embedding: Tensor, options: ConductanceOptions
) -> tuple[Objective, Tensor | None]:
    """The objective for embeddings [N, D], and the class-text embeddings where there are classes."""
    if options.objective not in ("zero-shot", "embedding"):
        raise VlmrankError(f"objective {options.objective!r} is none of zero-shot, embedding")
    if options.objective == "embedding" or not len(task.classes):
        return embedding_objective(embedding), None
    texts = _text_embeddings(loaded, task).to(embedding)
    return zero_shot_objective(embedding, texts, loaded.model.logit_scale.exp().item()), texts


def _embeddings(loaded, task: PairTask, images: Tensor | None, dtype: torch.dtype, chunk: int, failed: dict[str, str]):
    """Embeddings [N, D] of the images and of the further ones, if there are any, and identifiers of the latter."""
    device = next(loaded.visual.parameters()).device
    names: list[str] = []
    waiting: list[Tensor] = []
    found: list[Tensor] = []

    def embed(batch: Tensor) -> None:
        with torch.no_grad():
            found.append(map_chunks(loaded.model.encode_image, batch.to(device, dtype), chunk=chunk))

    if images is not None:
        embed(images)
    for name, picture in task.further:
        try:
            waiting.append(_tensor(loaded, picture))
            names.append(name)
        except (OSError, ValueError, SyntaxError, VlmrankError) as error:
            failed[name] = f"cannot be decoded: {error}" if not isinstance(error, VlmrankError) else str(error)
        if len(waiting) >= FURTHER:
            embed(torch.stack(waiting))
            waiting.clear()
    if waiting:
        embed(torch.stack(waiting))
    return (at_least_float32(torch.cat(found)) if found else None), names


def _attributed(
    loaded, path: ModelPath, images: Tensor, names: Sequence[str], objective: Objective, options: ConductanceOptions
) -> tuple[Pair, dict[str, str]]:
    """The conductance of images, and the reasons for those that have none."""
    batch = None if options.batch == "auto" else int(options.batch)
    result = conductance_on_path(loaded, path, images, scalar=objective, options=options, chunk_size=batch)
    reasons = _unusable(result)
    good = [k for k in range(len(names)) if k not in reasons]
    paths = {id(module): name for name, module in loaded.model.named_modules()}
    pair = Pair(
        blocks={paths[id(block.module)]: _array(result.blocks[block.path], good) for block in path.blocks},
        score=result.score.numpy()[good],
        delta=_array(result.delta, good),
        pseudo_label=objective.pseudo_label.cpu().numpy()[good],
        image_id=[names[k] for k in good],
        alphas=result.alphas,
        error=_array(result.error, good),
    )
    return pair, {names[k]: reason for k, reason in reasons.items()}


def _array(value: Tensor | None, rows: Sequence[int]) -> np.ndarray | None:
    return None if value is None else value.float().cpu().numpy()[rows]


def _compute(loaded, path: ModelPath, task: PairTask, options: ConductanceOptions, dtype: torch.dtype) -> Pair:
    """Compute the rows that are not known yet, and merge them with the known ones."""
    images, names, failed = _preprocess(loaded, task)
    chunk = 16 if options.batch == "auto" else int(options.batch)
    embedding, further = _embeddings(loaded, task, images, dtype, chunk, failed)
    pair, objective = Pair(), None
    if embedding is not None:
        objective, texts = _objective(loaded, task, embedding, options)
        predicted = [*names, *further]
        if images is not None:
            place = next(loaded.visual.parameters()).device
            pair, lost = _attributed(loaded, path, images.to(place, dtype), names, objective, options)
            failed |= lost
        finite = embedding.isfinite().all(-1).tolist()
        failed = {predicted[k]: "its embedding is not finite" for k, fine in enumerate(finite) if not fine} | failed
        seen = [k for k, fine in enumerate(finite) if fine]
        pair = replace(
            pair,
            predicted_id=[predicted[k] for k in seen],
            predicted_sha256=[task.sha256.get(predicted[k], "") for k in seen],
            logits=_array(objective.logits, seen),
            embedding=_array(F.normalize(embedding, dim=-1), seen),
            class_embedding=None if texts is None else texts.float().cpu().numpy(),
        )
    anew = {"attributed_anew": len(names), "predicted_anew": len(names) + len(further)}
    if task.known is not None:
        pair = merge_rows(task.known, pair, list(task.sha256))
    if not len(pair.image_id):
        first = next((f"; {name}: {failed[name]}" for name in task.image_ids if name in failed), "")
        raise FailedPair(f"no image could be used{first}")
    named = objective.name if objective is not None else pair.attributes["objective"]
    nodes = options.nodes if options.engine == "vlmrank" else "uniform"
    attributes = {"objective": named, "quadrature": f"{nodes} {path.rule}, {len(pair.alphas) - 1} steps", **anew}
    return replace(pair, failed_images=failed, attributes=attributes)


def compute_pairs(loaded, tasks: Iterable[PairTask], options: ConductanceOptions) -> Iterator[Pair]:
    """Yield one `Pair` per task, in order, as soon as it is ready; a task that fails yields a failed pair.

    Parameters
    ----------
    loaded : a `vlmrank.zoo.LoadedModel`: model, tokenizer, preprocess, visual, card.
    tasks : datasets; may be a generator, which is read one at a time.
    options : how conductance is computed.
    """
    card = loaded.card
    loaded.model.eval()
    path: ModelPath | None = None
    device = next(loaded.visual.parameters()).device
    for task in tasks:
        started = time.perf_counter()
        try:
            with in_precision(options.precision, device) as dtype:
                loaded.model.to(dtype)
                path = path or lay_path(loaded, visual_blocks(loaded.visual), options, dtype)
                pair = _compute(loaded, path, task, options, dtype)
            status, reason = OK, ""
        except (VlmrankError, RuntimeError, ValueError, MemoryError) as error:
            if not isinstance(error, VlmrankError):
                logger.exception("%s", task.dataset)
            pair, status = Pair(failed_images=dict(task.failed_images)), FAILED
            reason = reason_of(error)
        parameter = next(loaded.visual.parameters())
        attributes = {
            **{key: card.get(key, "") for key in ("model", "architecture", "pretrained", "preprocess")},
            "weights_sha256": card.get("weights_sha256", ""),
            "dataset": task.dataset,
            "objective": options.objective,
            "baseline": options.baseline,
            "quadrature": options.nodes,
            "precision": options.precision,
            "device": torch.cuda.get_device_name(parameter.device) if parameter.is_cuda else "cpu",
            "seed": options.seed,
            "class_names": list(task.classes),
            "templates": list(task.templates),
            "code": "",
            "versions": {
                "vlmrank": vlmrank.__version__,
                "torch": torch.__version__,
                "open_clip": open_clip.__version__,
                "timm": metadata.version("timm"),
                "pillow": metadata.version("pillow"),
                "python": platform.python_version(),
            },
            **pair.attributes,
            **task.attributes,
            "seconds": time.perf_counter() - started,
            "status": status,
            "reason": reason,
        }
        yield Pair(**{**vars(pair), "attributes": attributes})
