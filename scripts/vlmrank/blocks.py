"""Find the residual blocks of a visual encoder by its structure."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from vlmrank.errors import VlmrankError


@dataclass(frozen=True)
class Block:
    """One residual block of a visual encoder.

    Attributes
    ----------
    path : the module's path from the root that was searched.
    module : the module; its output is the residual stream after the block.
    channels : C, size of the output's channel axis.
    axis : the channel axis of the output, 1 for channels-first maps, the last one for tokens and channels-last maps.
    """

    path: str
    module: nn.Module
    channels: int
    axis: int


def _weights(module: nn.Module) -> int:
    return sum(isinstance(child, (nn.Linear, nn.Conv2d, nn.MultiheadAttention)) for child in module.modules())


def _is_composite(module: nn.Module) -> bool:
    normalised = any(isinstance(child, (nn.LayerNorm, nn.BatchNorm2d)) for child in module.modules())
    return normalised and _weights(module) >= 2


def _is_stack(module: nn.Module) -> bool:
    if not isinstance(module, (nn.ModuleList, nn.Sequential)) or len(module) == 0:
        return False
    return all(_is_composite(child) for child in module) and not any(
        _is_stack(inner) for child in module for inner in child.modules()
    )


def visual_blocks(visual: nn.Module) -> tuple[Block, ...]:
    """Return the residual blocks of a visual encoder, in the order of execution.

    Raises
    ------
    VlmrankError : no stack of residual blocks is found.
    """
    blocks = []
    for path, module in visual.named_modules():
        if not _is_stack(module):
            continue
        for name, child in module.named_children():
            norms = [m for m in child.modules() if isinstance(m, (nn.LayerNorm, nn.BatchNorm2d))]
            last = norms[-1]
            if isinstance(last, nn.LayerNorm):
                blocks.append(Block(f"{path}.{name}", child, last.normalized_shape[-1], -1))
            else:
                width = max(m.out_channels for m in child.modules() if isinstance(m, nn.Conv2d))
                blocks.append(Block(f"{path}.{name}", child, width, 1))
    if not blocks:
        raise VlmrankError(f"{type(visual).__name__}: no stack of residual blocks found in this visual encoder")
    return tuple(blocks)
