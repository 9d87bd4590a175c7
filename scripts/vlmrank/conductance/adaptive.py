"""Adaptive quadrature: double the path points until the attributions of an image converge."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vlmrank.conductance.accumulate import Reduction, panel_sum
from vlmrank.conductance.layer import Conductance, check_alphas, gather, layer_conductance
from vlmrank.conductance.memory import budget_bytes
from vlmrank.conductance.passes import Forward, OnePass, Scalar, attached_pass, run_samples
from vlmrank.conductance.quadrature import chebyshev_nodes, panel_degrees, path_positions, stieltjes_matrix
from vlmrank.errors import VlmrankError
from vlmrank.models.blocks import Block
from vlmrank.models.precision import at_least_float32

logger = logging.getLogger(__name__)


def relative_change(new: Sequence[Tensor], old: Sequence[Tensor]) -> Tensor:
    """Return the change of the attributions of each image, float64 [K]: mean over blocks of |new - old| / |new|.

    Examples
    --------
    >>> relative_change([torch.tensor([[3.0, 4.0]])], [torch.tensor([[3.0, 3.5]])]).tolist()
    [0.1]
    """
    changes = []
    for a, b in zip(new, old, strict=True):
        a, b = a.double(), b.double()
        changes.append((a - b).norm(dim=-1) / a.norm(dim=-1).clamp_min(torch.finfo(torch.float64).tiny))
    return torch.stack(changes).mean(0)


class KeptNodes(Reduction):
    """Outputs and gradients of all nodes of a few images, kept until every image has converged."""

    def __init__(self, blocks: Sequence[Block], count: int):
        super().__init__(blocks, count, 0)
        self.kept: list[list[Tensor | None]] = [[None, None] for _ in blocks]
        self.slots = np.empty(0, int)
        self.size = 0

    def expect(self, slots: np.ndarray, size: int) -> None:
        """Prepare for nodes that go to `slots` of `size` in all; those already kept move to the even slots."""
        self.slots, self.size, self.points, self.scores = slots, size, len(slots), None
        for pair in self.kept:
            for side, old in enumerate(pair):
                if old is not None:
                    pair[side] = old.new_empty(len(old), size, *old.shape[2:])
                    pair[side][:, ::2] = old

    def select(self, chosen: Tensor) -> None:
        """Keep only the images `chosen`."""
        self.count = len(chosen)
        self.kept = [[side[chosen] for side in pair] for pair in self.kept]

    def begin(self, start: int, stop: int, device: torch.device) -> None:
        flat = np.arange(start, stop)
        self._rows = torch.as_tensor(flat // self.points, device=device)
        self._slots = torch.as_tensor(self.slots[flat % self.points], device=device)
        self._stop = stop

    def add(self, index: int, h: Tensor, g: Tensor) -> None:
        for side, value in enumerate((at_least_float32(h), at_least_float32(g))):
            if self.kept[index][side] is None:
                self.kept[index][side] = value.new_empty(self.count, self.size, *value.shape[1:])
            self.kept[index][side][self._rows, self._slots] = value

    def _finish(self) -> int:
        return self._stop

    def integrate(self, degrees: Sequence[int], rule: str, stride: int = 1) -> list[Tensor]:
        """Return channel conductances float64 [K, C_b] of each block from every `stride`-th node."""
        starts = np.concatenate([[0], np.cumsum(degrees)[:-1]])
        totals = []
        for block, (h, g) in zip(self.blocks, self.kept, strict=True):
            total = torch.zeros(self.count, block.channels, dtype=torch.float64, device=h.device)
            for start, degree in zip(starts, degrees, strict=True):
                matrix = torch.as_tensor(stieltjes_matrix(chebyshev_nodes(degree), rule)).to(h)
                where = torch.as_tensor(stride * np.arange(start, start + degree + 1), device=h.device)[None]
                axis = block.axis % (h.ndim - 1)
                total += torch.cat([panel_sum(matrix, h[k], g[k], where, axis) for k in range(self.count)]).double()
            totals.append(total)
        return totals

    def bytes_per_node(self) -> int:
        """Return the bytes that one node of one image takes."""
        return sum(side.element_size() * side[0, 0].numel() for pair in self.kept for side in pair)


@dataclass(frozen=True)
class Refinement:
    """How far a path is refined.

    Attributes
    ----------
    curve : t -> alpha, from `vlmrank.conductance.quadrature.arc_length_curve` or `uniform_curve`.
    points : steps of the first attempt; made even.
    tolerance : relative change that is small enough, > 0.
    max_points : most steps.
    """

    curve: Callable[[np.ndarray], np.ndarray]
    points: int
    tolerance: float
    max_points: int


def refine_conductance(
    forward: Forward,
    blocks: Sequence[Block],
    images: Tensor,
    baseline: Tensor,
    refinement: Refinement,
    *,
    scalar: Scalar,
    rule: str = "clenshaw-curtis",
    chunk_size: int | None = None,
) -> Conductance:
    """Compute conductance with as many nodes as each image needs.

    The nodes are doubled until the attributions of an image change by less than the tolerance (`relative_change`), or
    until the next doubling would pass `max_points`. The new nodes lie between the old ones, whose outputs and gradients
    are kept, for as many images at a time as fit into a quarter of the free memory. Only the secant rule starts over,
    since its gradients belong to steps, not to nodes.

    Parameters
    ----------
    forward, blocks, images, baseline, scalar, chunk_size : as in `vlmrank.conductance.layer.layer_conductance`.
    refinement : first attempt, tolerance and limit.
    rule : `clenshaw-curtis`, `trapezoid`, `left` or `secant`.

    Returns
    -------
    Conductance with `error` (the last relative change of each image) and `points` (its steps).
    """
    if not refinement.tolerance > 0:
        raise VlmrankError(f"the tolerance must be positive, not {refinement.tolerance}")
    if rule == "secant":
        return _refine_secant(forward, blocks, images, baseline, refinement, scalar, chunk_size)
    baseline = baseline.to(images).expand_as(images)
    done: list[tuple[np.ndarray, list[Tensor], Tensor, Tensor, int]] = []
    start, size, finest = 0, 1, np.empty(0)
    with attached_pass(forward, blocks, scalar, rule) as one_pass:
        while start < len(images):
            part = np.arange(start, min(start + size, len(images)))
            group = images, baseline, part
            parts, alphas, chunk, need = _refine_group(one_pass, *group, refinement, scalar, rule, chunk_size)
            done += parts
            finest = alphas if len(alphas) > len(finest) else finest
            start += len(part)
            size = max(1, int(budget_bytes(images.device) / 4 / need))
    order = np.argsort(np.concatenate([part[0] for part in done]))
    values = [torch.cat([part[1][b] for part in done])[order] for b in range(len(blocks))]
    score, error = (torch.cat([part[i] for part in done])[order] for i in (2, 3))
    steps = torch.as_tensor(np.concatenate([[part[4]] * len(part[0]) for part in done])[order])
    return gather(blocks, values, score, finest, chunk_size=chunk, error=error, points=steps)


def _first_degrees(points: int, rule: str) -> tuple[int, ...]:
    """Degrees of the panels of the first attempt: even, so that every second node is a rule of its own."""
    if rule == "clenshaw-curtis":
        return tuple(m + m % 2 for m in panel_degrees(points, rule))
    return (1,) * (points + points % 2)


def _refine_group(one_pass: OnePass, images, baseline, part, refinement: Refinement, scalar, rule, chunk_size):
    kept = KeptNodes(one_pass.blocks, len(part))
    degrees, max_points = _first_degrees(refinement.points, rule), refinement.max_points
    one_pass.scalar = lambda embedding, rows: scalar(embedding, torch.as_tensor(part, device=images.device)[rows])
    halves = tuple(m // 2 for m in degrees) if rule == "clenshaw-curtis" else degrees[::2]
    before, done, alphas = None, [], np.empty(0)
    score: Tensor | None = None
    while True:
        n = sum(degrees)
        t = path_positions(n, rule, degrees)
        alphas = check_alphas(refinement.curve(t))
        slots = np.arange(n + 1) if score is None else np.arange(1, n + 1, 2)
        kept.expect(slots, n + 1)
        chunk = run_samples(one_pass, images[part], baseline[part], alphas[slots], kept, chunk_size)
        score = kept.score if score is None else score
        values = kept.integrate(degrees, rule)
        error = relative_change(values, before if before is not None else kept.integrate(halves, rule, stride=2))
        stop = (error < refinement.tolerance) | ~error.isfinite()
        room = budget_bytes(images.device) / 2 > kept.bytes_per_node() * (2 * n + 1) * int((~stop).sum())
        if 2 * n > max_points or not room:
            if not room and 2 * n <= max_points:
                logger.warning("stopped at %d path points: the nodes of more would not fit into memory", n)
            stop = torch.ones_like(stop)
        if stop.any():
            chosen = stop.nonzero()[:, 0]
            done.append((part[chosen.cpu().numpy()], [v[chosen] for v in values], score[chosen], error[chosen], n))
        if stop.all():
            break
        going = (~stop).nonzero()[:, 0]
        kept.select(going)
        part, score = part[going.cpu().numpy()], score[going]
        one_pass.scalar = lambda embedding, rows, part=part: scalar(
            embedding, torch.as_tensor(part, device=images.device)[rows]
        )
        before = [v[going] for v in values]
        degrees = tuple(2 * m for m in degrees) if rule == "clenshaw-curtis" else (1,) * (2 * n)
    return done, alphas, chunk, kept.bytes_per_node() * (max_points + 1)


def _refine_secant(forward, blocks, images, baseline, refinement: Refinement, scalar, chunk_size) -> Conductance:
    baseline = baseline.to(images).expand_as(images)
    points = refinement.points
    part, n, before, alphas = torch.arange(len(images)), points, None, np.empty(0)
    values = [torch.zeros(len(images), block.channels, dtype=torch.float64) for block in blocks]
    score = torch.zeros(len(images), 2, dtype=torch.float64)
    error, steps = torch.full((len(images),), torch.nan, dtype=torch.float64), torch.full((len(images),), points)
    while len(part):
        where = part.to(images.device)
        alphas = check_alphas(refinement.curve(path_positions(n, "secant")))
        result = layer_conductance(
            forward,
            blocks,
            images[where],
            baseline[where],
            scalar=lambda embedding, rows, where=where: scalar(embedding, where[rows]),
            alphas=alphas,
            rule="secant",
            chunk_size=chunk_size,
        )
        new = list(result.blocks.values())
        for total, value in zip(values, new, strict=True):
            total[part] = value
        score[part], steps[part] = result.score, n
        going = torch.ones(len(part), dtype=torch.bool)
        if before is not None:
            error[part] = relative_change(new, before)
            going = error[part] >= refinement.tolerance
        if 2 * n > refinement.max_points:
            break
        part, before, n = part[going], [value[going] for value in new], 2 * n
    return gather(blocks, values, score, alphas, chunk_size=result.chunk_size, error=error, points=steps)
