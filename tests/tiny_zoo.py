"""A zoo of tiny OpenCLIP models with random weights and a few drawn datasets: made in a second, ranked in a few."""

import json
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file

VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}


def make_model(folder: Path, seed: int) -> None:
    """Write an untrained model as `local-dir:` wants it."""
    folder.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(embed_dim=16, vision_cfg=VISION, text_cfg=TEXT)
    config = {"model_cfg": {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")


def make_dataset(folder: Path, seed: int, images: int = 4) -> None:
    """Write class folders of noise."""
    rng = np.random.default_rng(seed)
    for name in ("cat", "dog", "ship"):
        (folder / name).mkdir(parents=True)
        for number in range(images):
            pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def make_zoo(folder: Path, models: list[str], datasets: list[str]) -> None:
    """Write models, datasets and both sheets into a working directory; the last dataset is the target."""
    rows = ["model\tarchitecture"]
    for seed, model in enumerate(models):
        make_model(folder / "zoo" / model, seed)
        rows.append(f"{model}\tlocal-dir:zoo/{model}")
    (folder / "config").mkdir(exist_ok=True)
    (folder / "config/models.tsv").write_text("\n".join(rows) + "\n")
    rows = ["dataset\trole\tkind\tpath"]
    for seed, dataset in enumerate(datasets):
        make_dataset(folder / "images" / dataset, seed)
        rows.append(f"{dataset}\t{'target' if dataset == datasets[-1] else 'source'}\tfolder\timages/{dataset}")
    (folder / "config/datasets.tsv").write_text("\n".join(rows) + "\n")
