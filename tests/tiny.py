"""A tiny OpenCLIP model with random weights, as `local-dir:` takes it: for tests that need no trained one."""

from __future__ import annotations

import json
from pathlib import Path

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def tiny_state(seed: int = 0) -> dict:
    """State dict of the tiny model; the same seed gives the same weights."""
    import open_clip
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return open_clip.CLIP(**TINY).state_dict()


def write_tiny(folder: Path, state: dict) -> Path:
    """Write config and weights."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": TINY, "preprocess_cfg": {"mean": [0.5] * 3}})
    )
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "open_clip_model.safetensors")
    return folder
