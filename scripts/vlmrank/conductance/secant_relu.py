"""The secant rule: secant gradients for towers of ReLU and linear layers.

Along the path the gradient of such a tower jumps wherever a ReLU switches, so every rule that samples gradients is
first order. But over a step from node j to node j+1 the average slope of a ReLU with pre-activation z is known exactly,

    s = (relu(z_{j+1}) - relu(z_j)) / (z_{j+1} - z_j),

so the backward pass of step j, which runs at its last node, uses s instead of the slope there. With linear layers in
between, the resulting G_j satisfies sum over h of G_j (h_{j+1} - h_j) = the same number for every block: completeness
holds step by step. What is left is the covariance of switches within a step, and the error falls nearly with the second
power of the step.

The head behind the last block is smooth, but CLIP's attention pool may flip from one position to another within a step.
So its gradient is averaged over the step itself: queries, keys and values are linear in h and are interpolated between
the two nodes, and everything behind them runs at `SUBSTEPS` Gauss nodes, which costs next to nothing
(`AttentionHead`). For other heads the mean comes from the gradients at the nodes around the step
(`vlmrank.conductance.quadrature.step_mean_matrix`).

The slopes are the multipliers of DeepLIFT's rescale rule (Shrikumar et al., arXiv 1704.02685), taken between
neighbouring nodes of the path.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmrank.conductance import kernels
from vlmrank.models.blocks import Block
from vlmrank.models.precision import at_least_float32

LINEAR = ("Conv2d", "BatchNorm2d", "FrozenBatchNorm2d", "AvgPool2d", "AdaptiveAvgPool2d", "Identity", "Dropout")
"""Types of layers that are linear in evaluation mode."""


def is_piecewise_linear(blocks: Sequence[Block]) -> bool:
    """Tell whether the blocks consist of ReLU and linear layers only, so that the secant rule fits."""
    leaves = [m for block in blocks for m in block.module.modules() if not any(m.children())]
    relus = sum(type(leaf) is nn.ReLU for leaf in leaves)
    return relus > 0 and all(type(leaf) is nn.ReLU or type(leaf).__name__ in LINEAR for leaf in leaves)


SUBSTEPS = 8
"""Gauss nodes within a step at which the head's gradient is taken."""


class Carry:
    """The last sample of a pass's tensors, where the first step of the next pass starts.

    Tensors are identified by the order of the calls of `take`. The next `begin` drops a failed pass.
    """

    def __init__(self):
        self._before: list[Tensor] = []
        self._after: list[Tensor] = []

    def begin(self) -> None:
        """Begin a pass."""
        self._after = []

    def take(self, tensor: Tensor) -> Tensor | None:
        """Remember the last sample of `tensor`; return the one remembered in the pass before, if there was one."""
        self._after.append(tensor[-1:].detach().clone())
        return self._before[len(self._after) - 1] if self._before else None

    def commit(self) -> None:
        """End a pass that succeeded."""
        self._before, self._after = self._after, []


def _times_slope(gradient: Tensor, before: Tensor, z: Tensor, out: Tensor) -> None:
    # max(z0, z1) / |z1 - z0|, cut to [0, 1], is the secant slope in all four cases of signs.
    width = (z - before).abs_().clamp_min_(torch.finfo(z.dtype).tiny)
    torch.maximum(before, z, out=out).div_(width).clamp_(0, 1).mul_(gradient)


class _SecantReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z: Tensor, before: Tensor | None) -> Tensor:
        ctx.save_for_backward(z, before)
        return z.clamp_min(0)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        z, before = ctx.saved_tensors
        if kernels.available(z.device):
            return kernels.secant_slopes(gradient, z, before), None
        result = torch.empty_like(gradient)
        if before is None:
            result[0] = 0
        else:
            _times_slope(gradient[:1], before, z[:1], result[:1])
        size = len(z) if z.is_cuda else 1  # sample by sample on the CPU, so that they stay in its cache
        for j in range(1, len(z), size):
            part = slice(j, j + size)
            _times_slope(gradient[part], z[j - 1 : j - 1 + size][: len(z) - j], z[part], result[part])
        return result, None


class _StepMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h: Tensor, means: Tensor) -> Tensor:
        ctx.save_for_backward(means)
        return h.view_as(h)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (means,) = ctx.saved_tensors
        flat = gradient.flatten(1)
        exact = torch.promote_types(flat.dtype, torch.float32)
        return (means.to(exact) @ flat.to(exact)).to(flat.dtype).view(gradient.shape), None


def step_mean(h: Tensor, means: Tensor) -> Tensor:
    """Return h; in the backward pass the nodes' gradients g become the steps' gradients `means` @ g.

    Parameters
    ----------
    h : [N, ...], consecutive nodes.
    means : [N, N], row j holds the weights of the nodes' gradients in the step that ends at j; zero where none does.
    """
    return _StepMean.apply(h, means)


@contextlib.contextmanager
def secant_relus(blocks: Sequence[Block], carry: Carry | None = None) -> Iterator[None]:
    """Within this context the ReLUs of the blocks propagate gradients with the slopes from each sample's predecessor.

    The predecessor of a pass's first sample is in `carry`; without one, the first sample's gradient is zero.
    """
    relus = {m for block in blocks for m in block.module.modules() if type(m) is nn.ReLU}

    def forward(z: Tensor) -> Tensor:
        return _SecantReLU.apply(z, None if carry is None else carry.take(z))

    for relu in relus:
        relu.forward = forward
    try:
        yield
    finally:
        for relu in relus:
            del relu.forward


class AttentionHead:
    """CLIP's attention pool behind the last block, as a linear part h -> q, k, v and the rest.

    Inside `attached` the pool keeps q, k, v of the batch with their graph, and returns embeddings without one.
    """

    def __init__(self, pool: nn.Module):
        self.pool = pool
        self.parts: tuple[Tensor, ...] = ()
        self.before: list[Tensor | None] = []
        self.embedding: Tensor | None = None

    @classmethod
    def find(cls, root: nn.Module | None) -> AttentionHead | None:
        """Return the head of a tower that has exactly one such pool; None otherwise."""
        names = ("q_proj", "k_proj", "v_proj", "c_proj", "positional_embedding", "num_heads")
        pools = [m for m in root.modules() if all(hasattr(m, name) for name in names)] if root is not None else []
        if len(pools) != 1:
            return None
        head, position = cls(pools[0]), pools[0].positional_embedding
        side = round((len(position) - 1) ** 0.5)
        if side * side + 1 != len(position):
            return None
        h = torch.linspace(-1, 1, 2 * position.shape[1] * side**2).to(position).view(2, -1, side, side)
        with torch.no_grad():
            ours, own = head.finish(*head.project(h)), head.pool(h)
        same = ours.shape == own.shape and torch.allclose(ours, own, rtol=1e-2, atol=1e-2 * float(own.abs().max()))
        return head if same else None

    def project(self, h: Tensor) -> tuple[Tensor, ...]:
        """Return q [N, 1, E], k and v [N, L, E] of maps h [N, E, H, W]; linear in h."""
        pool, tokens = self.pool, h.flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1) + pool.positional_embedding.to(h.dtype)
        return pool.q_proj(tokens[:, :1]), pool.k_proj(tokens), pool.v_proj(tokens)

    def finish(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return embeddings [N, D] from q, k, v."""
        q, k, v = (x.unflatten(2, (self.pool.num_heads, -1)).transpose(1, 2) for x in (q, k, v))
        return self.pool.c_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(1))

    @contextlib.contextmanager
    def attached(self, carry: Carry) -> Iterator[None]:
        """Replace the pool's forward inside this context."""

        def forward(h: Tensor) -> Tensor:
            self.parts = self.project(h)
            self.before = [carry.take(part) for part in self.parts]
            with torch.no_grad():
                self.embedding = self.finish(*self.parts)
            return self.embedding

        self.pool.forward = forward
        try:
            yield
        finally:
            del self.pool.forward
            self.parts, self.before, self.embedding = (), [], None

    def step_gradients(self, scalar: Callable[[Tensor, Tensor], Tensor], rows: Tensor, steps: Tensor) -> list[Tensor]:
        """Return the mean gradient of F by q, k and v over each step, at the step's last node; zero elsewhere.

        Parameters
        ----------
        scalar : (embeddings, rows) -> F.
        rows : int64 [N], the image of each node of the batch.
        steps : int64 [S], the last nodes of the steps.
        """
        parts = [part.detach() for part in self.parts]
        u, weights = np.polynomial.legendre.leggauss(SUBSTEPS)
        ends = []
        for part, before in zip(parts, self.before, strict=True):
            nodes = torch.cat([part[:1] if before is None else before, part])
            ends.append((nodes[steps], nodes[steps + 1]))
        sums = [torch.zeros_like(at_least_float32(end)) for _, end in ends]
        for share, weight in zip((u + 1) / 2, weights / 2, strict=True):
            between = [torch.lerp(a, b, float(share)).requires_grad_() for a, b in ends]
            with torch.enable_grad():
                f = scalar(self.finish(*between), rows[steps])
            for total, gradient in zip(sums, torch.autograd.grad(f.sum(), between), strict=True):
                total.add_(gradient, alpha=float(weight))
        means = [torch.zeros_like(part) for part in parts]
        for mean, total in zip(means, sums, strict=True):
            mean[steps] = total.to(mean.dtype)
        return means
