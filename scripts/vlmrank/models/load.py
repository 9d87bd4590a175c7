"""Load a model from its card onto a device, offline."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import nn

from vlmrank.errors import FailedPair, VlmrankError
from vlmrank.models.build import build, explain, quiet
from vlmrank.models.content import check_content, same_weights, text_config_sha256, tokenizer_sha256
from vlmrank.models.hub import hub_cache
from vlmrank.models.model_config import ModelConfig
from vlmrank.models.precision import DTYPES, checked
from vlmrank.models.tokenizer import TokenizerSource, load_tokenizer
from vlmrank.store import OK


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for inference and for gradients with respect to activations.

    Attributes
    ----------
    model : in eval mode, no parameter requires a gradient.
    tokenizer : texts -> tokens.
    preprocess : PIL image -> tensor [3, H, W], by the model's own config.
    visual : the visual encoder, a submodule of `model`.
    card : its model card.
    """

    model: nn.Module
    tokenizer: Callable
    preprocess: Callable
    visual: nn.Module
    card: dict[str, Any]

    def __repr__(self) -> str:
        return f"LoadedModel({self.card.get('model') or self.card.get('architecture', '')!r})"


def load_from_card(
    card: Mapping[str, Any],
    *,
    cache: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    precision: str = "float32",
    offline: bool = True,
) -> LoadedModel:
    """Load a model that `fetch_model` described, from the files that its card names; downloads nothing.

    Parameters
    ----------
    card : model card.
    cache : folder of downloaded weights.
    device : `cpu` or `cuda`.
    precision : `float32`, `tf32` and `bfloat16` (both with float32 weights) or `float64`.
    offline : stay off the network.

    Raises
    ------
    FailedPair : the model cannot be used; the reason in one line.
    VlmrankError : there is no such precision.
    """
    dtype = DTYPES[checked(precision)]
    if card["status"] != OK:
        raise FailedPair(card["reason"])
    try:
        with same_weights(card, cache) as path, hub_cache(cache, offline=offline), quiet():
            config = ModelConfig(**card["config"])
            source = TokenizerSource(card["tokenizer"]["source"], card["tokenizer"]["revision"])
            tokenizer = load_tokenizer(config.model["text_cfg"], source, cache=cache)
            check_content(card, tokenizer_sha256=tokenizer_sha256(tokenizer))
            how = {"prefix": card["prefix"], "resize": card["source"] == "tag", "average": bool(card.get("average"))}
            model = build(config, str(path), "cpu", **how)
            check_content(card, text_config_sha256=text_config_sha256(model))
            preprocess = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    except (FailedPair, MemoryError):
        raise
    except VlmrankError as error:
        raise FailedPair(str(error)) from error
    except Exception as error:  # broken weights raise many kinds of errors
        raise FailedPair(f"the weights {card['path']} cannot be loaded: {explain(error)}") from error
    model = model.to(device, dtype).eval().requires_grad_(False)
    return LoadedModel(model, tokenizer, preprocess, model.visual, dict(card))
