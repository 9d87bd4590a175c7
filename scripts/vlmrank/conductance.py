"""Layer conductance of every block of a network in one pass per path point.

The conductance of channel c of block b for image k is

    c[k, b, c] = sum over positions p of  integral from 0 to 1 of  dF_k/dh_b[p, c]  dh_b[p, c]/dalpha  dalpha

along x(alpha) = x' + alpha (x - x'). With nodes alpha_0 < ... < alpha_n the trapezoid reads

    c ~ sum_j (g_j + g_{j+1}) / 2 * (h_{j+1} - h_j),        g = dF/dh

so that one forward and one backward pass per node serve every block at once. Consecutive nodes of all images form one
long list of samples which is cut into chunks of any size; only the last sample's h and g pass from one chunk to the
next, so memory does not grow with the number of nodes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vlmrank.blocks import Block
from vlmrank.errors import VlmrankError

logger = logging.getLogger(__name__)
RULES = ("trapezoid", "left")


@dataclass(frozen=True)
class Conductance:
    """What `layer_conductance` returns.

    Attributes
    ----------
    blocks : module path -> float64 [K, C_b], signed channel conductance, in units of F.
    score : float64 [K, 2], F(x) and F(x').
    delta : float64 [K, B], sum over channels minus (F(x) - F(x')): the completeness gap.
    alphas : float64 [n+1], the nodes.
    chunk_size : samples a pass, after any halving.
    """

    blocks: dict[str, Tensor]
    score: Tensor
    delta: Tensor
    alphas: np.ndarray
    chunk_size: int


class _Pass:
    """Outputs and gradients of all blocks in one forward and backward pass, with the boundary of the last chunk."""

    def __init__(self, blocks: Sequence[Block], rule: str):
        self.blocks, self.rule = blocks, rule
        self.outputs: dict[str, Tensor] = {}
        self.versions: dict[str, int] = {}
        self.clone = False

    def hook(self, block: Block):
        def keep(_module, _args, output):
            if not isinstance(output, Tensor):
                raise VlmrankError(f"block {block.path}: its output is a {type(output).__name__}, not one tensor")
            if output.shape[block.axis] != block.channels:
                raise VlmrankError(
                    f"block {block.path}: output {tuple(output.shape)} has {output.shape[block.axis]} entries on axis "
                    f"{block.axis}, where {block.channels} channels were expected"
                )
            if not self.outputs:
                output = output.detach().requires_grad_()
            kept = output.clone() if self.clone else output
            self.outputs[block.path] = kept
            self.versions[block.path] = kept._version
            return kept

        return keep

    def unchanged(self) -> bool:
        return all(h._version == self.versions[path] for path, h in self.outputs.items())


def _channel_sum(product: Tensor, axis: int) -> Tensor:
    axis = axis % product.ndim
    return product.sum([d for d in range(1, product.ndim) if d != axis])


def layer_conductance(
    forward: Callable[[Tensor], Tensor],
    blocks: Sequence[Block],
    images: Tensor,
    baseline: Tensor,
    *,
    scalar: Callable[[Tensor, Tensor], Tensor],
    alphas: Sequence[float] | np.ndarray,
    rule: str = "trapezoid",
    chunk_size: int | None = None,
) -> Conductance:
    """Compute the signed channel conductance of all blocks for all images.

    Parameters
    ----------
    forward : images [N, 3, H, W] -> embeddings [N, D]; runs every block once.
    blocks : from `vlmrank.blocks.visual_blocks`, in the order of execution.
    images : [K, 3, H, W], on the device and in the precision in which to compute.
    baseline : [K, 3, H, W] or anything that broadcasts to it: x'.
    scalar : (embeddings [N, D], rows [N]) -> F [N], where sample i belongs to image `rows[i]`; see
        `vlmrank.objective.Objective`.
    alphas : [n+1] nodes, strictly increasing from 0 to 1.
    rule : `trapezoid`, or `left` (g_j alone, captum's rule).
    chunk_size : samples (image, node) a pass; None chooses.

    Returns
    -------
    Conductance. For a block that is a cut of the network, `delta` vanishes as n grows.

    Raises
    ------
    VlmrankError : a block's output is no tensor or has its channels elsewhere, or nodes are not increasing.
    """
    if rule not in RULES:
        raise VlmrankError(f"rule {rule!r} is none of {', '.join(RULES)}")
    alphas = np.asarray(alphas, np.float64)
    if alphas.ndim != 1 or len(alphas) < 2 or alphas[0] != 0 or alphas[-1] != 1 or (np.diff(alphas) <= 0).any():
        raise VlmrankError("nodes must increase strictly from 0 to 1")
    count, points = len(images), len(alphas)
    baseline = baseline.to(images).expand_as(images)
    device = images.device
    chunk = min(chunk_size or 16, count * points)
    node = torch.arange(points, device=device).repeat(count)
    row = torch.arange(count, device=device).repeat_interleave(points)
    alpha = torch.as_tensor(alphas, device=device, dtype=images.dtype).view(-1, *[1] * (images.ndim - 1))

    total = {b.path: torch.zeros(count, b.channels, dtype=torch.float64, device=device) for b in blocks}
    score = torch.zeros(count, 2, dtype=torch.float64, device=device)
    state = _Pass(blocks, rule)
    carry: dict[str, tuple[Tensor, Tensor]] = {}
    handles = [block.module.register_forward_hook(state.hook(block)) for block in blocks]
    try:
        start = 0
        while start < count * points:
            stop = min(start + chunk, count * points)
            rows, nodes = row[start:stop], node[start:stop]
            state.outputs.clear()
            with torch.no_grad():
                x = torch.lerp(baseline[rows], images[rows], alpha[nodes])
            with torch.enable_grad():
                f = scalar(forward(x), rows)
                if not state.unchanged():
                    state.clone = True
                    continue
                missing = [b.path for b in blocks if b.path not in state.outputs]
                if missing:
                    raise VlmrankError(f"block {missing[0]} did not run in the forward pass")
                gradients = torch.autograd.grad(f.sum(), [state.outputs[b.path] for b in blocks])
            with torch.no_grad():
                inside = rows[1:] == rows[:-1]
                for block, gradient in zip(blocks, gradients, strict=True):
                    h, g = state.outputs[block.path].detach(), gradient
                    parts, where = [], []
                    if carry and rows[0] == row[start - 1]:
                        h0, g0 = carry[block.path]
                        weight = (g0 + g[:1]) / 2 if rule == "trapezoid" else g0
                        parts.append(_channel_sum(weight * (h[:1] - h0), block.axis))
                        where.append(rows[:1])
                    if len(h) > 1:
                        weight = (g[:-1] + g[1:]) / 2 if rule == "trapezoid" else g[:-1]
                        parts.append(_channel_sum(weight * (h[1:] - h[:-1]), block.axis)[inside])
                        where.append(rows[:-1][inside])
                    if parts:
                        total[block.path].index_add_(0, torch.cat(where), torch.cat(parts).double())
                    carry[block.path] = (h[-1:].clone(), g[-1:].clone())
                f = f.detach().double()
                score[rows[nodes == points - 1], 0] = f[nodes == points - 1]
                score[rows[nodes == 0], 1] = f[nodes == 0]
            start = stop
    finally:
        for handle in handles:
            handle.remove()
    sums = torch.stack([total[b.path].sum(-1) for b in blocks], -1)
    delta = sums - (score[:, :1] - score[:, 1:])
    return Conductance({p: t.cpu() for p, t in total.items()}, score.cpu(), delta.cpu(), alphas, chunk)
