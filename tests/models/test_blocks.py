from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import _build_vision_tower
from torch import nn

from vlmrank.conductance.captum_engine import captum_conductance
from vlmrank.conductance.layer import layer_conductance
from vlmrank.conductance.options import ConductanceOptions
from vlmrank.conductance.path import choose_rule
from vlmrank.conductance.quadrature import path_positions
from vlmrank.errors import VlmrankError
from vlmrank.models.blocks import visual_blocks

torch.set_num_threads(1)
PAGE = Path(__file__).parents[2] / "docs" / "towers.md"

# one small instance a family: what it takes to make it small, and its blocks
SMALL = {
    "VisionTransformer": ({"layers": 3, "width": 32, "head_width": 16, "patch_size": 16}, [32] * 3),
    "VisionTransformer, CoCa": (
        {"layers": 2, "width": 32, "head_width": 16, "patch_size": 16, "attentional_pool": True, "output_tokens": True},
        [32] * 2,
    ),
    "ModifiedResNet": ({"layers": [1, 2, 1, 1], "width": 8, "head_width": 32, "patch_size": None}, None),
    "timm vit": ("vit_tiny_patch16_224", {"depth": 2}, [192] * 2),
    "timm vit, SigLIP": ("vit_base_patch16_siglip_224", {"depth": 2, "embed_dim": 48, "num_heads": 3}, [48] * 2),
    "timm vit, MobileCLIP-B": ("vit_base_mci_224", {"depth": 2, "img_size": 64}, [768] * 2),
    "timm vit, relative positions": ("vit_relpos_medium_patch16_cls_224", {"depth": 2, "embed_dim": 48}, [48] * 2),
    "timm eva": ("eva02_tiny_patch14_224", {"depth": 2}, [192] * 2),
    "timm eva, PE": ("vit_pe_core_tiny_patch16_384", {"depth": 2, "img_size": 64}, [192] * 2),
    "timm beit": ("beit_base_patch16_224", {"depth": 2, "embed_dim": 48, "num_heads": 3}, [48] * 2),
    "timm convnext": ("convnext_atto", {"depths": (1, 2, 1, 1), "dims": (8, 16, 24, 32)}, [8, 16, 16, 24, 32]),
    "timm fastvit": ("fastvit_mci0", {"layers": (1, 1, 2, 1), "embed_dims": (16, 32, 64, 64)}, [16, 32, 64, 64, 64]),
    "timm vitamin": ("vitamin_small_224", {"depth": 2, "img_size": 64}, None),
    "timm swin": ("swin_tiny_patch4_window7_224", {"depths": (1, 2, 1, 1), "embed_dim": 24}, [24, 48, 48, 96, 192]),
    "timm resnet": ("resnet26", {}, [256, 256, 512, 512, 1024, 1024, 2048, 2048]),
}


class Trunk(nn.Module):
    """A timm model as OpenCLIP wraps it: a trunk and a linear head."""

    def __init__(self, name, arguments):
        super().__init__()
        import timm

        self.trunk = timm.create_model(name, num_classes=16, **arguments)
        size = self.trunk.default_cfg["input_size"][-1] if self.trunk.default_cfg.get("fixed_input_size") else 64
        self.image_size = (arguments.get("img_size", size),) * 2

    def forward(self, images):
        return self.trunk(images)


def tower(family):
    """Random weights in which every layer matters: layer scales and norms would otherwise hide whole branches."""
    torch.manual_seed(0)
    if not family.startswith("timm"):
        net = _build_vision_tower(16, {"image_size": 64, **SMALL[family][0]})
    else:
        net = Trunk(*SMALL[family][:2])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "gamma" in name or "layer_scale" in name:
                parameter.fill_(0.5)
            elif parameter.ndim == 1:
                parameter += 0.2 * torch.rand(parameter.shape, generator=generator)
    return net.double().eval()


def embed(net):
    def forward(images):
        output = net(images)
        return output[0] if isinstance(output, tuple) else output

    return forward


@pytest.mark.parametrize("family", SMALL)
def test_a_small_tower_of_each_family_runs_and_is_complete(family):
    net = tower(family)
    blocks = visual_blocks(net)
    expected = SMALL[family][-1]
    if expected is not None:
        assert [block.channels for block in blocks] == expected
    generator = torch.Generator().manual_seed(1)
    size = net.image_size if isinstance(net.image_size, tuple) else (net.image_size,) * 2
    x = torch.randn(1, 3, *size, generator=generator, dtype=torch.float64)
    directions = torch.randn(1, 16, generator=generator, dtype=torch.float64)

    def scalar(embedding, rows):
        return (nn.functional.normalize(embedding, dim=-1) * directions[rows]).sum(-1)

    baseline = torch.full_like(x, -1.5)
    rule = choose_rule(ConductanceOptions(), blocks)
    assert (rule == "secant") == ("ResNet" in family or "resnet" in family)
    result = layer_conductance(
        embed(net), blocks, x, baseline, scalar=scalar, alphas=path_positions(16, rule) ** 1.5, rule=rule
    )
    size = torch.stack([values.abs().sum(-1) for values in result.blocks.values()], -1)
    np.testing.assert_allclose(result.delta / size, 0, atol=0.03)

    arguments = {"scalar": scalar, "alphas": np.linspace(0, 1, 3)}
    chosen = blocks[:: max(1, len(blocks) - 1)]
    ours = layer_conductance(embed(net), blocks, x, baseline, rule="left", **arguments)
    captum = captum_conductance(embed(net), chosen, x, baseline, **arguments)
    for path, values in captum.blocks.items():
        assert values.abs().max() > 1e-6
        np.testing.assert_allclose(values, ours.blocks[path], rtol=0, atol=1e-10)


def test_the_page_lists_every_architecture():
    rows = [line.split("|") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    table = {row[1].strip(): [cell.strip() for cell in row[2:-1]] for row in rows[1:]}
    assert sorted(table) == sorted(open_clip.list_models())
    assert not any("refused" in " ".join(row) for row in table.values())
    for name in ("ViT-B-32", "RN50"):
        with torch.device("meta"):
            config = open_clip.get_model_config(name)
            blocks = visual_blocks(_build_vision_tower(config["embed_dim"], config["vision_cfg"]))
        assert table[name][1] == str(len(blocks))
        assert sum(int(run.split(" x ")[0]) for run in table[name][2].split(", ")) == len(blocks)


class Residual(nn.Module):
    """x + second(relu(first(x))), with an output of the wanted kind."""

    def __init__(self, width, kind):
        super().__init__()
        self.first, self.second, self.kind = nn.Linear(width, width), nn.Linear(width, width), kind

    def forward(self, x):
        x = x + self.second(self.first(x).relu())
        return (x, x.mean()) if self.kind == "tuple" else x


class Sequence(nn.Module):
    """Tokens in rows of an image, in batch-first or sequence-first order."""

    def __init__(self, kind, width=8):
        super().__init__()
        self.image_size, self.kind, self.width = 16, kind, width
        self.proj = nn.Conv2d(3, width, 4, 4)
        self.blocks = nn.ModuleList(Residual(width, kind) for _ in range(2))
        self.head = nn.Linear(width, 4)

    def forward(self, images):
        x = self.proj(images).flatten(2).permute(2, 0, 1)
        if self.kind != "sequence":
            x = x.transpose(0, 1)
        for block in self.blocks:
            x = block(x)
            x = x[0] if isinstance(x, tuple) else x
        if self.kind == "twice":
            x = self.blocks[0](x)
        return self.head(x.mean(0 if self.kind == "sequence" else 1))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("sequence", r"block blocks\.0: output \(16, 2, 8\) for 2 images has no image axis in front"),
        ("tuple", r"block blocks\.0: its output is a tuple"),
        ("twice", r"block blocks\.0: runs more than once"),
    ],
)
def test_outputs_that_cannot_be_attributed_are_refused_by_name(kind, message):
    with pytest.raises(VlmrankError, match=message):
        visual_blocks(Sequence(kind))


def test_as_many_tokens_as_channels_do_not_confuse_the_axis():
    (first, _) = visual_blocks(Sequence("plain", width=16))
    assert (first.channels, first.axis) == (16, -1)


def test_a_square_map_with_as_many_channels_keeps_its_axis():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.image_size = 8
            self.stem = nn.Conv2d(3, 8, 1)
            self.stages = nn.Sequential(Convolutional(), Convolutional())

        def forward(self, x):
            return self.stages(self.stem(x)).mean((2, 3))

    class Convolutional(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.LayerNorm(8)
            self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

        def forward(self, x):
            y = self.norm(self.first(x).permute(0, 2, 3, 1))
            return x + self.down(self.up(y).relu()).permute(0, 3, 1, 2)

    assert [(b.path, b.channels, b.axis) for b in visual_blocks(Net())] == [("stages.0", 8, 1), ("stages.1", 8, 1)]


def test_an_encoder_without_residual_blocks_is_refused():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
    net.image_size = 16
    net(torch.zeros(1, 3, 16, 16))
    with pytest.raises(VlmrankError, match="no residual blocks found"):
        visual_blocks(net)
    with pytest.raises(VlmrankError, match="cannot be run on shapes alone"):
        visual_blocks(nn.Sequential(nn.Linear(5, 5)))
