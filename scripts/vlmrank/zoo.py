"""Load an OpenCLIP model by its name, and find its residual blocks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from vlmrank.models.blocks import visual_blocks
from vlmrank.models.card import fetch_model
from vlmrank.models.device import choose_device
from vlmrank.models.load import LoadedModel, load_from_card

__all__ = ["LoadedModel", "fetch_model", "load_model", "visual_blocks"]


def load_model(
    architecture: str,
    pretrained: str | None = None,
    *,
    cache: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    precision: str = "float32",
    offline: bool = True,
    card: Mapping[str, Any] | None = None,
    tokenizer: str = "",
) -> LoadedModel:
    """Load a model by its name, with the preprocessing and activation of its own config.

    Parameters
    ----------
    architecture, pretrained : as `open_clip.create_model` takes them.
    cache : folder of downloaded weights.
    device : `auto`, `cpu` or `cuda`.
    precision : `float32`, `tf32` and `bfloat16` (both with float32 weights) or `float64`.
    offline : stay off the network.
    card : the model's card, if there is one; without it the weights are hashed and described here.
    tokenizer : as in `fetch_model`, where there is no card.

    Raises
    ------
    FailedPair : the model cannot be used; the reason in one line.
    VlmrankError : device or precision is not available.
    """
    if not card:
        card = fetch_model("", architecture, pretrained, cache=cache, offline=offline, tokenizer=tokenizer)
    named = {**card, "architecture": architecture, "pretrained": pretrained or ""}
    return load_from_card(named, cache=cache, device=choose_device(device), precision=precision, offline=offline)
