"""Forward and backward passes that hand block outputs and gradients to a reduction, in chunks that fit into memory."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from vlmrank.conductance.accumulate import Reduction
from vlmrank.conductance.memory import (
    CPU_SAMPLES,
    CPU_TENSOR_BYTES,
    CUDA_SAMPLES,
    FIRST,
    Footprint,
    budget_bytes,
    count_saved_bytes,
    even_chunk,
    is_out_of_memory,
    release,
)
from vlmrank.conductance.secant_relu import AttentionHead, Carry, secant_relus, step_mean
from vlmrank.conductance.strides import safe_batch_norms
from vlmrank.errors import FailedPair, VlmrankError
from vlmrank.models.blocks import Block
from vlmrank.models.precision import full_precision
from vlmrank.models.torch_adapter import changes_in_place

logger = logging.getLogger(__name__)
Forward = Callable[[Tensor], Tensor]
Scalar = Callable[[Tensor, Tensor], Tensor]


def _owner(forward: Forward) -> nn.Module | None:
    module = forward if isinstance(forward, nn.Module) else getattr(forward, "__self__", None)
    return module if isinstance(module, nn.Module) else None


def network_parts(forward: Forward, blocks: Sequence[Block]) -> list[nn.Module]:
    """The modules of the blocks, and the module that `forward` runs."""
    owner = _owner(forward)
    return [block.module for block in blocks] + ([owner] if owner is not None else [])


@contextlib.contextmanager
def frozen(forward: Forward, blocks: Sequence[Block]) -> Iterator[list[nn.Parameter]]:
    """Freeze the weights inside this context; yields the parameters."""
    roots = network_parts(forward, blocks)
    parameters = list({id(p): p for root in roots for p in root.parameters()}.values())
    wanted = [p for p in parameters if p.requires_grad]
    try:
        for parameter in wanted:
            parameter.requires_grad_(False)
        yield parameters
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


class OnePass:
    """Forward and backward passes that hand every block's output and gradient to a reduction.

    Parameters
    ----------
    forward, blocks, scalar : as in `layer_conductance`.
    parameters : of the network; they are not counted as activations.
    head : for the secant rule, the attention pool behind the last block, if there is one.
    carry : with a head, the state that its steps need from the previous pass.
    footprint : memory per sample, if an earlier call measured it.
    """

    def __init__(
        self,
        forward: Forward,
        blocks: Sequence[Block],
        scalar: Scalar,
        parameters: Sequence[Tensor],
        head: AttentionHead | None = None,
        carry: Carry | None = None,
        footprint: Footprint | None = None,
    ):
        self.forward, self.blocks, self.scalar, self.parameters = forward, blocks, scalar, parameters
        self.head, self.carry = head, carry
        self.steps: Tensor | None = None
        self.outputs: list[Tensor | None] = []
        self.versions: list[int] = []
        self.clone = False
        self.means: Tensor | None = None
        self.footprint = footprint if footprint is not None else Footprint()

    @contextlib.contextmanager
    def attached(self) -> Iterator[OnePass]:
        """Hooks on the blocks exist inside this context only."""
        handles = [b.module.register_forward_hook(self._keep(i, b)) for i, b in enumerate(self.blocks)]
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()
            self.outputs = []

    def _keep(self, index: int, block: Block):
        last = index == len(self.blocks) - 1

        def keep(_module, _args, output):
            if not isinstance(output, Tensor):
                raise VlmrankError(
                    f"block {block.path}: its output is a {type(output).__name__}; only one tensor can be attributed"
                )
            if output.ndim < 2 or output.shape[block.axis] != block.channels or len(output) != self.batch:
                raise VlmrankError(
                    f"block {block.path}: output of shape {tuple(output.shape)} for {self.batch} samples, where "
                    f"{block.channels} channels were expected on axis {block.axis} and samples on axis 0"
                )
            if len(self.outputs) != index:
                raise VlmrankError(f"block {block.path}: not run once in the order of the given blocks")
            if index == 0:
                output = output.detach().requires_grad_()
            kept = output
            if self.clone or index == 0:  # a layer that works in place may not touch a leaf
                output = output.clone()
            self.outputs.append(kept)
            self.versions.append(changes_in_place(kept))
            return step_mean(output, self.means) if last and self.means is not None else output

        return keep

    def __call__(self, samples: Tensor, rows: Tensor, reduce: Callable[[int, Tensor, Tensor | None], None]) -> Tensor:
        """Run samples [N, ...] of images `rows` and call `reduce(b, h_b, g_b)` for each block; return F [N].

        If `steps` is set and empty, there is no backward pass and g_b is None.
        """
        try:
            return self._run(samples, rows, reduce)
        finally:
            self.outputs, self.versions = [], []

    def _run(self, samples: Tensor, rows: Tensor, reduce) -> Tensor:
        self.outputs, self.versions, self.batch = [], [], len(samples)
        if self.carry is not None:
            self.carry.begin()
        measure = self.footprint.bytes_per_sample is None
        counting = count_saved_bytes(lambda: iter(self.parameters)) if measure else contextlib.nullcontext({})
        with torch.enable_grad(), counting as sizes:
            embedding = self.forward(samples)
            f = self.scalar(embedding, rows)
        if len(self.outputs) != len(self.blocks):
            raise VlmrankError(f"block {self.blocks[len(self.outputs)].path} did not run in the forward pass")
        if any(changes_in_place(h) != version for h, version in zip(self.outputs, self.versions, strict=True)):
            if self.clone:
                raise VlmrankError("a block's output is changed in place inside the block's own graph")
            self.clone = True  # a later layer works in place: keep copies from now on
            return self._run(samples, rows, reduce)
        if measure:
            widest = max(h.numel() * h.element_size() for h in self.outputs)
            self.footprint.bytes_per_sample = (1.2 * sum(sizes.values()) + 8 * widest) / len(samples)
            self.footprint.largest = max([widest, *sizes.values()]) / len(samples)
        if self.steps is not None and not len(self.steps):  # the first node of a path needs no backward pass
            for index, output in enumerate(self.outputs):
                reduce(index, output.detach(), None)
            return f.detach()
        arrived = set()

        def reduce_block(index: int, gradient: Tensor) -> None:
            arrived.add(index)
            with torch.no_grad(), full_precision():
                reduce(index, self.outputs[index].detach(), gradient)
            if index:
                self.outputs[index] = None

        def hook(index: int):
            return lambda gradient: reduce_block(index, gradient)

        for index in range(1, len(self.outputs)):
            if self.outputs[index].requires_grad:
                self.outputs[index].register_hook(hook(index))
        first = self.outputs[0]
        sources, seeds = ([f.sum()], None) if self.head is None else self._steps(embedding, rows)
        (gradient,) = torch.autograd.grad(sources, [first], seeds, allow_unused=True)
        if gradient is None:
            raise VlmrankError(f"block {self.blocks[0].path} does not lie before the output")
        reduce_block(0, gradient)
        if len(arrived) != len(self.blocks):
            missing = min(set(range(len(self.blocks))) - arrived)
            raise VlmrankError(f"block {self.blocks[missing].path} does not lie between the first block and the output")
        return f.detach()

    def _steps(self, embedding: Tensor, rows: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Tensors where the backward pass of a secant step starts, and their gradients."""
        if self.head.embedding is None or embedding.data_ptr() != self.head.embedding.data_ptr():
            raise VlmrankError("the attention pool is not the last layer of the tower: take another rule than secant")
        gradients = self.head.step_gradients(self.scalar, rows, self.steps)
        parts, self.head.parts, self.head.embedding = list(self.head.parts), (), None
        return parts, gradients


@contextlib.contextmanager
def attached_pass(
    forward: Forward, blocks: Sequence[Block], scalar: Scalar, rule: str, footprint: Footprint | None = None
) -> Iterator[OnePass]:
    """Prepare the network for passes of a rule, and restore it afterwards."""
    with contextlib.ExitStack() as stack:
        parameters = stack.enter_context(frozen(forward, blocks))
        stack.enter_context(safe_batch_norms(network_parts(forward, blocks)))
        head = AttentionHead.find(_owner(forward)) if rule == "secant" else None
        carry = Carry() if head is not None else None
        if rule == "secant":
            stack.enter_context(secant_relus(blocks, carry))
        if head is not None:
            stack.enter_context(head.attached(carry))
        yield stack.enter_context(OnePass(forward, blocks, scalar, parameters, head, carry, footprint).attached())


def run_samples(
    one_pass: OnePass,
    images: Tensor,
    baseline: Tensor,
    alphas: np.ndarray,
    reduction: Reduction,
    chunk_size: int | None,
) -> int:
    """Run all samples (image, node) of a reduction in chunks; return the chunk size that was used at the end.

    The first chunk is small and measures the memory per sample, unless that is known. When memory runs out, the chunk
    is halved and its samples are run again; earlier results are kept.
    """
    device, points = images.device, len(alphas)
    total, least = len(images) * points, min(reduction.least, len(images) * points)
    group = points if reduction.overlap or device.type == "cuda" else 1
    measuring = chunk_size is None and one_pass.footprint.bytes_per_sample is None
    chunk = max(least, min(chunk_size or _fitting(one_pass, device, total, group), total))
    if measuring:
        chunk = min(max(least, FIRST[device.type]), total)
    shape = (-1, *[1] * (images.ndim - 1))
    positions = torch.as_tensor(alphas, device=device, dtype=images.dtype)
    start = 0
    while start < total:
        stop = min(start + chunk, total)
        if stop - stop % group > start:  # end at the end of an image, so that no node is run twice
            stop -= stop % group
        flat = torch.arange(start, stop, device=device)
        rows, nodes = flat // points, flat % points
        try:
            samples = torch.lerp(baseline[rows], images[rows], positions[nodes].view(shape))
            reduction.begin(start, stop, device)
            one_pass.means, one_pass.steps = reduction.means, reduction.steps
            f = one_pass(samples, rows, reduction.add)
            start = reduction.commit(start, f)
            if one_pass.carry is not None:
                one_pass.carry.commit()
            failure = None
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failure = str(error).splitlines()[0]
        if failure is not None:  # outside the handler, so that the traceback holds no tensors
            reduction.rollback()
            release(device)
            measuring = False
            if chunk <= least:
                raise FailedPair(f"out of memory with {chunk} sample(s) a pass: {failure}")
            chunk = max(least, chunk // 2)
            logger.warning("out of memory: going on with %d samples per pass", chunk)
        elif measuring:
            measuring = False
            chunk = max(least, _fitting(one_pass, device, total - start, group) if start < total else chunk)
    return chunk


def _fitting(one_pass: OnePass, device: torch.device, total: int, group: int) -> int:
    """Return the chunk size for `total` samples; a multiple of `group`, if one fits into memory."""
    most, footprint = CUDA_SAMPLES, one_pass.footprint
    if device.type == "cpu":
        most = min(CPU_SAMPLES, int(CPU_TENSOR_BYTES / footprint.largest))
    most = max(most, group)
    if footprint.bytes_per_sample:
        most = min(most, int(budget_bytes(device) / footprint.bytes_per_sample))
    return group * even_chunk(-(-total // group), most // group) if most >= group else even_chunk(total, most)
