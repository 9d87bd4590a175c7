"""captum's `LayerConductance`, one block a call: the reference implementation, for whoever wants it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from captum.attr import LayerConductance
from torch import Tensor

from vlmrank.conductance.accumulate import channel_sum
from vlmrank.errors import VlmrankError
from vlmrank.models.blocks import Block


def captum_conductance(
    forward: Callable[[Tensor], Tensor],
    blocks: Sequence[Block],
    images: Tensor,
    baseline: Tensor,
    scalar: Callable[[Tensor, Tensor], Tensor],
    alphas: np.ndarray,
    chunk_size: int | None = None,
) -> tuple[list[Tensor], Tensor]:
    """Return channel conductances [K, C_b] of each block and scores [K, 2], with captum's rule and uniform nodes.

    captum keeps its nodes (rounded to float32) but drops its weights: sum_j g_j (h_{j+1} - h_j).

    Parameters
    ----------
    as in `vlmrank.conductance.layer.layer_conductance`; `alphas` must be equally spaced.

    Raises
    ------
    VlmrankError : the nodes are not equally spaced.
    """
    steps = len(alphas) - 1
    if not np.allclose(alphas, np.linspace(0, 1, steps + 1), rtol=0, atol=1e-12):
        raise VlmrankError("captum's LayerConductance takes equally spaced nodes only: set nodes to uniform")
    rows = torch.arange(len(images), device=images.device)

    def function(samples: Tensor, which: Tensor) -> Tensor:
        return scalar(forward(samples), which)

    values = []
    for block in blocks:
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
        values.append(channel_sum(attribution.detach(), block.axis).double())
    with torch.no_grad():
        score = torch.stack([function(images, rows), function(baseline, rows)], 1).double()
    return values, score
