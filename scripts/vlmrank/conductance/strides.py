"""Work around PyTorch's batch norm, whose backward pass on the CPU misreads some strides.

An axis of length 1 may have any stride. For maps [1, C, H, W] whose channels lie last, strides such as (1, 1, W C, C)
pass `is_contiguous(channels_last)`, but PyTorch's guess of the layout says "contiguous": in evaluation mode the
backward pass then takes the gradient's memory in the order of the input's. That is the condition `all_contiguous` of
`batch_norm_backward_cpu_template`, aten/src/ATen/native/Normalization.cpp, lines 332 to 342 at commit 655a00f (2026);
https://github.com/pytorch/pytorch/issues/63224 tells how such strides come about. A pass of a single sample has them
behind CLIP's attention pool, maps of one row or column always may.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from torch import Tensor, nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def with_plain_strides(values: Tensor) -> Tensor:
    """Return `values` in an order of memory that leaves no doubt: themselves, unless an axis of length 1 does.

    Examples
    --------
    >>> import torch
    >>> with_plain_strides(torch.zeros(12).as_strided((1, 3, 2, 2), (1, 1, 6, 3))).stride()
    (12, 4, 2, 1)
    """
    return values.contiguous() if 1 in values.shape else values


def _plain_input(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (with_plain_strides(args[0]), *args[1:])


def _plain_gradient(_module: nn.Module, _args: tuple[Tensor, ...], output: Tensor) -> None:
    if 1 in output.shape and output.requires_grad:
        output.register_hook(with_plain_strides)


@contextlib.contextmanager
def safe_batch_norms(roots: Iterable[nn.Module]) -> Iterator[None]:
    """Within this context the batch norms below `roots` get inputs and gradients with plain strides only."""
    norms = {module for root in roots for module in root.modules() if isinstance(module, BATCH_NORMS)}
    handles = [norm.register_forward_pre_hook(_plain_input) for norm in norms]
    handles += [norm.register_forward_hook(_plain_gradient) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
