"""List the residual blocks of every visual tower that OpenCLIP can build, as the table in docs/towers.md.

    python benchmarks/towers.py --write docs/towers.md      # all of them, some minutes
    python benchmarks/towers.py ViT-B-32 convnext_base      # some, on the screen

Towers are built on the meta device: no weights, no memory, no network.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import warnings
from pathlib import Path

import open_clip
import torch
from open_clip.model import _build_vision_tower

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from vlmrank.conductance.secant_relu import is_piecewise_linear
from vlmrank.errors import VlmrankError
from vlmrank.models.blocks import visual_blocks
from vlmrank.store import atomic

HEAD = """# Towers and their blocks

What `vlmrank.zoo.visual_blocks` finds in the visual tower of each of the {count} architectures that OpenCLIP {version}
lists: residual blocks in the order of execution, recognised by what the tower computes and not by the names of its
layers. This page is written by `python benchmarks/towers.py --write docs/towers.md`.

B is the number of blocks; *channels* lists C_b, the channels of block b, as `count x channels`; *layout* tells where
the channels lie in the block's output, and *rule* is the quadrature rule that `auto` takes.

| architecture | family | B | channels | layout | rule |
|---|---|---|---|---|---|
"""


def vision_config(name: str) -> tuple[int, dict, bool]:
    """Return the embedding dimension, the tower's configuration and whether it uses QuickGELU."""
    config = open_clip.get_model_config(name)
    return config["embed_dim"], config["vision_cfg"], bool(config.get("quick_gelu", False))


def family(vision: dict) -> str:
    """Name the kind of tower: OpenCLIP's own two, or the timm model without its size."""
    name = vision.get("timm_model_name")
    if name:
        return f"timm {name.split('_')[0]}" if not name.startswith("vit_") else "timm vit"
    return "ModifiedResNet" if isinstance(vision.get("layers"), list) else "VisionTransformer"


def describe(name: str) -> str:
    """Return the table row of one architecture."""
    embed_dim, vision, quick_gelu = vision_config(name)
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tower = _build_vision_tower(embed_dim, vision, quick_gelu)
    try:
        blocks = visual_blocks(tower)
    except VlmrankError as error:
        return f"| {name} | {family(vision)} | - | refused: {error} | | |"
    runs = [(c, len(list(run))) for c, run in itertools.groupby(block.channels for block in blocks)]
    channels = ", ".join(f"{count} x {c}" for c, count in runs)
    layouts = dict.fromkeys(f"{'channels first' if block.axis == 1 else 'channels last'}" for block in blocks)
    rule = "secant" if is_piecewise_linear(blocks) else "clenshaw-curtis"
    return f"| {name} | {family(vision)} | {len(blocks)} | {channels} | {', then '.join(layouts)} | {rule} |"


def main() -> int:
    """Print the rows, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("architectures", nargs="*", help="OpenCLIP names; all of them by default")
    parser.add_argument("--write", metavar="FILE", help="write the page instead of printing rows")
    options = parser.parse_args()
    unknown = sorted(set(options.architectures) - set(open_clip.list_models()))
    if unknown:
        print(f"towers.py: OpenCLIP does not list {', '.join(unknown)}", file=sys.stderr)
        return 2
    names = options.architectures or open_clip.list_models()
    seen: dict[str, str] = {}
    rows = []
    for name in names:
        key = json.dumps(vision_config(name), sort_keys=True)
        if key not in seen:  # many architectures share a visual tower
            seen[key] = describe(name)
        rows.append(f"| {name} |{seen[key].split('|', 2)[2]}")
        if not options.write:
            print(rows[-1], flush=True)
    if options.write:
        page = HEAD.format(count=len(rows), version=open_clip.__version__) + "\n".join(rows) + "\n"
        with atomic(options.write) as partial:
            partial.write_text(page, encoding="utf-8")
    refused = sum("refused" in row for row in rows)
    print(f"{len(rows)} architectures, {refused} refused", file=sys.stderr)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
