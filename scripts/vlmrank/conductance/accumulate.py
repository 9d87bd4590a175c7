"""Accumulate channel conductances from block outputs and gradients, chunk by chunk.

Samples are numbered f = k (n+1) + j for image k and node j. A reduction learns which samples a pass holds (`begin`),
receives h and g of each block (`add`), and keeps the sums only if the whole pass succeeded (`commit`); after a failure
it drops the pass (`rollback`). Nothing here synchronises with the GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vlmrank.conductance import kernels
from vlmrank.conductance.quadrature import chebyshev_nodes, step_mean_matrix, stieltjes_matrix
from vlmrank.models.blocks import Block
from vlmrank.models.precision import at_least_float32

PIECE = 1 << 15
"""Elements of a map that the CPU takes at a time, for all nodes of a panel."""


STEP = torch.tensor([[0.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
"""The matrix S of one step that takes the gradient at its last node."""


def on_device(values: object, device: torch.device) -> Tensor:
    """Return numbers as a tensor on a device, without synchronising with it."""
    tensor = torch.as_tensor(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def channel_sum(values: Tensor, axis: int) -> Tensor:
    """Return the sum of [N, ...] over all axes but the first and the channel axis: [N, C]."""
    axis = axis % values.ndim
    others = [d for d in range(1, values.ndim) if d != axis]
    return values.sum(others) if others else values


class ByImage:
    """Add sums [P, C] to the totals of their images, always in the same order, which `index_add_` does not guarantee.

    Parameters
    ----------
    images : int [P], in increasing order; may be empty.
    """

    def __init__(self, images: np.ndarray, device: torch.device):
        own, inverse, counts = np.unique(images, return_inverse=True, return_counts=True)
        self.most = int(counts.max()) if len(counts) else 0
        self.rows = slice(int(own[0]), int(own[-1]) + 1) if len(own) else slice(0, 0)
        self.count = self.rows.stop - self.rows.start
        place = (images - self.rows.start) * self.most + np.arange(len(images)) - (np.cumsum(counts) - counts)[inverse]
        self.slots = None if len(images) == self.count * self.most else on_device(place, device)

    def add(self, total: Tensor, values: Tensor) -> None:
        """Add values [P, C] to total [K, C]."""
        if self.slots is not None:
            spread = values.new_zeros(self.count * self.most, values.shape[1])
            spread[self.slots] = values
            values = spread
        total[self.rows] += values.view(self.count, self.most, -1).sum(1)


class Reduction:
    """Common part of both reductions: totals [K, C_b] per block, and the scores at both ends of the path.

    Attributes
    ----------
    least : fewest samples that a pass can have.
    overlap : whether a pass repeats nodes of the previous one, if that ended within an image.
    total : float64 [K, C_b] per block.
    scores : float64 [K (n+1)], F of every sample.
    means : float64 [N, N], weights of the nodes' gradients in each step of the pass, if the rule needs them.
    steps : int64 [S], samples of the pass at which a step ends, if the rule has steps.
    """

    least, overlap = 1, False

    def __init__(self, blocks: Sequence[Block], count: int, points: int):
        self.blocks, self.count, self.points = blocks, count, points
        self.total: list[Tensor] = []
        self.scores: Tensor | None = None
        self.means: Tensor | None = None
        self.steps: Tensor | None = None
        self._pending: list[tuple[int, ByImage, Tensor]] = []

    @property
    def score(self) -> Tensor:
        """F(x) and F(x'), float64 [K, 2]."""
        scores = self.scores.view(self.count, self.points)
        return torch.stack([scores[:, -1], scores[:, 0]], 1)

    def begin(self, start: int, stop: int, device: torch.device) -> None:
        """Prepare for samples start <= f < stop."""
        raise NotImplementedError

    def add(self, index: int, h: Tensor, g: Tensor | None) -> None:
        """Add output and gradient [N, ...] of block `index`; no gradient if `steps` is empty."""
        raise NotImplementedError

    def rollback(self) -> None:
        """Drop the failed pass."""
        self._pending = []

    def _finish(self) -> int:
        raise NotImplementedError

    def commit(self, start: int, f: Tensor) -> int:
        """Keep the sums of the pass whose samples, from `start` on, have F `f`; return the next pass's first sample."""
        new = {"dtype": torch.float64, "device": f.device}
        if not self.total:
            self.total = [torch.zeros(self.count, block.channels, **new) for block in self.blocks]
        if self.scores is None:
            self.scores = torch.full((self.count * self.points,), torch.nan, **new)
        self.scores[start : start + len(f)] = f
        for index, images, values in self._pending:
            images.add(self.total[index], values.double())
        self._pending = []
        return self._finish()


class Panels(Reduction):
    """sum over panels of sum_ij S_ij g_i h_j; nodes of an unfinished panel are carried to the next pass.

    Parameters
    ----------
    degrees : steps of each panel, n in all.
    rule : as in `vlmrank.conductance.quadrature.stieltjes_matrix`.
    """

    def __init__(self, blocks: Sequence[Block], count: int, degrees: Sequence[int], rule: str):
        super().__init__(blocks, count, sum(degrees) + 1)
        starts = np.concatenate([[0], np.cumsum(degrees)[:-1]])
        self.starts = (np.arange(count)[:, None] * self.points + starts).ravel()
        self.degrees = np.tile(degrees, count)
        self.images = np.repeat(np.arange(count), len(degrees))
        self.matrices = {m: torch.as_tensor(stieltjes_matrix(chebyshev_nodes(m), rule)) for m in set(degrees)}
        self._moved: dict[tuple[int, torch.dtype], Tensor] = {}
        self.next = 0
        self.carry: dict[int, tuple[Tensor, Tensor]] = {}
        self._new_carry: dict[int, tuple[Tensor, Tensor]] = {}

    def begin(self, start: int, stop: int, device: torch.device) -> None:
        ends = self.starts + self.degrees
        after = int(np.searchsorted(ends, stop, side="left"))  # panels whose last node is before `stop`
        first = min(start, int(self.starts[self.next])) if self.next < len(self.starts) else start
        done = np.arange(self.next, after)
        self._groups = []
        for degree in np.unique(self.degrees[done]):
            chosen = done[self.degrees[done] == degree]
            index = (self.starts[chosen] - first)[:, None] + np.arange(degree + 1)
            self._groups.append((int(degree), on_device(index, device), ByImage(self.images[chosen], device)))
        self._after, self._stop = after, stop
        keep = int(self.starts[after]) if after < len(self.starts) else stop
        self._keep = max(stop - keep, 0)

    def _matrix(self, degree: int, like: Tensor) -> Tensor:
        key = degree, torch.promote_types(like.dtype, torch.float32)
        if key not in self._moved:
            self._moved[key] = on_device(self.matrices[degree].to(key[1]), like.device)
        return self._moved[key]

    def add(self, index: int, h: Tensor, g: Tensor) -> None:
        block, fused = self.blocks[index], kernels.available(h.device)
        if not fused:
            h, g = at_least_float32(h), at_least_float32(g)
        if index in self.carry and (h.is_cuda or self._keep > len(h)):
            h, g = (torch.cat(pair) for pair in zip(self.carry[index], (h, g), strict=True))
            parts = [(h, g)]
        else:
            parts = [*([self.carry[index]] if index in self.carry else []), (h, g)]
        for degree, where, images in self._groups:
            matrix = self._matrix(degree, h)
            if fused:
                sums = kernels.panel_sums(matrix, h, g, where, block.axis % h.ndim)
            elif h.is_cuda:
                sums = panel_sum(matrix, h, g, where, block.axis % h.ndim)
            else:
                sums = torch.cat([cached_panel_sum(matrix, parts, first, block.axis) for first in where[:, 0].tolist()])
            self._pending.append((index, images, sums))
        if self._keep:
            self._new_carry[index] = (h[-self._keep :].clone(), g[-self._keep :].clone())

    def rollback(self) -> None:
        super().rollback()
        self._new_carry = {}

    def _finish(self) -> int:
        self.carry, self._new_carry = self._new_carry, {}
        self.next = self._after
        return self._stop


def panel_sum(matrix: Tensor, h: Tensor, g: Tensor, where: Tensor, axis: int) -> Tensor:
    """Return sum_ij S_ij g_i h_j of panels, summed over positions.

    Parameters
    ----------
    matrix : S [m+1, m+1], rows sum to zero.
    h, g : [N, ...].
    where : int64 [P, m+1], the nodes of each panel.
    axis : channel axis of h.

    Returns
    -------
    [P, C].
    """
    moved = h[where]
    moved = (moved - moved[:, :1].clone()).flatten(2)
    product = (matrix @ moved).mul_(g[where].flatten(2)).sum(1)
    return channel_sum(product.view(len(where), *h.shape[1:]), axis)


def cached_panel_sum(matrix: Tensor, parts: Sequence[tuple[Tensor, Tensor]], first: int, axis: int) -> Tensor:
    """Return the `panel_sum` of one panel, in pieces that stay in the CPU's cache, without copies of whole maps.

    Parameters
    ----------
    matrix : S [m+1, m+1], rows sum to zero.
    parts : consecutive pairs h, g of shape [N_i, ...].
    first : the panel's first node, counted through all parts.
    axis : channel axis of h.

    Returns
    -------
    [1, C].
    """
    h, g, begin = [], [], 0
    for part in parts:
        rows = slice(max(first - begin, 0), max(first + len(matrix) - begin, 0))
        h, g, begin = [*h, part[0][rows]], [*g, part[1][rows]], begin + len(part[0])
    if h[-1].ndim == 4 and not h[-1].is_contiguous():  # channels last: in the order of memory
        h, g = ([x.movedim(1, -1) for x in y] for y in (h, g))
        axis = -1 if axis in (1, -3) else axis - 1
    shape = h[-1].shape[1:]
    h, g = ([x.flatten(1) for x in y] for y in (h, g))
    total = h[-1].new_empty(shape.numel())
    for start in range(0, len(total), PIECE):
        piece = slice(start, start + PIECE)
        moved = torch.cat([x[:, piece] for x in h])
        moved -= moved[:1].clone()
        product = matrix @ moved
        for rows, gradient in zip(product.split([len(x) for x in g]), g, strict=True):
            rows.mul_(gradient[:, piece])
        torch.sum(product, 0, out=total[piece])
    return channel_sum(total.view(1, *shape), axis)


class SecantSteps(Reduction):
    """sum_j G_j (h_{j+1} - h_j) with the secant gradients G_j that arrive at the last node of each step.

    With an `AttentionHead`, the first step of a pass needs the last node of the previous pass, which `Carry` and this
    class keep. Other heads also need the gradients of neighbouring nodes, so their passes overlap by a few nodes.

    Parameters
    ----------
    head : whether an `AttentionHead` gives the steps' gradients; else they are means of the nodes' gradients.
    """

    def __init__(self, blocks: Sequence[Block], count: int, alphas: np.ndarray, *, head: bool = False):
        super().__init__(blocks, count, len(alphas))
        self._weights = None if head else step_mean_matrix(alphas)
        nodes = np.arange(len(alphas))
        firsts = lasts = nodes[1:]
        if self._weights is not None:
            firsts = np.minimum(np.where(self._weights != 0, nodes, len(alphas)).min(1), nodes[:-1])
            lasts = np.maximum(np.where(self._weights != 0, nodes, 0).max(1), lasts)
        offset = (np.arange(count) * self.points)[:, None]
        self.step = (offset + nodes[1:]).ravel()  # last sample of each step
        self.first, self.last = (offset + firsts).ravel(), (offset + lasts).ravel()
        self.least, self.overlap = int((lasts - firsts).max()) + 1, not head
        self.next = 0
        self.carry: dict[int, Tensor] = {}
        self._new_carry: dict[int, Tensor] = {}
        self._step = STEP

    def begin(self, start: int, stop: int, device: torch.device) -> None:
        self._after, self._stop = int(np.searchsorted(self.last, stop, side="left")), stop
        done = np.arange(self.next, self._after)
        self._ends = (self.step[done] - start).tolist()
        self.steps = on_device(self.step[done] - start, device)
        self._pairs = on_device(self.step[done][:, None] - start + np.array([-1, 0]), device)
        self._images = ByImage(self.step[done] // self.points, device)
        if self._weights is not None:
            means = np.zeros((stop - start, stop - start))
            for sample in self.step[done]:
                node = sample % self.points
                columns = np.flatnonzero(self._weights[node - 1])
                means[sample - start, columns + sample - node - start] = self._weights[node - 1, columns]
            self.means = on_device(means, device)

    def add(self, index: int, h: Tensor, g: Tensor | None) -> None:
        before = self.carry.get(index)
        if not self.overlap:
            self._new_carry[index] = h[-1:].clone()
        if not self._ends:
            return
        if kernels.available(h.device):
            values = self._fused(before, h, g, self.blocks[index].axis)
        elif h.is_cuda:
            moved = torch.cat([h[:1] if before is None else before, h[:-1]])[self.steps]
            values = _step_sum(moved, h[self.steps], g[self.steps], self.blocks[index].axis)
        else:  # sample by sample, so that they stay in the cache
            values = torch.cat(
                [
                    _step_sum(h[s - 1 : s] if s else before, h[s : s + 1], g[s : s + 1], self.blocks[index].axis)
                    for s in self._ends
                ]
            )
        self._pending.append((index, self._images, values))

    def _fused(self, before: Tensor | None, h: Tensor, g: Tensor, axis: int) -> Tensor:
        first = [] if self._ends[0] else [_step_sum(before, h[:1], g[:1], axis)]
        if self._step.device != h.device or self._step.dtype != torch.promote_types(h.dtype, torch.float32):
            self._step = on_device(STEP.to(torch.promote_types(h.dtype, torch.float32)), h.device)
        pairs = self._pairs[len(first) :]
        rest = [kernels.panel_sums(self._step, h, g, pairs, axis % h.ndim, first=1)] if len(pairs) else []
        return torch.cat([*first, *rest])

    def rollback(self) -> None:
        super().rollback()
        self._new_carry = {}

    def _finish(self) -> int:
        self.carry, self._new_carry = self._new_carry, {}
        self.next = self._after
        if self.overlap and self.next < len(self.step):
            return int(self.first[self.next])
        return self._stop


def _step_sum(before: Tensor, h: Tensor, g: Tensor, axis: int) -> Tensor:
    before, h, g = at_least_float32(before), at_least_float32(h), at_least_float32(g)
    return channel_sum((h - before).mul_(g), axis)
