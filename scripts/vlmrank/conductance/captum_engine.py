"""captum's `LayerConductance`, one block per call: the reference implementation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from captum.attr import LayerConductance
from torch import Tensor

from vlmrank.conductance.accumulate import channel_sum
from vlmrank.conductance.layer import Conductance, check_alphas, gather
from vlmrank.conductance.passes import Forward, Scalar, network_parts
from vlmrank.conductance.strides import safe_batch_norms
from vlmrank.errors import VlmrankError
from vlmrank.models.blocks import Block


def captum_conductance(
    forward: Forward,
    blocks: Sequence[Block],
    images: Tensor,
    baseline: Tensor,
    *,
    scalar: Scalar,
    alphas: Sequence[float] | np.ndarray,
    chunk_size: int | None = None,
) -> Conductance:
    """Compute what `layer_conductance` computes with the rule `left`, by captum's `LayerConductance`, block by block.

    captum keeps its nodes (rounded to float32) but drops its weights: sum_j g_j (h_{j+1} - h_j).

    Parameters
    ----------
    as in `vlmrank.conductance.layer.layer_conductance`; `alphas` must be equally spaced.

    Raises
    ------
    VlmrankError : the nodes are not equally spaced, or captum returns something other than a tensor of the channels.
    """
    alphas = check_alphas(alphas)
    steps = len(alphas) - 1
    if not np.allclose(alphas, np.linspace(0, 1, steps + 1), rtol=0, atol=1e-12):
        raise VlmrankError("captum's LayerConductance takes equally spaced nodes only: set nodes to uniform")
    rows = torch.arange(len(images), device=images.device)
    baseline = baseline.to(images).expand_as(images)

    def function(samples: Tensor, which: Tensor) -> Tensor:
        return scalar(forward(samples), which)

    with safe_batch_norms(network_parts(forward, blocks)):
        values = [_attribute(function, block, images, baseline, rows, steps, chunk_size) for block in blocks]
        with torch.no_grad():
            score = torch.stack([function(images, rows), function(baseline, rows)], 1).double()
    return gather(blocks, values, score, alphas, chunk_size=chunk_size or len(images) * len(alphas))


def _attribute(
    function: Scalar,
    block: Block,
    images: Tensor,
    baseline: Tensor,
    rows: Tensor,
    steps: int,
    chunk_size: int | None,
) -> Tensor:
    attribution = LayerConductance(function, block.module).attribute(
        images,
        baselines=baseline,
        additional_forward_args=rows,
        n_steps=steps,
        method="riemann_trapezoid",
        internal_batch_size=chunk_size,
    )
    if not isinstance(attribution, Tensor) or attribution.shape[block.axis] != block.channels:
        raise VlmrankError(f"block {block.path}: captum returned no tensor with {block.channels} channels")
    return channel_sum(attribution.detach(), block.axis).double()
