"""Small towers in float64, and a problem for them: blocks, images, baseline and an objective."""

import open_clip
import torch
from torch import nn

from vlmrank.models.blocks import visual_blocks

torch.set_num_threads(1)
RULES = ("clenshaw-curtis", "secant", "trapezoid", "left")


def vit(**vision):
    torch.manual_seed(0)
    config = {"image_size": 32, "patch_size": 8, "width": 24, "layers": 3, "head_width": 12, **vision}
    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    return open_clip.CLIP(16, config, text).double().eval().visual


def resnet():
    torch.manual_seed(0)
    net = vit(layers=[1, 2, 1, 1], width=8, head_width=16, patch_size=None)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return net


def problem(net, images=3):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(images, 3, 32, 32, generator=generator, dtype=torch.float64)
    baseline = torch.full_like(x, -1.5)
    directions = torch.randn(images, 16, generator=generator, dtype=torch.float64)

    def scalar(embedding, rows):
        return 10 * (nn.functional.normalize(embedding, dim=-1) * directions[rows]).sum(-1)

    return net, visual_blocks(net), x, baseline, scalar
