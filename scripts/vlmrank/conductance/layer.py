"""Layer conductance of all blocks of a network in one forward and backward pass per path point.

The conductance of channel c of block b for image k is

    c[k, b, c] = sum over positions p of  integral from 0 to 1 of  dF_k/dh_b[p, c]  dh_b[p, c]/dalpha  dalpha

along x(alpha) = x' + alpha (x - x'). One forward and one backward pass per node give h_b and g_b = dF/dh_b for all
blocks; every rule of `quadrature` is a sum of S_ij g_i h_j over the nodes i, j of a panel. The nodes of all
images form one long list of samples, cut into chunks of any size: a block's gradients are reduced to channels as
soon as they arrive, and only the nodes of an unfinished panel pass from one chunk to the next (secant rule: the last
node, of every ReLU too). So memory does not grow with the number of nodes. No gradient is taken for weights, and the
graph begins at the first block's output.

`python benchmarks/quadrature.py --precision` prints the error of float32 against float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vlmrank.conductance.accumulate import Panels, Reduction, SecantSteps
from vlmrank.conductance.memory import Footprint
from vlmrank.conductance.passes import Forward, Scalar, attached_pass, run_samples
from vlmrank.conductance.quadrature import RULES, panel_degrees
from vlmrank.errors import VlmrankError
from vlmrank.models.blocks import Block


@dataclass(frozen=True)
class Conductance:
    """What `layer_conductance` returns, on the CPU.

    Attributes
    ----------
    blocks : module path -> float64 [K, C_b], signed channel conductance, in units of F.
    score : float64 [K, 2], F(x) and F(x').
    delta : float64 [K, B], sum over channels minus (F(x) - F(x')): the completeness gap.
    alphas : float64 [n+1], the nodes; after a refinement those of the most refined image.
    error : float64 [K], relative change at the last refinement; nan if nothing was refined.
    points : int64 [K], path steps of each image.
    chunk_size : samples per pass, after any halving.
    """

    blocks: dict[str, Tensor]
    score: Tensor
    delta: Tensor
    alphas: np.ndarray
    error: Tensor
    points: Tensor
    chunk_size: int


def check_alphas(alphas: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return nodes as float64, after checking that they increase strictly from 0 to 1."""
    alphas = np.asarray(alphas, np.float64)
    if alphas.ndim != 1 or len(alphas) < 2 or alphas[0] != 0 or alphas[-1] != 1 or not (np.diff(alphas) > 0).all():
        raise VlmrankError(f"path nodes must increase strictly from 0 to 1, not {alphas}")
    return alphas


def layer_conductance(
    forward: Forward,
    blocks: Sequence[Block],
    images: Tensor,
    baseline: Tensor,
    *,
    scalar: Scalar,
    alphas: Sequence[float] | np.ndarray,
    rule: str = "trapezoid",
    chunk_size: int | Footprint | None = None,
) -> Conductance:
    """Compute the signed channel conductance of all blocks for all images.

    c[k, b, c] = sum over positions and over node pairs i, j of S_ij g_i h_j, the rule's matrix S being
    `vlmrank.conductance.quadrature.stieltjes_matrix`; for the trapezoid sum_j (g_j + g_{j+1}) / 2 (h_{j+1} - h_j).

    Parameters
    ----------
    forward : images [N, 3, H, W] -> embeddings [N, D]; runs every block once. A module or its method, in evaluation
        mode.
    blocks : from `vlmrank.models.blocks.visual_blocks`, in the order of execution.
    images : [K, 3, H, W], x, on the device and in the precision of the computation.
    baseline : [K, 3, H, W] or anything that broadcasts to it: x'.
    scalar : (embeddings [N, D], rows [N]) -> F [N], where sample i belongs to image `rows[i]`; see
        `vlmrank.conductance.objective.Objective`.
    alphas : [n+1] nodes, strictly increasing from 0 to 1. For `clenshaw-curtis` the output of
        `vlmrank.conductance.quadrature.path_positions` for n, under any smooth map.
    rule : `trapezoid`, `clenshaw-curtis`, `secant` (towers of ReLU and linear layers only) or `left` (captum's rule).
    chunk_size : samples (image, node) per pass. None measures with a small first pass how many fit; the `Footprint` of
        an earlier call with the same tower saves that pass, and an empty one is filled. The size is halved when memory
        runs out.

    Returns
    -------
    Conductance. For a block that is a cut of the network, `delta` vanishes as n grows.

    Raises
    ------
    VlmrankError : a block's output is not a tensor or has its channels elsewhere, a block is not run once and in order,
        or the nodes are not increasing.
    FailedPair : the smallest chunk does not fit into memory.

    References
    ----------
    Dhamdhere, Sundararajan and Yan, How important is a neuron?, arXiv 1805.12233.

    Examples
    --------
    F = 2 relu(x_0 - 1) + x_1 from the black baseline: the hidden layer h = (relu(x_0 - 1), x_1) has conductance 2 h.

    >>> import torch
    >>> class Net(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.hidden = torch.nn.Identity()
    ...     def forward(self, x):
    ...         return self.hidden(torch.stack([(x[:, 0] - 1).relu(), x[:, 1]], 1)) * torch.tensor([2.0, 1.0])
    >>> net = Net()
    >>> result = layer_conductance(net, [Block("hidden", net.hidden, 2, 1)], torch.tensor([[3.0, 5.0]]), torch.zeros(2),
    ...                            scalar=lambda y, rows: y.sum(-1), alphas=[0.0, 0.5, 1.0])
    >>> result.blocks["hidden"].tolist(), result.score.tolist(), result.delta.tolist()
    ([[4.0, 5.0]], [[9.0, 0.0]], [[0.0]])
    """
    if rule not in RULES:
        raise VlmrankError(f"rule {rule!r} is none of {', '.join(RULES)}")
    if not len(blocks) or not len(images):
        raise VlmrankError("conductance needs at least one block and one image")
    footprint = chunk_size if isinstance(chunk_size, Footprint) else Footprint()
    chunk_size = None if chunk_size is footprint else chunk_size
    if chunk_size is not None and chunk_size < 1:
        raise VlmrankError(f"samples per pass must be at least 1, not {chunk_size}")
    alphas = check_alphas(alphas)
    baseline = baseline.to(images).expand_as(images)
    count = len(images)
    with attached_pass(forward, blocks, scalar, rule, footprint) as one_pass:
        if rule == "secant":
            reduction: Reduction = SecantSteps(blocks, count, alphas, head=one_pass.head is not None)
        else:
            reduction = Panels(blocks, count, panel_degrees(len(alphas) - 1, rule), rule)
        chunk = run_samples(one_pass, images, baseline, alphas, reduction, chunk_size)
    return gather(blocks, reduction.total, reduction.score, alphas, chunk_size=chunk)


def gather(
    blocks: Sequence[Block],
    values: Sequence[Tensor],
    score: Tensor,
    alphas: np.ndarray,
    *,
    chunk_size: int,
    error: Tensor | None = None,
    points: Tensor | None = None,
) -> Conductance:
    """Bring results to the CPU and compute the completeness gap."""
    score = score.cpu()
    values = [value.cpu() for value in values]
    delta = torch.stack([value.sum(-1) for value in values], -1) - (score[:, :1] - score[:, 1:])
    count = len(score)
    return Conductance(
        blocks={block.path: value for block, value in zip(blocks, values, strict=True)},
        score=score,
        delta=delta,
        alphas=alphas,
        error=torch.full((count,), torch.nan, dtype=torch.float64) if error is None else error.cpu(),
        points=torch.full((count,), len(alphas) - 1) if points is None else points.cpu(),
        chunk_size=chunk_size,
    )
