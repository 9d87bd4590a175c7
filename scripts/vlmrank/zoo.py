"""Models: find their weights, describe them in a card, load them without network."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmrank.blocks import visual_blocks
from vlmrank.errors import FailedPair

__all__ = ["LoadedModel", "fetch_model", "load_model", "visual_blocks"]
LOCAL = "local-dir:"


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for inference: weights frozen, evaluation mode.

    Attributes
    ----------
    model : the open_clip model.
    tokenizer : texts -> tokens [N, context].
    preprocess : PIL image -> tensor [3, H, W].
    visual : the visual encoder.
    card : what is known of it.
    """

    model: Any
    tokenizer: Any
    preprocess: Any
    visual: Any
    card: dict[str, Any]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_model(
    model: str, architecture: str, pretrained: str | None = None, *, cache: str | None = None, family: str | None = None
) -> dict[str, Any]:
    """Card of one model; status `failed` and a reason where it cannot be used."""
    card: dict[str, Any] = {"model": model, "architecture": architecture, "pretrained": pretrained or ""}
    card |= {"status": "ok", "reason": "", "mismatches": [], "revision": "", "family": family or ""}
    try:
        loaded = load_model(architecture, pretrained, cache=cache, offline=False)
    except FailedPair as error:
        return {**card, "status": "failed", "reason": str(error), "weights_sha256": ""}
    folder = Path(architecture.removeprefix(LOCAL)) if architecture.startswith(LOCAL) else None
    weights = folder / "open_clip_model.safetensors" if folder else None
    visual = loaded.visual
    return {
        **card,
        **loaded.card,
        "family": family or ("resnet" if hasattr(visual, "layer1") else "vit"),
        "source": "local-dir" if folder else "openclip",
        "path": str(weights) if weights else "",
        "weights_sha256": _sha256(weights) if weights else "",
        "parameters": sum(p.numel() for p in loaded.model.parameters()),
        "image_parameters": sum(p.numel() for p in visual.parameters()),
        "gflops": None,
    }


def load_model(
    architecture: str,
    pretrained: str | None = None,
    *,
    cache: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    precision: str = "float32",
    offline: bool = True,
) -> LoadedModel:
    """Load a model and freeze it.

    Raises
    ------
    FailedPair : it cannot be loaded; the message says why.
    """
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    import open_clip
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(
            architecture, pretrained or None, device=device, cache_dir=cache, weights_only=True
        )
        tokenizer = open_clip.get_tokenizer(architecture)
    except Exception as error:  # open_clip raises whatever a broken file makes it stumble over
        raise FailedPair(f"{architecture}: cannot be loaded ({' '.join(str(error).split())})") from error
    model = model.eval().requires_grad_(False)
    config = open_clip.get_model_preprocess_cfg(model)
    vision = model.visual
    size = getattr(vision, "image_size", 224)
    card = {
        "architecture": architecture,
        "pretrained": pretrained or "",
        "preprocess": {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()},
        "image_size": size[0] if isinstance(size, (tuple, list)) else size,
        "embed_dim": getattr(vision, "output_dim", None),
        "activation": "quickgelu" if "QuickGELU" in repr(vision) else "gelu",
    }
    return LoadedModel(model, tokenizer, preprocess, vision, card)
