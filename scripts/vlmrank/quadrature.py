"""Where to put the nodes of the path from the baseline (alpha = 0) to the image (alpha = 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from vlmrank.blocks import Block
from vlmrank.errors import VlmrankError


def uniform_alphas(points: int) -> np.ndarray:
    """Return `points` + 1 equally spaced nodes, float64 [points + 1], 0 and 1 included.

    Examples
    --------
    >>> uniform_alphas(4)
    array([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """
    if points < 1:
        raise VlmrankError(f"a path needs at least 1 step, not {points}")
    return np.linspace(0.0, 1.0, points + 1)


def equal_length_alphas(probe: np.ndarray, length: np.ndarray, points: int) -> np.ndarray:
    """Return nodes that cut a curve of known cumulative length into `points` equal pieces.

    Parameters
    ----------
    probe : float64 [P], increasing positions from 0 to 1.
    length : float64 [P], length of the curve from 0 to each position; not decreasing.
    points : number of steps n.

    Returns
    -------
    alphas : float64 [n+1], strictly increasing, from 0 to 1.

    Examples
    --------
    >>> equal_length_alphas(np.array([0.0, 0.5, 1.0]), np.array([0.0, 3.0, 4.0]), 4).round(2)
    array([0.  , 0.17, 0.33, 0.5 , 1.  ])
    """
    if points < 1:
        raise VlmrankError(f"a path needs at least 1 step, not {points}")
    # A thousandth of the length is uniform: a stretch without any movement still gets nodes, and nodes stay distinct.
    total = length[-1] if length[-1] > 0 else 1.0
    speed = 0.999 * length / total + 0.001 * probe if length[-1] > 0 else probe
    alphas = np.interp(np.linspace(0.0, speed[-1], points + 1), speed, probe)
    alphas[0], alphas[-1] = 0.0, 1.0
    return alphas


def arc_length_alphas(
    forward: Callable[[Tensor], Tensor],
    blocks: Sequence[Block],
    images: Tensor,
    baseline: Tensor,
    *,
    points: int,
    probe: int = 64,
    images_probed: int = 4,
    batch: int = 16,
) -> np.ndarray:
    """Return nodes at equal arc length of the block outputs along the path, from forward passes only.

    The length of the path of block b for image k between two probed positions is |h_b(alpha') - h_b(alpha)|; each
    block's lengths are divided by their sum over the path, then averaged over blocks and images. The probed positions
    are (i / probe)^3: in towers with LayerNorm most of the length lies at small alpha.

    Parameters
    ----------
    forward, blocks : as in `vlmrank.conductance.layer_conductance`.
    images, baseline : [K, 3, H, W]; the first `images_probed` are used.
    points : number of steps n.

    Returns
    -------
    alphas : float64 [n+1], strictly increasing, from 0 to 1.
    """
    positions = np.linspace(0.0, 1.0, probe + 1) ** 3
    images, baseline = images[:images_probed], baseline[:images_probed]
    steps = np.zeros((len(images), len(blocks), probe))
    outputs: dict[str, Tensor] = {}

    def keep(path: str):
        return lambda _module, _args, output: outputs.__setitem__(path, output.detach())

    handles = [block.module.register_forward_hook(keep(block.path)) for block in blocks]
    try:
        with torch.no_grad():
            for k in range(len(images)):
                previous: dict[str, Tensor] = {}
                for start in range(0, probe + 1, batch):
                    alpha = torch.as_tensor(positions[start : start + batch]).to(images)
                    alpha = alpha.view(-1, *[1] * (images.ndim - 1))
                    forward(baseline[k] + alpha * (images[k] - baseline[k]))
                    for b, block in enumerate(blocks):
                        h = outputs[block.path].flatten(1)
                        if start:
                            h = torch.cat([previous[block.path], h])
                        moved = (h[1:] - h[:-1]).double().norm(dim=1).cpu().numpy()
                        first = max(start - 1, 0)
                        steps[k, b, first : first + len(moved)] = moved
                        previous[block.path] = h[-1:].clone()
                    outputs.clear()
    finally:
        for handle in handles:
            handle.remove()
    share = steps / np.maximum(steps.sum(-1, keepdims=True), np.finfo(float).tiny)
    share = np.nan_to_num(share.mean((0, 1)))
    return equal_length_alphas(positions, np.concatenate([[0.0], np.cumsum(share)]), points)
