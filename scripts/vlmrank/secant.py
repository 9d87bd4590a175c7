"""Secant gradients for towers of ReLU and linear layers.

Along the path the gradient of such a tower jumps wherever a ReLU switches, so every rule that samples gradients is
first order. But over a step from node j to node j+1 the average slope of a ReLU with pre-activation z is known exactly,

    s = (relu(z_{j+1}) - relu(z_j)) / (z_{j+1} - z_j),

so the backward pass of step j uses s instead of the slope at one node. With linear layers in between, the resulting G_j
satisfies sum over h of G_j (h_{j+1} - h_j) = the same number for every block: completeness holds step by step. What is
left is the covariance of switches within a step, and the error falls nearly with the second power of the step.
The head behind the last block is smooth; its gradient's mean over the step comes from the nodes' gradients
(`vlmrank.quadrature.step_mean_matrix`). The slopes are the multipliers of DeepLIFT's rescale rule (Shrikumar et al.,
arXiv 1704.02685), taken between neighbouring nodes of the path.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from vlmrank.blocks import Block

LINEAR = ("Conv2d", "BatchNorm2d", "FrozenBatchNorm2d", "AvgPool2d", "AdaptiveAvgPool2d", "Identity", "Dropout")
"""Types of layers that are linear in evaluation mode."""


def is_piecewise_linear(blocks: Sequence[Block]) -> bool:
    """Tell whether the blocks consist of ReLU and linear layers only, so that the secant rule fits."""
    leaves = [m for block in blocks for m in block.module.modules() if not any(m.children())]
    relus = sum(type(leaf) is nn.ReLU for leaf in leaves)
    return relus > 0 and all(type(leaf) is nn.ReLU or type(leaf).__name__ in LINEAR for leaf in leaves)


def _times_slope(gradient: Tensor, z: Tensor, after: Tensor) -> Tensor:
    # max(z0, z1) / |z1 - z0|, cut to [0, 1], is the secant slope in all four cases of signs.
    width = (after - z).abs_().clamp_min_(torch.finfo(z.dtype).tiny)
    return torch.maximum(z, after).div_(width).clamp_(0, 1).mul_(gradient)


class _SecantReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return z.clamp_min(0)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        result = torch.empty_like(gradient)
        result[-1] = 0
        if z.is_cuda:
            result[:-1] = _times_slope(gradient[:-1], z[:-1], z[1:])
        else:  # sample by sample, in the cache
            for j in range(len(z) - 1):
                result[j] = _times_slope(gradient[j], z[j], z[j + 1])
        return result


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
    means : [N, N], row j holds the weights of the nodes' gradients in step j; zero where no step begins.
    """
    return _StepMean.apply(h, means)


@contextlib.contextmanager
def secant_relus(blocks: Sequence[Block]) -> Iterator[None]:
    """Within this context the ReLUs of the blocks propagate gradients with secant slopes between batch neighbours."""
    relus = {m for block in blocks for m in block.module.modules() if type(m) is nn.ReLU}
    for relu in relus:
        relu.forward = _SecantReLU.apply
    try:
        yield
    finally:
        for relu in relus:
            del relu.forward
