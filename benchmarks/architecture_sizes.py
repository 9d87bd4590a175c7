"""Measure every architecture of the installed OpenCLIP on the meta device: `python benchmarks/architecture_sizes.py`.

Writes scripts/vlmrank/models/architectures.csv, from which `vlmrank models` and `vlmrank size` read sizes without
building a model. Parameters are counted, operations of the image tower are counted by torch's FlopCounterMode (a
multiplication and an addition are two), blocks are those of `vlmrank.zoo.visual_blocks`. Text towers of other libraries
need a config from the hub: without network their parameters stay empty.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import open_clip
import pandas as pd
import torch
from open_clip.model import _build_vision_tower

from vlmrank.errors import VlmrankError
from vlmrank.models.blocks import visual_blocks
from vlmrank.models.build import build_on_meta
from vlmrank.models.card import image_gflops
from vlmrank.models.hub import hub_cache
from vlmrank.models.model_config import ModelConfig
from vlmrank.models.registry import family_of

TARGET = Path(__file__).resolve().parent.parent / "scripts" / "vlmrank" / "models" / "architectures.csv"


class ImageTowerOnly(torch.nn.Module):
    """The image tower of a model whose text tower cannot be built here."""

    def __init__(self, config: dict):
        super().__init__()
        with torch.device("meta"):
            self.visual = _build_vision_tower(
                config["embed_dim"], config["vision_cfg"], config.get("quick_gelu", False)
            )

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        """Embed a batch of images."""
        return self.visual(image)


def measure(architecture: str) -> dict[str, object]:
    """One row of the table."""
    config = copy.deepcopy(open_clip.get_model_config(architecture))
    try:
        model = build_on_meta(ModelConfig(open_clip.get_model_config(architecture)))
        parameters = sum(parameter.numel() for parameter in model.parameters())
    except VlmrankError:
        model, parameters = ImageTowerOnly(config), None
    try:
        blocks = visual_blocks(model.visual)
    except VlmrankError as error:
        print(error, file=sys.stderr)
        blocks = ()
    size = model.visual.image_size
    gflops = image_gflops(model)
    return {
        "architecture": architecture,
        "family": family_of(architecture),
        "image_size": size if isinstance(size, int) else size[0],
        "embed_dim": config["embed_dim"],
        "parameters": parameters,
        "image_parameters": sum(parameter.numel() for parameter in model.visual.parameters()),
        "gflops": None if gflops is None else round(gflops, 3),
        "blocks": len(blocks) or None,
        "channels": sum(block.channels for block in blocks) or None,
    }


def main() -> None:
    """Measure all and write the table."""
    torch.set_num_threads(1)
    rows = []
    with hub_cache(None, offline=True):
        for name in open_clip.list_models():
            rows.append(measure(name))
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    for column in ("parameters", "image_parameters", "blocks", "channels"):
        table[column] = table[column].astype("Int64")
    TARGET.parent.mkdir(exist_ok=True)
    table.to_csv(TARGET, index=False)


if __name__ == "__main__":
    main()
