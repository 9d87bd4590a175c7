"""Conductance of one loaded model on several datasets: a `Pair` each, as soon as it is ready."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import vlmrank
from vlmrank.blocks import visual_blocks
from vlmrank.conductance import layer_conductance
from vlmrank.errors import FailedPair, VlmrankError
from vlmrank.objective import embedding_objective, zero_shot_objective
from vlmrank.quadrature import arc_length_alphas, uniform_alphas
from vlmrank.store import FAILED, OK, Pair

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConductanceOptions:
    """How conductance is computed: the `conductance` section of the config, key by key.

    Attributes
    ----------
    objective : `zero-shot` (falls back to `embedding` where a dataset has no classes) or `embedding`.
    baseline : `black`, `mean` (the mean of the dataset's images, pixel by pixel) or `blur`.
    nodes : `arc-length` or `uniform`.
    points : number of path steps n.
    tolerance : None, or the relative change of the attributions below which the path is not refined further.
    max_points : ceiling of the refinement.
    precision : `float32`, `tf32`, `bfloat16` or `float64`.
    device : `auto`, `cpu` or `cuda`.
    engine : `vlmrank` or `captum`.
    batch : `auto`, or samples a pass.
    seed : stored with the result; nothing here is random.
    """

    objective: str = "zero-shot"
    baseline: str = "black"
    nodes: str = "arc-length"
    points: int = 16
    tolerance: float | None = None
    max_points: int = 256
    precision: str = "float32"
    device: str = "auto"
    engine: str = "vlmrank"
    batch: int | str = "auto"
    seed: int = 0


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
    failed_images : image identifier -> reason, of images that could not even be decoded.
    attributes : further attributes to store with the pair.
    """

    dataset: str
    images: Sequence[Image.Image] | Tensor
    image_ids: Sequence[str]
    classes: Sequence[str] = ()
    templates: Sequence[str] = ("a photo of a {c}.",)
    failed_images: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


@torch.no_grad()
def _class_embeddings(model: nn.Module, tokenizer, classes, templates, device, batch: int = 256) -> Tensor:
    prompts = [template.replace("{c}", name) for name in classes for template in templates]
    parts = [model.encode_text(tokenizer(prompts[i : i + batch]).to(device)) for i in range(0, len(prompts), batch)]
    embedding = F.normalize(torch.cat(parts), dim=-1).view(len(classes), len(templates), -1).mean(1)
    return F.normalize(embedding, dim=-1)


def _baseline(kind: str, images: Tensor, preprocess) -> Tensor:
    if kind == "black":
        black = preprocess(Image.new("RGB", (images.shape[-1], images.shape[-2])))
        return black.to(images)[None]
    if kind == "mean":
        return images.mean(0, keepdim=True)
    if kind == "blur":
        from torchvision.transforms.functional import gaussian_blur

        sigma = images.shape[-1] / 16
        size = 2 * min(int(3 * sigma), (min(images.shape[-2:]) - 1) // 2) + 1
        return gaussian_blur(images, [size, size], [sigma, sigma])
    raise VlmrankError(f"baseline {kind!r} is none of black, mean, blur")


def _compute(loaded, task: PairTask, options: ConductanceOptions) -> Pair:
    device = next(loaded.visual.parameters()).device
    dtype = next(loaded.visual.parameters()).dtype
    if isinstance(task.images, Tensor):
        images = task.images
    else:
        if not len(task.images):
            raise FailedPair("no image could be used")
        images = torch.stack([loaded.preprocess(image) for image in task.images])
    if not len(images):
        raise FailedPair("no image could be used")
    images = images.to(device, dtype)
    model = loaded.model
    blocks = visual_blocks(loaded.visual)
    paths = {id(module): path for path, module in model.named_modules()}
    baseline = _baseline(options.baseline, images, loaded.preprocess)
    batch = None if options.batch == "auto" else int(options.batch)
    with torch.no_grad():
        embedding = torch.cat([model.encode_image(part) for part in images.split(batch or 16)])
    class_embedding = None
    if options.objective == "zero-shot" and len(task.classes):
        class_embedding = _class_embeddings(model, loaded.tokenizer, task.classes, task.templates, device)
        objective = zero_shot_objective(embedding, class_embedding, model.logit_scale.exp().item())
    else:
        objective = embedding_objective(embedding)
    if options.nodes == "uniform":
        alphas = uniform_alphas(options.points)
    else:
        alphas = arc_length_alphas(
            model.encode_image, blocks, images, baseline.expand_as(images), points=options.points
        )
    result = layer_conductance(
        model.encode_image, blocks, images, baseline, scalar=objective, alphas=alphas, chunk_size=batch
    )
    finite = torch.stack([values.isfinite().all(-1) for values in result.blocks.values()]).all(0)
    finite = (finite & result.score.isfinite().all(-1)).numpy()
    failed = dict(task.failed_images)
    failed |= {task.image_ids[k]: "a block's output or gradient is not finite" for k in np.flatnonzero(~finite)}
    if not finite.any():
        raise FailedPair("block outputs or gradients are not finite for any image")

    def rows(value: Tensor | None) -> np.ndarray | None:
        return None if value is None else value.float().cpu().numpy()[finite]

    return Pair(
        blocks={paths[id(b.module)]: rows(result.blocks[b.path]) for b in blocks},
        score=result.score.numpy()[finite],
        delta=rows(result.delta),
        pseudo_label=objective.pseudo_label.cpu().numpy()[finite],
        image_id=[task.image_ids[k] for k in np.flatnonzero(finite)],
        alphas=result.alphas,
        logits=rows(objective.logits),
        embedding=rows(F.normalize(embedding, dim=-1)),
        class_embedding=None if class_embedding is None else class_embedding.float().cpu().numpy(),
        failed_images=failed,
        attributes={"objective": objective.name},
    )


def compute_pairs(loaded, tasks: Iterable[PairTask], options: ConductanceOptions) -> Iterator[Pair]:
    """Yield one `Pair` a task, in order, as soon as it is ready; a task that fails yields a failed pair.

    Parameters
    ----------
    loaded : a `vlmrank.zoo.LoadedModel`: model, tokenizer, preprocess, visual, card.
    tasks : datasets; may be a generator, it is drawn from one at a time.
    options : how conductance is computed.
    """
    card = loaded.card
    for task in tasks:
        started = time.perf_counter()
        try:
            pair = _compute(loaded, task, options)
            status, reason = OK, ""
        except (VlmrankError, RuntimeError, ValueError, MemoryError) as error:
            if not isinstance(error, VlmrankError):
                logger.exception("%s", task.dataset)
            pair, status = Pair(failed_images=dict(task.failed_images)), FAILED
            reason = str(error) or type(error).__name__
        parameter = next(loaded.visual.parameters())
        attributes = {
            **{key: card.get(key, "") for key in ("model", "architecture", "pretrained", "preprocess")},
            "weights_sha256": card.get("weights_sha256", ""),
            "dataset": task.dataset,
            "objective": options.objective,
            "baseline": options.baseline,
            "quadrature": f"{options.nodes} trapezoid" if options.engine == "vlmrank" else "uniform left",
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
                "python": platform.python_version(),
            },
            **pair.attributes,
            **task.attributes,
            "seconds": time.perf_counter() - started,
            "status": status,
            "reason": reason,
        }
        yield Pair(**{**vars(pair), "attributes": attributes})
