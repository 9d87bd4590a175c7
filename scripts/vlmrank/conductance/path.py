"""The integration path of a model: baseline image, quadrature rule and path points, fixed by probe images.

Nothing here depends on the images that are attributed, so a result does not depend on which images are computed
together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from vlmrank.conductance.adaptive import Refinement, refine_conductance
from vlmrank.conductance.layer import Conductance, layer_conductance
from vlmrank.conductance.memory import Footprint
from vlmrank.conductance.objective import embedding_objective
from vlmrank.conductance.options import ConductanceOptions
from vlmrank.conductance.passes import Scalar
from vlmrank.conductance.probes import probe_images
from vlmrank.conductance.quadrature import arc_length_curve, path_positions, uniform_curve
from vlmrank.conductance.secant_relu import is_piecewise_linear
from vlmrank.errors import VlmrankError
from vlmrank.models.blocks import Block

logger = logging.getLogger(__name__)
TRIAL_POINTS = 4  # steps of the trial run of the secant rule; its sums agree for any number


@dataclass(frozen=True)
class ModelPath:
    """Blocks, rule and points of one model.

    Attributes
    ----------
    blocks : residual blocks of the visual encoder.
    rule : of `vlmrank.conductance.quadrature`.
    curve : t -> alpha, along which the block outputs move at an even speed.
    footprint : memory per sample, known after the first pass.
    """

    blocks: tuple[Block, ...]
    rule: str
    curve: Callable[[np.ndarray], np.ndarray]
    footprint: Footprint = field(default_factory=Footprint)


def baseline_images(kind: str, images: Tensor, preprocess: Callable[[Image.Image], Tensor]) -> Tensor:
    """Return where the paths to images [K, 3, H, W] start: the `black` image, their `mean`, or each one's `blur`."""
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


def choose_rule(options: ConductanceOptions, blocks: Sequence[Block]) -> str:
    """Return the quadrature rule: `left` for captum; `auto` is secant for towers of ReLU and linear layers."""
    if options.engine == "captum":
        return "left"
    if options.rule != "auto":
        return options.rule
    return "secant" if is_piecewise_linear(blocks) else "clenshaw-curtis"


def lay_path(loaded: Any, blocks: Sequence[Block], options: ConductanceOptions, dtype: torch.dtype) -> ModelPath:
    """Lay out the path of a loaded model.

    Parameters
    ----------
    loaded : a `vlmrank.zoo.LoadedModel`.
    blocks : of its visual encoder.
    options : how conductance is computed.
    dtype : of the images.
    """
    rule, encode = choose_rule(options, blocks), loaded.model.encode_image
    spread = options.nodes == "arc-length" and options.engine == "vlmrank"
    if not spread and rule != "secant":
        return ModelPath(tuple(blocks), rule, uniform_curve)
    device = next(loaded.visual.parameters()).device
    probes = torch.stack([loaded.preprocess(picture) for picture in probe_images()]).to(device, dtype)
    baseline = baseline_images(options.baseline, probes, loaded.preprocess)
    curve = uniform_curve
    if spread:
        curve = arc_length_curve(encode, blocks, probes, baseline, images_probed=len(probes), batch=8)
    if rule == "secant" and options.precision != "bfloat16":
        with torch.no_grad():
            objective = embedding_objective(encode(probes))
        alphas = curve(path_positions(TRIAL_POINTS, rule))
        trial = layer_conductance(encode, blocks, probes, baseline, scalar=objective, alphas=alphas, rule=rule)
        if not _sums_agree(trial):
            logger.warning("the blocks are not of ReLU and linear layers; clenshaw-curtis instead of secant")
            rule = "clenshaw-curtis"
    return ModelPath(tuple(blocks), rule, curve)


def conductance_on_path(
    loaded: Any,
    path: ModelPath,
    images: Tensor,
    *,
    scalar: Scalar,
    options: ConductanceOptions,
    chunk_size: int | None = None,
) -> Conductance:
    """Conductance of all blocks for images [K, 3, H, W] along a model's path.

    Parameters
    ----------
    loaded, options : as in `lay_path`.
    scalar, chunk_size : as in `vlmrank.conductance.layer.layer_conductance`.
    """
    arguments: dict[str, Any] = {"scalar": scalar, "chunk_size": chunk_size}
    baseline = baseline_images(options.baseline, images, loaded.preprocess)
    encode, blocks = loaded.model.encode_image, path.blocks
    if options.tolerance is not None:
        if options.engine == "captum":
            raise VlmrankError("captum's engine takes a fixed number of points: set tolerance to null")
        refinement = Refinement(path.curve, options.points, options.tolerance, options.max_points)
        return refine_conductance(encode, blocks, images, baseline, refinement, rule=path.rule, **arguments)
    alphas = path.curve(path_positions(options.points, path.rule))
    if options.engine == "captum":
        from vlmrank.conductance.captum_engine import captum_conductance  # slow to import and rarely needed

        return captum_conductance(encode, blocks, images, baseline, alphas=alphas, **arguments)
    # On a CPU the last digits must not depend on what a process computed before; on a GPU measuring costs too much.
    known = path.footprint if images.is_cuda else Footprint()
    arguments |= {"rule": path.rule, "chunk_size": chunk_size or known}
    return layer_conductance(encode, blocks, images, baseline, alphas=alphas, **arguments)


def _sums_agree(result: Conductance) -> bool:
    """Whether all blocks sum to the same number, as the secant rule guarantees for ReLU and linear layers."""
    sums = torch.stack([values.sum(-1) for values in result.blocks.values()], -1)
    mass = torch.stack([values.abs().sum(-1) for values in result.blocks.values()], -1).mean(-1)
    spread = sums.amax(-1) - sums.amin(-1)
    return bool((~spread.isfinite() | (spread <= 1e-2 * mass + 1e-12)).all())
