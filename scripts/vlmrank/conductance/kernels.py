"""The two reductions of a pass as one Triton kernel each, so that a GPU reads every value once.

PyTorch ships Triton with its builds for NVIDIA GPUs; compiling a kernel takes a C compiler, once a machine. Where
either is missing, `available` says no and the same sums are taken operation by operation.
"""

from __future__ import annotations

import contextlib
import functools
import logging

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

logger = logging.getLogger(__name__)
ELEMENTS = 1024  # of a tile
PROGRAMS = 1024  # at least, so that all multiprocessors are busy


@functools.cache
def available(device: torch.device) -> bool:
    """Whether the kernels run on a device: tried once, with a sum that is known."""
    if triton is None or device.type != "cuda":
        return False
    try:
        h = torch.tensor([[1.0, 2.0], [3.0, 5.0]], device=device)
        matrix, where = torch.tensor([[0.0, 0.0], [-1.0, 1.0]], device=device), torch.tensor([[0, 1]], device=device)
        if panel_sums(matrix, h, h, where, axis=1).tolist() == [[6.0, 15.0]]:
            return True
        logger.warning("Triton's sums are wrong on this GPU: going on without it")
    except Exception as error:  # no C compiler, a driver that is too old, a card that is not supported
        logger.warning("Triton does not work here, which costs some speed: %s", str(error).splitlines()[0])
    return False


if triton is not None:

    @triton.jit
    def _panel_kernel(
        matrix,
        h,
        g,
        where,
        out,
        channels,
        positions,
        h_sample,
        h_channel,
        h_position,
        g_sample,
        g_channel,
        g_position,
        splits,
        each,
        nodes: tl.constexpr,
        first: tl.constexpr,
        exact: tl.constexpr,
        C: tl.constexpr,
        L: tl.constexpr,
    ):
        panel, part = tl.program_id(0).to(tl.int64), tl.program_id(2)
        channel = tl.program_id(1) * C + tl.arange(0, C)
        total = tl.zeros((C,), exact)
        start = part * each
        stop = tl.minimum(start + each, positions)
        while start < stop:
            position = start + tl.arange(0, L)
            inside = (channel[:, None] < channels) & (position[None, :] < stop)
            in_h = channel[:, None] * h_channel + position[None, :] * h_position
            in_g = channel[:, None] * g_channel + position[None, :] * g_position
            base = tl.load(h + tl.load(where + panel * nodes) * h_sample + in_h, inside, 0.0).to(exact)
            tile = tl.zeros((C, L), exact)
            for i in range(first, nodes):
                weighted = tl.zeros((C, L), exact)
                for j in range(1, nodes):
                    other = tl.load(h + tl.load(where + panel * nodes + j) * h_sample + in_h, inside, 0.0).to(exact)
                    weighted += tl.load(matrix + i * nodes + j) * (other - base)
                gradient = tl.load(g + tl.load(where + panel * nodes + i) * g_sample + in_g, inside, 0.0).to(exact)
                tile += gradient * weighted
            total += tl.sum(tile, 1)
            start += L
        tl.store(out + (panel * splits + part) * channels + channel, total, channel < channels)

    @triton.jit
    def _slope_kernel(gradient, z, before, out, width, tiny, has_before: tl.constexpr, SIZE: tl.constexpr):
        sample = tl.program_id(0).to(tl.int64)
        at = tl.program_id(1) * SIZE + tl.arange(0, SIZE)
        inside = at < width
        now = tl.load(z + sample * width + at, inside, 0.0)
        past = now
        if sample > 0:
            past = tl.load(z + (sample - 1) * width + at, inside, 0.0)
        elif has_before:
            past = tl.load(before + at, inside, 0.0)
        exact_now, exact_past = now.to(tl.float32), past.to(tl.float32)
        if now.dtype == tl.float64:
            exact_now, exact_past = now, past
        span = tl.maximum(tl.abs(exact_now - exact_past), tiny)
        slope = tl.minimum(tl.maximum(tl.maximum(exact_now, exact_past) / span, 0.0), 1.0)
        if sample == 0 and not has_before:
            slope = slope * 0.0
        value = slope * tl.load(gradient + sample * width + at, inside, 0.0)
        tl.store(out + sample * width + at, value, inside)


def _as_channels(values: Tensor, axis: int) -> Tensor:
    """View [N, ...] as [N, C, L], channels and positions; copied only where the positions do not lie evenly."""
    moved = values.movedim(axis, 1)
    try:
        return moved.view(len(values), moved.shape[1], -1)
    except RuntimeError:
        return moved.reshape(len(values), moved.shape[1], -1)


def _laid_out_like(values: Tensor, pattern: Tensor) -> Tensor:
    """Return values whose samples lie in memory as those of `pattern` do."""
    pairs = zip(values.stride()[1:], pattern.stride()[1:], pattern.shape[1:], strict=True)
    if all(own == other or size == 1 for own, other, size in pairs) and values.stride(0) >= pattern[0].numel():
        return values
    return torch.empty_like(pattern[: len(values)]).copy_(values)


def _on(device: torch.device) -> contextlib.AbstractContextManager:
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def panel_sums(matrix: Tensor, h: Tensor, g: Tensor, where: Tensor, axis: int, *, first: int = 0) -> Tensor:
    """Return sum_ij S_ij g_i h_j of panels, summed over positions; each value of h and g leaves the memory once.

    Parameters
    ----------
    matrix : S [m+1, m+1], rows sum to zero.
    h, g : [N, ...].
    where : int64 [P, m+1], the nodes of each panel.
    axis : channel axis of h.
    first : rows of S before this one are zero.

    Returns
    -------
    [P, C], in float64 where h is, else in float32.
    """
    h, g = _as_channels(h, axis), _as_channels(g, axis)
    (_, channels, positions), (panels, nodes) = h.shape, where.shape
    exact = torch.float64 if h.dtype == torch.float64 else torch.float32
    along = 8 if h.stride(1) == 1 else 128  # positions of a tile; a warp reads what lies side by side
    tall = min(ELEMENTS // along, triton.next_power_of_2(channels))
    columns = triton.cdiv(channels, tall)
    splits = max(1, min(triton.cdiv(positions, along), PROGRAMS // (panels * columns)))
    each = along * triton.cdiv(triton.cdiv(positions, splits), along)
    splits = triton.cdiv(positions, each)
    out = torch.empty(panels, splits, channels, dtype=exact, device=h.device)
    with _on(h.device):
        _panel_kernel[(panels, columns, splits)](
            matrix.to(exact),
            h,
            g,
            where,
            out,
            channels,
            positions,
            *h.stride(),
            *g.stride(),
            splits,
            each,
            nodes=nodes,
            first=first,
            exact=tl.float64 if exact == torch.float64 else tl.float32,
            C=tall,
            L=along,
        )
    return out.sum(1)


def secant_slopes(gradient: Tensor, z: Tensor, before: Tensor | None) -> Tensor:
    """Return gradients times the secant slopes of a ReLU between each sample and the one before it.

    Parameters
    ----------
    gradient, z : [N, ...], z the pre-activations, in memory side by side sample by sample.
    before : [1, ...], those of the sample before the first; without it the first sample's result is zero.
    """
    if not (z.is_contiguous() or (z.ndim == 4 and z.is_contiguous(memory_format=torch.channels_last))):
        z = z.contiguous()
    gradient, out, width = _laid_out_like(gradient, z), torch.empty_like(z), z[0].numel()
    past = z if before is None else _laid_out_like(before, z)
    with _on(z.device):
        grid = (len(z), triton.cdiv(width, ELEMENTS))
        tiny = torch.finfo(torch.float32).tiny
        _slope_kernel[grid](gradient, z, past, out, width, tiny, has_before=before is not None, SIZE=ELEMENTS)
    return out
