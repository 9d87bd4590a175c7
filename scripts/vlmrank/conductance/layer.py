"""Layer conductance of every block of a network in one pass per path point.

The conductance of channel c of block b for image k is

    c[k, b, c] = sum over positions p of  integral from 0 to 1 of  dF_k/dh_b[p, c]  dh_b[p, c]/dalpha  dalpha

along x(alpha) = x' + alpha (x - x'). One forward and one backward pass per node give h_b and g_b = dF/dh_b for all
blocks; every rule of `quadrature` is a sum of S_ij g_i h_j over the nodes i, j of a panel. The nodes of all
images form one long list of samples, cut into chunks of any size: a block's gradients are reduced to channels as
soon as they arrive, and only the nodes of an unfinished panel pass from one chunk to the next (secant rule: the last
node, of every ReLU too). So memory does not grow with the number of nodes. No gradient is taken for weights, and the
graph begins at the first block's output.

Drift: float32 against float64 is printed by `python benchmarks/quadrature.py --precision`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from vlmrank.conductance.accumulate import Panels, Reduction, SecantSteps
from vlmrank.conductance.memory import (
    CPU_SAMPLES,
    CPU_TENSOR_BYTES,
    CUDA_SAMPLES,
    budget_bytes,
    count_saved_bytes,
    even_chunk,
    is_out_of_memory,
    release,
)
from vlmrank.conductance.quadrature import RULES, panel_degrees
from vlmrank.conductance.secant_relu import AttentionHead, Carry, secant_relus, step_mean
from vlmrank.conductance.strides import safe_batch_norms
from vlmrank.errors import FailedPair, VlmrankError
from vlmrank.models.blocks import Block
from vlmrank.models.torch_adapter import changes_in_place

logger = logging.getLogger(__name__)
Forward = Callable[[Tensor], Tensor]
Scalar = Callable[[Tensor, Tensor], Tensor]
ENGINES = ("vlmrank", "captum")


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
    chunk_size : samples a pass, after any halving.
    """

    blocks: dict[str, Tensor]
    score: Tensor
    delta: Tensor
    alphas: np.ndarray
    error: Tensor
    points: Tensor
    chunk_size: int


def _owner(forward: Forward) -> nn.Module | None:
    module = forward if isinstance(forward, nn.Module) else getattr(forward, "__self__", None)
    return module if isinstance(module, nn.Module) else None


def _roots(forward: Forward, blocks: Sequence[Block]) -> list[nn.Module]:
    owner = _owner(forward)
    return [block.module for block in blocks] + ([owner] if owner is not None else [])


@contextlib.contextmanager
def frozen(forward: Forward, blocks: Sequence[Block]) -> Iterator[list[nn.Parameter]]:
    """Take no gradient for weights inside this context; yields the parameters."""
    roots = _roots(forward, blocks)
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
    carry : with a head, what its steps take over from the pass before.
    """

    def __init__(
        self,
        forward: Forward,
        blocks: Sequence[Block],
        scalar: Scalar,
        parameters: Sequence[Tensor],
        head: AttentionHead | None = None,
        carry: Carry | None = None,
    ):
        self.forward, self.blocks, self.scalar, self.parameters = forward, blocks, scalar, parameters
        self.head, self.carry = head, carry
        self.steps: Tensor | None = None
        self.outputs: list[Tensor | None] = []
        self.versions: list[int] = []
        self.clone = False
        self.means: Tensor | None = None
        self.bytes_per_sample: float | None = None
        self.largest = 1.0

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

        Where `steps` is set and empty, there is no backward pass and g_b is None.
        """
        try:
            return self._run(samples, rows, reduce)
        finally:
            self.outputs, self.versions = [], []

    def _run(self, samples: Tensor, rows: Tensor, reduce) -> Tensor:
        self.outputs, self.versions, self.batch = [], [], len(samples)
        if self.carry is not None:
            self.carry.begin()
        measure = self.bytes_per_sample is None
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
            self.bytes_per_sample = (1.2 * sum(sizes.values()) + 8 * widest) / len(samples)
            self.largest = max([widest, *sizes.values()]) / len(samples)
        if self.steps is not None and not len(self.steps):  # the first node of a path: nothing to go back for
            for index, output in enumerate(self.outputs):
                reduce(index, output.detach(), None)
            return f.detach()
        arrived = set()

        def reduce_block(index: int, gradient: Tensor) -> None:
            arrived.add(index)
            with torch.no_grad(), _plain_arithmetic():
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
        """Where the backward pass of a secant step starts, and with which gradients."""
        if self.head.embedding is None or embedding.data_ptr() != self.head.embedding.data_ptr():
            raise VlmrankError("the attention pool is not the last layer of the tower: take another rule than secant")
        gradients = self.head.step_gradients(self.scalar, rows, self.steps)
        parts, self.head.parts, self.head.embedding = list(self.head.parts), (), None
        return parts, gradients


@contextlib.contextmanager
def attached_pass(forward: Forward, blocks: Sequence[Block], scalar: Scalar, rule: str) -> Iterator[OnePass]:
    """Prepare the network for passes of a rule, and leave it as it was afterwards."""
    with contextlib.ExitStack() as stack:
        parameters = stack.enter_context(frozen(forward, blocks))
        stack.enter_context(safe_batch_norms(_roots(forward, blocks)))
        head = AttentionHead.find(_owner(forward)) if rule == "secant" else None
        carry = Carry() if head is not None else None
        if rule == "secant":
            stack.enter_context(secant_relus(blocks, carry))
        if head is not None:
            stack.enter_context(head.attached(carry))
        yield stack.enter_context(OnePass(forward, blocks, scalar, parameters, head, carry).attached())


@contextlib.contextmanager
def _plain_arithmetic() -> Iterator[None]:
    """Reductions run in full precision, whatever the network runs in."""
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed


def run_samples(
    one_pass: OnePass,
    images: Tensor,
    baseline: Tensor,
    alphas: np.ndarray,
    reduction: Reduction,
    chunk_size: int | None,
) -> int:
    """Run all samples (image, node) of a reduction in chunks; return the chunk size that was used at the end.

    The first chunk is a small one that tells how much memory a sample takes. When memory runs out, the chunk is halved
    and the same samples are run again; everything reduced before is kept.
    """
    device, points = images.device, len(alphas)
    total, least = len(images) * points, min(reduction.least, len(images) * points)
    group = points if reduction.overlap else 1
    measuring = chunk_size is None and one_pass.bytes_per_sample is None
    chunk = max(least, min(chunk_size or _fitting(one_pass, device, total, group), total))
    if measuring:
        chunk = least
    shape = (-1, *[1] * (images.ndim - 1))
    positions = torch.as_tensor(alphas, device=device, dtype=images.dtype)
    start = 0
    while start < total:
        stop = min(start + chunk, total)
        if stop - stop % group > start:  # end with an image, so that none of its nodes is run again
            stop -= stop % group
        flat = torch.arange(start, stop, device=device)
        rows, nodes = flat // points, flat % points
        try:
            samples = torch.lerp(baseline[rows], images[rows], positions[nodes].view(shape))
            reduction.begin(start, stop, device)
            one_pass.means, one_pass.steps = reduction.means, reduction.steps
            f = one_pass(samples, rows, reduction.add)
            start = reduction.commit(rows, nodes, f)
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
            if chunk <= least:
                raise FailedPair(f"out of memory with {chunk} sample(s) a pass: {failure}")
            chunk = max(least, chunk // 2)
            logger.warning("out of memory: going on with %d samples a pass", chunk)
        elif measuring:
            measuring = False
            chunk = max(least, _fitting(one_pass, device, total - start, group) if start < total else chunk)
    return chunk


def _fitting(one_pass: OnePass, device: torch.device, total: int, group: int) -> int:
    """Return the chunk size for `total` samples; a multiple of `group`, if memory holds one."""
    most = CUDA_SAMPLES
    if device.type == "cpu":
        most = min(CPU_SAMPLES, int(CPU_TENSOR_BYTES / one_pass.largest))
    most = max(most, group)
    if one_pass.bytes_per_sample:
        most = min(most, int(budget_bytes(device) / one_pass.bytes_per_sample))
    return group * even_chunk(-(-total // group), most // group) if most >= group else even_chunk(total, most)


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
    chunk_size: int | None = None,
    engine: str = "vlmrank",
) -> Conductance:
    """Compute the signed channel conductance of all blocks for all images.

    c[k, b, c] = sum over positions and over node pairs i, j of S_ij g_i h_j, the rule's matrix S being
    `vlmrank.conductance.quadrature.stieltjes_matrix`; for the trapezoid sum_j (g_j + g_{j+1}) / 2 (h_{j+1} - h_j).

    Parameters
    ----------
    forward : images [N, 3, H, W] -> embeddings [N, D]; runs every block once. A module or its method, in evaluation
        mode.
    blocks : from `vlmrank.models.blocks.visual_blocks`, in the order of execution.
    images : [K, 3, H, W], x, on the device and in the precision in which to compute.
    baseline : [K, 3, H, W] or anything that broadcasts to it: x'.
    scalar : (embeddings [N, D], rows [N]) -> F [N], where sample i belongs to image `rows[i]`; see
        `vlmrank.conductance.objective.Objective`.
    alphas : [n+1] nodes, strictly increasing from 0 to 1. For `clenshaw-curtis` those that
        `vlmrank.conductance.quadrature.path_positions` gives for n, through any smooth map.
    rule : `trapezoid`, `clenshaw-curtis`, `secant` (towers of ReLU and linear layers only) or `left` (captum's rule).
    chunk_size : samples (image, node) a pass; None finds it. Halved when memory runs out.
    engine : `vlmrank`, or `captum`: its `LayerConductance`, one block a call, rule `left` only.

    Returns
    -------
    Conductance. For a block that is a cut of the network, `delta` vanishes as n grows.

    Raises
    ------
    VlmrankError : a block's output is no tensor or has its channels elsewhere, a block is not run once in order, or
        the nodes are not increasing.
    FailedPair : memory does not hold the smallest chunk.

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
    if engine not in ENGINES:
        raise VlmrankError(f"engine {engine!r} is none of {', '.join(ENGINES)}")
    if not len(blocks) or not len(images):
        raise VlmrankError("conductance needs at least one block and one image")
    if chunk_size is not None and chunk_size < 1:
        raise VlmrankError(f"samples a pass must be at least 1, not {chunk_size}")
    alphas = check_alphas(alphas)
    baseline = baseline.to(images).expand_as(images)
    if engine == "captum":
        if rule != "left":
            raise VlmrankError(f"captum's LayerConductance has the rule left only, not {rule}")
        from vlmrank.conductance.captum_engine import captum_conductance  # a heavy import that few need

        with safe_batch_norms(_roots(forward, blocks)):
            values, score = captum_conductance(forward, blocks, images, baseline, scalar, alphas, chunk_size)
        return gather(blocks, values, score, alphas, chunk_size=chunk_size or len(images) * len(alphas))
    count = len(images)
    with attached_pass(forward, blocks, scalar, rule) as one_pass:
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
