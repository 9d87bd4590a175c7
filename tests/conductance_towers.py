"""Tiny towers of each family with random weights, and their conductance, for tests."""

from functools import cache

import numpy as np
import open_clip
import torch
from open_clip.timm_model import TimmModel
from torch import nn

from vlmrank.conductance.layer import layer_conductance
from vlmrank.conductance.quadrature import path_positions
from vlmrank.models.blocks import visual_blocks

IMAGES, POINTS, SIZE = 3, 4, 64


def open_clip_tower(**vision):
    text = {"context_length": 8, "vocab_size": 32, "width": 16, "heads": 2, "layers": 1}
    return open_clip.CLIP(16, {"image_size": SIZE, "width": 24, "layers": 2, "head_width": 12, **vision}, text).visual


def coca():
    text = {"context_length": 8, "vocab_size": 32, "width": 16, "heads": 2, "layers": 1, "embed_cls": True}
    vision = {"image_size": SIZE, "width": 24, "layers": 2, "head_width": 12, "patch_size": 16}
    vision |= {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    multimodal = {"context_length": 8, "vocab_size": 32, "width": 16, "heads": 2, "layers": 1, "attn_pooler_heads": 2}
    return open_clip.CoCa(16, multimodal, text, vision)


def timm_tower(name, pool="avg", proj="linear"):
    return TimmModel(name, embed_dim=16, image_size=SIZE, pool=pool, proj=proj)


TOWERS = {
    "RN": lambda: open_clip_tower(width=8, layers=[1, 1, 1, 1], head_width=16, patch_size=None),
    "ViT": lambda: open_clip_tower(patch_size=16),
    "ConvNeXt": lambda: timm_tower("test_convnext"),
    "CoCa": coca,
    "SigLIP": lambda: timm_tower("test_vit", pool="map", proj="none"),
    "timm ResNet": lambda: timm_tower("test_resnet"),
    "timm ByobNet": lambda: timm_tower("test_byobnet"),
    "timm NFNet": lambda: timm_tower("test_nfnet"),
}


@cache
def make(family):
    """A tower with random weights and, where it has them, random batch statistics: forward, module and blocks."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TOWERS[family]().double().eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values in (module.weight, module.running_var):
                    nn.init.uniform_(values, 0.5, 1.5)
                for values in (module.bias, module.running_mean):
                    nn.init.uniform_(values, -0.3, 0.3)
    visual = getattr(model, "visual", model)
    return getattr(model, "encode_image", visual), model, visual_blocks(visual)


def conductance(
    family,
    rule,
    *,
    precision=torch.float64,
    layout=torch.contiguous_format,
    device="cpu",
    engine=layer_conductance,
    **options,
):
    forward, model, blocks = make(family)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(IMAGES, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)
    model.to(device, precision, memory_format=layout)
    x = x.to(device, precision).contiguous(memory_format=layout)
    with torch.no_grad():
        width = forward(x[:1]).shape[-1]
    directions = torch.randn(IMAGES, width, generator=generator, dtype=torch.float64).to(device, precision)

    def scalar(embedding, rows):
        return 10 * (nn.functional.normalize(embedding, dim=-1) * directions[rows]).sum(-1)

    alphas = np.linspace(0, 1, POINTS + 1) if rule == "left" else path_positions(POINTS, rule)
    arguments = {"scalar": scalar, "alphas": alphas, **options}
    if engine is layer_conductance:
        arguments["rule"] = rule
    try:
        return engine(forward, blocks, x, torch.full_like(x[:1], -1.5), **arguments).blocks
    finally:
        model.to("cpu", torch.float64, memory_format=torch.contiguous_format)


def largest_error(found, expected):
    """The largest relative error of a block, by the norm of its conductances."""
    assert all(values.norm() > 1e-6 for values in expected.values())
    return max(float((found[path] - values).norm() / values.norm()) for path, values in expected.items())
