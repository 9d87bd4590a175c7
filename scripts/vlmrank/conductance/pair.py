"""Conductance of one loaded model on several datasets: a `Pair` each, as soon as it is ready."""

from __future__ import annotations

import contextlib
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
from torchvision.transforms.functional import gaussian_blur

import vlmrank
from vlmrank.conductance.accumulate import at_least_float32
from vlmrank.conductance.adaptive import refine_conductance
from vlmrank.conductance.layer import Conductance, layer_conductance
from vlmrank.conductance.memory import map_chunks
from vlmrank.conductance.objective import embedding_objective, zero_shot_objective
from vlmrank.conductance.quadrature import arc_length_curve, path_positions, uniform_curve
from vlmrank.conductance.secant_relu import is_piecewise_linear
from vlmrank.datasets.prompts import DEFAULT_TEMPLATES, class_embeddings
from vlmrank.errors import FailedPair, VlmrankError
from vlmrank.models.blocks import Block, visual_blocks
from vlmrank.store import FAILED, OK, Pair

logger = logging.getLogger(__name__)
PRECISIONS = ("float32", "tf32", "bfloat16", "float64")


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
    rule : `auto`, or a rule of `vlmrank.conductance.quadrature`.
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
    rule: str = "auto"
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


def _text_embeddings(loaded, task: PairTask) -> Tensor:
    templates = list(task.templates) or list(DEFAULT_TEMPLATES)
    return class_embeddings(loaded.model, loaded.tokenizer, list(task.classes), templates)


def _baseline(kind: str, images: Tensor, preprocess) -> Tensor:
    if kind == "black":
        black = preprocess(Image.new("RGB", (images.shape[-1], images.shape[-2])))
        return black.to(images)[None].expand_as(images)
    if kind == "mean":
        return images.mean(0, keepdim=True).expand_as(images)
    if kind == "blur":
        sigma = images.shape[-1] / 16
        size = 2 * min(int(3 * sigma), (min(images.shape[-2:]) - 1) // 2) + 1
        return gaussian_blur(images, [size, size], [sigma, sigma])
    raise VlmrankError(f"baseline {kind!r} is none of black, mean, blur")


@contextlib.contextmanager
def in_precision(name: str, device: torch.device) -> Iterator[torch.dtype]:
    """Run the towers in a precision; yields the dtype of weights and images.

    `float32` is the same arithmetic on every device, `tf32` lets a GPU round the factors of matrix products and
    convolutions to 10 bits, `bfloat16` runs those operations under autocast and keeps the rest, the residual stream of
    transformers included, in float32.
    """
    if name not in PRECISIONS:
        raise VlmrankError(f"precision {name!r} is none of {', '.join(PRECISIONS)}")
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolution.allow_tf32
    matmul.allow_tf32 = convolution.allow_tf32 = name == "tf32"
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=name == "bfloat16"):
            yield torch.float64 if name == "float64" else torch.float32
    finally:
        matmul.allow_tf32, convolution.allow_tf32 = before


def _preprocess(loaded, task: PairTask) -> tuple[Tensor, list[str], dict[str, str]]:
    """Return images [K, 3, H, W], their identifiers, and the reasons for those that could not be used."""
    failed = dict(task.failed_images)
    if len(task.images) != len(task.image_ids):
        raise VlmrankError(f"{task.dataset}: {len(task.images)} images but {len(task.image_ids)} identifiers")
    tensors, names = [], []
    for image, name in zip(task.images, task.image_ids, strict=True):
        try:
            tensors.append(image if isinstance(image, Tensor) else loaded.preprocess(image))
            names.append(name)
        except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for a broken image
            failed[name] = f"cannot be decoded: {error}"
    if not tensors:
        raise FailedPair("no image could be used")
    return torch.stack(tensors), names, failed


def choose_rule(options: ConductanceOptions, blocks: Sequence[Block]) -> str:
    """Return the quadrature rule: captum has one; `auto` is secant for towers of ReLU and linear layers."""
    if options.engine == "captum":
        return "left"
    if options.rule != "auto":
        return options.rule
    return "secant" if is_piecewise_linear(blocks) else "clenshaw-curtis"


def _conductance(model: nn.Module, blocks, images, baseline, objective, options, rule: str, batch) -> Conductance:
    curve = uniform_curve
    if options.nodes == "arc-length" and options.engine == "vlmrank":
        curve = arc_length_curve(model.encode_image, blocks, images, baseline, batch=batch or 8)
    if options.tolerance is not None:
        if options.engine == "captum":
            raise VlmrankError("captum's engine takes a fixed number of points: set tolerance to null")
        return refine_conductance(
            model.encode_image,
            blocks,
            images,
            baseline,
            scalar=objective,
            curve=curve,
            points=options.points,
            tolerance=options.tolerance,
            max_points=options.max_points,
            rule=rule,
            chunk_size=batch,
        )
    return layer_conductance(
        model.encode_image,
        blocks,
        images,
        baseline,
        scalar=objective,
        alphas=curve(path_positions(options.points, rule)),
        rule=rule,
        chunk_size=batch,
        engine=options.engine,
    )


def _sums_agree(result: Conductance) -> bool:
    """Whether all blocks sum to the same number, as the secant rule guarantees for ReLU and linear layers."""
    sums = torch.stack([values.sum(-1) for values in result.blocks.values()], -1)
    mass = torch.stack([values.abs().sum(-1) for values in result.blocks.values()], -1).mean(-1)
    spread = sums.amax(-1) - sums.amin(-1)
    return bool((~spread.isfinite() | (spread <= 1e-2 * mass + 1e-12)).all())


def _unusable(result: Conductance) -> dict[int, str]:
    """Images with a value that is not finite, with the first block that has one, or without any conductance."""
    moved = torch.stack([values.abs().amax(-1) for values in result.blocks.values()], -1).amax(-1)
    still = "its conductance is zero in every block: the score does not change on the way from the baseline"
    reasons = dict.fromkeys((moved == 0).nonzero()[:, 0].tolist(), still)
    for path, values in result.blocks.items():
        for k in (~values.isfinite().all(-1)).nonzero()[:, 0].tolist():
            reasons.setdefault(k, f"block {path}: output or gradient is not finite")
    for k in (~result.score.isfinite().all(-1)).nonzero()[:, 0].tolist():
        reasons.setdefault(k, "the objective is not finite")
    return reasons


def _compute(loaded, blocks: Sequence[Block], task: PairTask, options: ConductanceOptions) -> Pair:
    model = loaded.model
    device = next(loaded.visual.parameters()).device
    images, names, failed = _preprocess(loaded, task)
    paths = {id(module): path for path, module in model.named_modules()}
    batch = None if options.batch == "auto" else int(options.batch)
    with in_precision(options.precision, device) as dtype:
        model.to(dtype)
        images = images.to(device, dtype)
        baseline = _baseline(options.baseline, images, loaded.preprocess)
        with torch.no_grad():
            embedding = map_chunks(model.encode_image, images, chunk=batch or 16)
        embedding = at_least_float32(embedding)
        class_embedding = None
        if options.objective == "zero-shot" and len(task.classes):
            class_embedding = _text_embeddings(loaded, task).to(embedding)
            objective = zero_shot_objective(embedding, class_embedding, model.logit_scale.exp().item())
        elif options.objective in ("zero-shot", "embedding"):
            objective = embedding_objective(embedding)
        else:
            raise VlmrankError(f"objective {options.objective!r} is none of zero-shot, embedding")
        rule = choose_rule(options, blocks)
        result = _conductance(model, blocks, images, baseline, objective, options, rule, batch)
        if rule == "secant" and options.precision != "bfloat16" and not _sums_agree(result):
            logger.warning("%s: blocks are not of ReLU and linear layers; clenshaw-curtis instead", task.dataset)
            rule = "clenshaw-curtis"
            result = _conductance(model, blocks, images, baseline, objective, options, rule, batch)
    reasons = _unusable(result)
    failed |= {names[k]: reason for k, reason in reasons.items()}
    good = [k for k in range(len(names)) if k not in reasons]
    if not good:
        raise FailedPair(f"no image could be used; {names[0]}: {reasons[0]}")

    def rows(value: Tensor | None) -> np.ndarray | None:
        return None if value is None else value.float().cpu().numpy()[good]

    nodes = options.nodes if options.engine == "vlmrank" else "uniform"
    return Pair(
        blocks={paths[id(block.module)]: rows(result.blocks[block.path]) for block in blocks},
        score=result.score.numpy()[good],
        delta=rows(result.delta),
        pseudo_label=objective.pseudo_label.cpu().numpy()[good],
        image_id=[names[k] for k in good],
        alphas=result.alphas,
        logits=rows(objective.logits),
        embedding=rows(F.normalize(embedding, dim=-1)),
        class_embedding=None if class_embedding is None else class_embedding.float().cpu().numpy(),
        error=rows(result.error),
        failed_images=failed,
        attributes={"objective": objective.name, "quadrature": f"{nodes} {rule}, {len(result.alphas) - 1} steps"},
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
    loaded.model.eval()
    blocks: tuple[Block, ...] = ()
    for task in tasks:
        started = time.perf_counter()
        try:
            blocks = blocks or visual_blocks(loaded.visual)
            pair = _compute(loaded, blocks, task, options)
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
                "python": platform.python_version(),
            },
            **pair.attributes,
            **task.attributes,
            "seconds": time.perf_counter() - started,
            "status": status,
            "reason": reason,
        }
        yield Pair(**{**vars(pair), "attributes": attributes})
