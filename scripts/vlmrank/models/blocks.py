"""Find the residual blocks of a visual encoder by tracing its computation, not by layer names.

The encoder runs once on the meta device, where tensors have shapes but no values, and every operation is recorded. A
module that stands in a list (`ModuleList`, `Sequential`) is a residual block if its output is a sum, up to activations,
scales and changes of shape, of two branches: one that holds the module's input behind at most one weighted layer (the
identity or a projection), and one that holds it behind two or more. Of nested blocks (a stage also ends in a residual
sum) the innermost counts.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vlmrank.errors import VlmrankError
from vlmrank.models.torch_adapter import TorchDispatchMode

_CONVOLUTIONS = {"convolution", "conv2d", "conv1d", "conv3d", "_convolution"}
_PRODUCTS = {"addmm", "mm", "bmm", "baddbmm", "linear", "matmul", "einsum"}
_WEIGHTED = _CONVOLUTIONS | _PRODUCTS | {"scaled_dot_product_attention", "_native_multi_head_attention"}
_SUMS = {"add", "add_", "__iadd__"}


@dataclass(frozen=True)
class Block:
    """One residual block of a visual encoder.

    Attributes
    ----------
    path : the module's path from the root that was searched.
    module : the module; its output is the residual stream after the block.
    channels : C, size of the output's channel axis.
    axis : the channel axis of the output: 1 for channels-first maps, -1 for tokens and channels-last maps.
    """

    path: str
    module: nn.Module
    channels: int
    axis: int


@dataclass
class _Node:
    name: str
    parents: tuple[int, ...]
    shape: tuple[int, ...]
    arguments: tuple = ()


@dataclass
class _Call:
    path: str
    module: nn.Module
    entered: int
    source: int | None
    result: int | None = None
    shape: tuple[int, ...] = ()
    problem: str = ""
    axis: int | None = None
    channels: int = 0


@dataclass
class _Graph(TorchDispatchMode):
    """Every operation that depends on the images, in the order of execution."""

    nodes: list[_Node] = field(default_factory=list)
    of: dict[int, int] = field(default_factory=dict)
    alive: list[Tensor] = field(default_factory=list)

    def __post_init__(self):
        super().__init__()

    def put(self, tensor: Tensor, name: str, parents: tuple[int, ...], arguments: tuple = ()) -> None:
        self.alive.append(tensor)  # keep objects alive, so that no id is reused
        self.of[id(tensor)] = len(self.nodes)
        self.nodes.append(_Node(name, parents, tuple(tensor.shape), arguments))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        parents = tuple(dict.fromkeys(self.of[id(t)] for t in _tensors((args, kwargs)) if id(t) in self.of))
        result = func(*args, **(kwargs or {}))
        if parents:
            name = func.overloadpacket.__name__
            plain = tuple(a for a in args[1:] if isinstance(a, (int, list, tuple)))
            for tensor in _tensors(result):
                self.put(tensor, name, parents, plain)
        return result


def _tensors(values) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(tuple(values.values()))
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from _tensors(value)


def _image_size(visual: nn.Module) -> tuple[int, int]:
    size = getattr(visual, "image_size", None)
    if size is None:
        trunk = getattr(visual, "trunk", visual)
        size = (getattr(trunk, "default_cfg", None) or {}).get("input_size", (3, 224, 224))[-2:]
    return (size, size) if isinstance(size, int) else tuple(size)


@contextlib.contextmanager
def _ready(visual: nn.Module) -> Iterator[None]:
    """Evaluation mode and plain attention inside this context."""
    modes = {module: module.training for module in visual.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        visual.eval()
        torch.backends.mha.set_fastpath_enabled(False)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, training in modes.items():
            module.training = training


def _run(visual: nn.Module, batch: int, stacked: dict[str, nn.Module]) -> tuple[_Graph, list[_Call]]:
    """Run a batch of images on the meta device; return the operations and the calls of the stacked modules."""
    state = {n: torch.empty_like(t, device="meta") for n, t in [*visual.named_parameters(), *visual.named_buffers()]}
    state = {n: t.float() if t.is_floating_point() else t for n, t in state.items()}
    graph, calls, open_calls = _Graph(), [], []

    def enter(path: str):
        def hook(module, args, kwargs):
            source = next((graph.of[id(t)] for t in _tensors((args, kwargs)) if id(t) in graph.of), None)
            open_calls.append(_Call(path, module, len(graph.nodes), source))

        return hook

    def leave(_module, _args, output):
        call = open_calls.pop()
        if isinstance(output, Tensor):
            call.result, call.shape = graph.of.get(id(output)), tuple(output.shape)
        else:
            call.problem = f"its output is a {type(output).__name__}, not one tensor"
            first = next(_tensors(output), None)
            call.result = graph.of.get(id(first)) if first is not None else None
        calls.append(call)

    handles = []
    try:
        for path, module in stacked.items():
            handles.append(module.register_forward_pre_hook(enter(path), with_kwargs=True))
            handles.append(module.register_forward_hook(leave))
        with torch.inference_mode():
            images = torch.empty(batch, 3, *_image_size(visual), device="meta")
            graph.put(images, "images", ())
            with graph:
                torch.func.functional_call(visual, state, (images,))
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError) as error:
        name = type(visual).__name__
        raise VlmrankError(f"{name}: cannot be run on shapes alone to find its blocks: {error}") from error
    finally:
        for handle in handles:
            handle.remove()
    return graph, calls


def _sum_behind(graph: _Graph, call: _Call) -> tuple[list[int], int] | None:
    """Walk from the call's result back to the sum that makes it: the nodes passed, and the sum."""
    node, passed = call.result, []
    while node is not None and node >= call.entered:
        step = graph.nodes[node]
        if step.name in _SUMS and len(step.parents) == 2:
            return passed, node
        if step.name in _WEIGHTED or len(step.parents) != 1:
            return None
        passed.append(node)
        node = step.parents[0]
    return None


def _weights_from(graph: _Graph, call: _Call, last: int) -> dict[int, float]:
    """Fewest weighted operations between the call's input and every node up to `last`."""
    fewest = {call.source: 0.0}
    for node in range(call.entered, last + 1):
        step = graph.nodes[node]
        least = min((fewest.get(parent, math.inf) for parent in step.parents), default=math.inf)
        fewest[node] = least + (step.name in _WEIGHTED)
    return fewest


def _moved(step: _Node, before: tuple[int, ...], axis: int) -> int | None:
    """Return where an operation moves an axis of its input; None if unknown."""
    if step.name == "permute":
        return [d % len(before) for d in step.arguments[0]].index(axis)
    if step.name in ("transpose", "swapaxes", "transpose_"):
        a, b = (d % len(before) for d in step.arguments[:2])
        return {a: b, b: a}.get(axis, axis)
    if len(step.shape) == len(before) and step.shape[axis] == before[axis]:
        return axis
    if axis == len(before) - 1 and step.shape[-1] == before[-1]:
        return len(step.shape) - 1
    if axis == 1 and len(step.shape) > 1 and step.shape[:2] == before[:2]:
        return 1
    return None


def _find_axis(graph: _Graph, passed: list[int], total: int, branch: int) -> tuple[int | None, int]:
    """Follow the channels from the branch's last weighted operation to the block's output: axis and size."""
    way = [total, *reversed(passed)]
    node = branch
    while graph.nodes[node].name not in _WEIGHTED:
        way.insert(0, node)
        if not graph.nodes[node].parents:
            return None, 0
        node = max(graph.nodes[node].parents)
    shape = graph.nodes[node].shape
    axis: int | None = 1 if graph.nodes[node].name in _CONVOLUTIONS else len(shape) - 1
    channels = shape[axis]
    for following in way:
        axis = _moved(graph.nodes[following], shape, axis)
        shape = graph.nodes[following].shape
        if axis is None:
            alike = [d for d in range(1, len(shape)) if shape[d] == channels]
            if len(alike) != 1:
                return None, channels
            axis = alike[0]
    return axis, channels


def _residual(graph: _Graph, call: _Call) -> bool:
    """Return whether a call is a residual block, and store its channel axis in it."""
    found = _sum_behind(graph, call) if call.source is not None and call.result is not None else None
    if found is None:
        return False
    passed, total = found
    fewest = _weights_from(graph, call, total)
    short, long = sorted(graph.nodes[total].parents, key=lambda node: fewest.get(node, math.inf))
    if fewest.get(short, math.inf) > 1 or not 2 <= fewest.get(long, math.inf) < math.inf:
        return False
    call.axis, call.channels = _find_axis(graph, passed, total, long)
    return True


def visual_blocks(visual: nn.Module) -> tuple[Block, ...]:
    """Return the residual blocks of a visual encoder, in the order of execution.

    Parameters
    ----------
    visual : takes images [N, 3, H, W], of the size in its `image_size` where it has one. Its weights are not read, and
        it may be on the meta device.

    Returns
    -------
    Blocks whose outputs are single tensors with the images on axis 0 and the channels on `axis`.

    Raises
    ------
    VlmrankError : no residual block is found; or a block, named in the message, returns something other than one
        tensor, does not have the images on axis 0, runs twice, or has an ambiguous channel axis.

    Examples
    --------
    >>> import open_clip
    >>> tower = open_clip.create_model("RN50", device="meta").visual
    >>> [(block.path, block.channels, block.axis) for block in visual_blocks(tower)][2:4]
    [('layer1.2', 256, 1), ('layer2.0', 512, 1)]
    """
    stacked = {
        f"{path}.{name}" if path else name: child
        for path, module in visual.named_modules()
        if isinstance(module, (nn.ModuleList, nn.Sequential))
        for name, child in module.named_children()
    }
    with _ready(visual):
        graph, calls = _run(visual, 2, stacked)
        found = [call for call in calls if _residual(graph, call)]
        paths = {call.path for call in found}
        inner = [call for call in found if not any(other.startswith(f"{call.path}.") for other in paths)]
        if not inner:
            raise VlmrankError(f"{type(visual).__name__}: no residual blocks found in this visual encoder")
        if len({call.path for call in inner}) < len(inner):
            twice = next(call.path for i, call in enumerate(inner) if call.path in {c.path for c in inner[:i]})
            raise VlmrankError(f"block {twice}: runs more than once")
        _, again = _run(visual, 3, {call.path: call.module for call in inner})
    blocks = []
    for call, larger in zip(inner, again, strict=True):
        if call.problem:
            raise VlmrankError(f"block {call.path}: {call.problem}")
        changed = [d for d, (a, b) in enumerate(zip(call.shape, larger.shape, strict=True)) if a != b]
        if changed != [0] or (call.shape[0], larger.shape[0]) != (2, 3):
            raise VlmrankError(f"block {call.path}: output {call.shape} for 2 images has no image axis in front")
        if call.axis is None or call.axis == 0 or call.shape[call.axis] != call.channels:
            raise VlmrankError(f"block {call.path}: cannot tell which axis of its output {call.shape} is the channels")
        axis = -1 if call.axis == len(call.shape) - 1 else call.axis
        blocks.append(Block(call.path, call.module, call.channels, axis))
    return tuple(blocks)
