"""Write the model card: find, download, check and hash a model's weights. The only step that uses the network."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.pretrained import get_pretrained_cfg
from torch import nn

from vlmrank.errors import VlmrankError
from vlmrank.models.build import build_on_meta, explain, quiet
from vlmrank.models.checkpoint import fit_weights
from vlmrank.models.content import text_config_sha256, tokenizer_sha256, weights_sha256
from vlmrank.models.hub import hub_cache, hub_file, hub_is_reachable
from vlmrank.models.model_config import CONFIG_FILE, ModelConfig, read_model_config
from vlmrank.models.names import HUB, LOCAL
from vlmrank.models.open_clip_adapter import registered_tags
from vlmrank.models.registry import better_architecture, family_of
from vlmrank.models.tokenizer import TokenizerSource, check_text_tower, find_tokenizer, load_tokenizer, vouched
from vlmrank.models.weights import check_weights, find_weights, source_of
from vlmrank.store import FAILED, OK

PREPROCESS_KEYS = ("size", "mean", "std", "interpolation", "resize_mode", "fill_color")


def fetch_model(
    model: str,
    architecture: str,
    pretrained: str | None = None,
    *,
    cache: str | os.PathLike[str] | None = None,
    family: str | None = None,
    offline: bool = False,
    tokenizer: str = "",
    average: bool = False,
) -> dict[str, Any]:
    """Find or download one model's weights, check them without running their code, and describe the model.

    The only function that uses the network for a model. It loads no weights: parameters and cost come from the
    architecture on the meta device.

    Parameters
    ----------
    model : its name in the sheet.
    architecture, pretrained : as `open_clip.create_model` takes them.
    cache : folder of downloads.
    family : overrides the family read off the name.
    offline : stay off the network.
    tokenizer : repository of the hub that the tokenizer comes from, if the user names one.
    average : take the moving average (EMA) inside the weights file, and not the weights.

    Returns
    -------
    The model card, ready for JSON. A model that cannot be used gives a card of status `failed` with the reason in one
    line, so that other models go on.
    """
    card = _empty_card(model, architecture, pretrained, family)
    try:
        weights = find_weights(architecture, pretrained, cache=cache, offline=offline)
        card.update(source=weights.source, path=str(weights.path), revision=weights.revision)
        config = _config(card, cache=cache, offline=offline)
        parts = [config.model["text_cfg"].get(name) for name in ("hf_tokenizer_name", "hf_model_name")]
        on_hub = weights.source in ("tag", "hf-hub") or tokenizer or any(parts)
        with hub_cache(cache, offline=bool(offline or (on_hub and not hub_is_reachable()))), quiet():
            source = _tokenizer_source(config, architecture, tokenizer, cache=cache, offline=offline)
            built = build_on_meta(config).eval()  # batch norm of one image
            card.update(_describe(built, config, source, cache=cache))
            card["config_sha256"] = _config_hash(config, source, average)
        try:
            check_weights(weights.path, parameters=card["parameters"])
        except VlmrankError:
            if weights.source not in ("tag", "hf-hub") or offline or not hub_is_reachable():
                raise
            # The cached file is broken: download it once more, then accept the result.
            weights = find_weights(architecture, pretrained, cache=cache, offline=False, afresh=True)
            check_weights(weights.path, parameters=card["parameters"])
            card.update(path=str(weights.path), revision=weights.revision)
        card["prefix"] = fit_weights(weights.path, built, resize=weights.source == "tag", average=average)
        card["average"] = average
        card.update(bytes=weights.path.stat().st_size, weights_sha256=weights_sha256(weights.path, cache))
        card["mismatches"] = [*_unknown_preprocessing(card, config), *_mismatches(card)]
    except VlmrankError as error:
        card.update(status=FAILED, reason=str(error))
    return card


def _empty_card(model: str, architecture: str, pretrained: str | None, family: str | None) -> dict[str, Any]:
    name = model if architecture.startswith(LOCAL) else architecture
    return {
        "model": model,
        "architecture": architecture,
        "pretrained": pretrained or "",
        "source": source_of(architecture, pretrained),
        "path": "",
        "weights_sha256": "",
        "config": {},
        "config_sha256": "",
        "tokenizer": {},
        "tokenizer_sha256": "",
        "text_config_sha256": "",
        "revision": "",
        "prefix": "",
        "average": False,
        "bytes": None,
        "parameters": None,
        "image_parameters": None,
        "gflops": None,
        "family": family or family_of(name),
        "image_size": None,
        "embed_dim": None,
        "activation": "",
        "preprocess": {},
        "mismatches": [],
        "status": OK,
        "reason": "",
    }


def _config(card: Mapping[str, Any], *, cache: str | os.PathLike[str] | None, offline: bool) -> ModelConfig:
    """The configuration of a model: OpenCLIP's own, or the checked one of its folder or repository."""
    architecture = card["architecture"]
    if architecture.startswith(LOCAL):
        return read_model_config(Path(architecture.removeprefix(LOCAL)) / CONFIG_FILE)
    if architecture.startswith(HUB):
        return read_model_config(hub_file(architecture.removeprefix(HUB), CONFIG_FILE, cache=cache, offline=offline))
    return ModelConfig(open_clip.get_model_config(architecture), trained_preprocessing(card)[0])


def trained_preprocessing(card: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The preprocessing that an OpenCLIP architecture's weights were trained with, as far as known.

    A tag defines it. For a checkpoint file, the tag of the same file name does, else whatever all tags of the
    architecture agree on.

    Returns
    -------
    Keys of the preprocessing, and a note on what is unknown.
    """
    same = [entry for name, _, entry in registered_as(card) if name == card["architecture"]]
    entries = same or [entry for name, _, entry in registered_tags() if name == card["architecture"]]
    if not entries:
        return {}, [
            f"OpenCLIP has no weights of {card['architecture']}, so it is not known which preprocessing they were "
            "trained with: CLIP's mean and std are used"
        ]
    known, apart = {}, []
    for key in ("mean", "std", "interpolation", "resize_mode"):
        values = {json.dumps(_plain(entry.get(key))) for entry in entries}
        if len(values) > 1:
            apart.append(key)
        elif entries[0].get(key) is not None:
            known[key] = entries[0][key]
    if not apart:
        return known, []
    return known, [
        f"OpenCLIP's weights of {card['architecture']} were trained with more than one {' and '.join(apart)}: CLIP's "
        "are used; if it was another, give the checkpoint in a folder with its own open_clip_config.json"
    ]


def _unknown_preprocessing(card: Mapping[str, Any], config: ModelConfig) -> list[str]:
    if card["source"] == "file":
        return trained_preprocessing(card)[1]
    if card["source"] == "tag" or "mean" in config.preprocess or "std" in config.preprocess:
        return []
    return ["its configuration names neither mean nor std: CLIP's are used"]


def _pair(size: int | tuple[int, int] | list[int]) -> list[int]:
    return [int(size), int(size)] if isinstance(size, int) else [int(side) for side in size]


def image_gflops(model: nn.Module) -> float | None:
    """Floating point operations of the image tower for one image, in 1e9, a multiplication and an addition as two."""
    from torch.utils.flop_counter import FlopCounterMode

    parameter = next(model.parameters())
    image = torch.empty(1, 3, *_pair(model.visual.image_size), device=parameter.device)
    try:
        with torch.enable_grad(), FlopCounterMode(display=False) as counter:
            model.encode_image(image)
    except (NotImplementedError, RuntimeError, AssertionError) as error:
        logging.getLogger(__name__).info("operations cannot be counted: %s", explain(error))
        return None
    return counter.get_total_flops() / 1e9


def activation_of(visual: nn.Module) -> str:
    """Most frequent activation class of the image tower: `QuickGELU` or `GELU` for OpenCLIP's own towers."""
    counts: dict[str, int] = {}
    for module in visual.modules():
        name = type(module).__name__
        if re.fullmatch(r"(Quick)?G?ELU\w*|ReLU6?|SiLU|Swish\w*|GELUTanh|Mish|Hardswish", name):
            counts[name] = counts.get(name, 0) + 1
    return max(counts, key=counts.get) if counts else ""


def _describe(
    model: nn.Module, config: ModelConfig, source: TokenizerSource, *, cache: str | os.PathLike[str] | None
) -> dict[str, Any]:
    tokenizer = load_tokenizer(config.model["text_cfg"], source, cache=cache)
    tokens = tokenizer_sha256(tokenizer)
    _check_tokens(tokenizer, model)
    preprocess = {name: model.visual.preprocess_cfg[name] for name in PREPROCESS_KEYS}
    return {
        "config": {"model": _plain(config.model), "preprocess": _plain(config.preprocess)},
        "tokenizer": {"source": source.place, "revision": source.revision},
        "tokenizer_sha256": tokens,
        "text_config_sha256": text_config_sha256(model),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "image_parameters": sum(parameter.numel() for parameter in model.visual.parameters()),
        "gflops": image_gflops(model),
        "image_size": _pair(model.visual.image_size),
        "embed_dim": config.model["embed_dim"],
        "activation": activation_of(model.visual),
        "preprocess": _plain(preprocess),
    }


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def _config_hash(config: ModelConfig, source: TokenizerSource, average: bool) -> str:
    """Hash of the architecture and of the sheet's settings: the tokenizer, and whether the average is taken."""
    content = {**config.model, "tokenizer": source.place} if source.named else dict(config.model)
    if average:
        content["weights"] = "ema"
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _tokenizer_source(
    config: ModelConfig, architecture: str, named: str, *, cache: str | os.PathLike[str] | None, offline: bool
) -> TokenizerSource:
    """Where the tokenizer comes from; repositories that a configuration names are checked before use."""
    text = config.model["text_cfg"]
    folder = architecture.removeprefix(LOCAL) if architecture.startswith(LOCAL) else ""
    own = architecture.removeprefix(HUB) if architecture.startswith(HUB) else ""
    if text.get("hf_model_name"):
        tower = vouched(text["hf_model_name"], "hf_model_name", own=own, named=named)
        check_text_tower(tower, cache=cache, offline=offline)
    return find_tokenizer(text, folder=folder, own=own, named=named, cache=cache, offline=offline)


def _check_tokens(tokenizer: Callable, model: nn.Module) -> None:
    """Refuse a tokenizer whose tokens exceed the text tower's embeddings."""
    text = getattr(model, "text", model)
    embedding = getattr(text, "token_embedding", None)
    if embedding is None:
        embedding = text.transformer.get_input_embeddings()
    largest = int(tokenizer(["a photo of a zebra."]).max())
    if largest >= embedding.num_embeddings:
        raise VlmrankError(
            f"its tokenizer gives the token {largest}, but its text tower knows {embedding.num_embeddings} tokens "
            "(text_cfg.vocab_size): it is the tokenizer or the configuration of another model"
        )


def registered_as(card: Mapping[str, Any]) -> list[tuple[str, str, dict]]:
    """Entries (architecture, tag, config) of OpenCLIP's registry for these weights."""
    if card["source"] == "tag":
        entry = get_pretrained_cfg(card["architecture"], card["pretrained"])
        return [(card["architecture"], card["pretrained"], entry)] if entry else []
    entries = registered_tags()
    if card["source"] == "hf-hub":
        repository = card["architecture"].removeprefix(HUB)
        return [found for found in entries if os.path.split(found[2].get("hf_hub", ""))[0] == repository]
    name = Path(card["path"]).name
    return [found for found in entries if found[2].get("url") and Path(found[2]["url"]).name == name]


def _mismatches(card: Mapping[str, Any]) -> list[str]:
    """Differences between the model as built and the settings of its weights in OpenCLIP's registry."""
    found = []
    for name, tag, entry in registered_as(card)[:1]:
        quick = card["activation"].startswith("Quick")
        towers = card["activation"] in ("QuickGELU", "GELU")
        if towers and bool(entry.get("quick_gelu")) != quick:
            trained = "QuickGELU" if entry.get("quick_gelu") else "GELU"
            better = better_architecture(name, tag, {"--".join(known) for known in open_clip.list_pretrained()})
            advice = f"; take the architecture {better}" if better else ""
            found.append(
                f"{tag} was trained with {trained}, this model uses {card['activation']}: accuracy suffers{advice}"
            )
        for key in ("size", "mean", "std", "interpolation", "resize_mode"):
            expected, used = entry.get(key), card["preprocess"].get(key)
            if expected is not None and not _same(expected, used):
                found.append(
                    f"{tag} was trained with the preprocessing {key} {_plain(expected)}, this model uses {used}"
                )
    return found


def _same(expected: Any, used: Any) -> bool:
    if isinstance(expected, str) or isinstance(used, str):
        return expected == used
    first, second = (list(value) if isinstance(value, (list, tuple)) else [value] for value in (expected, used))
    if len(first) != len(second):
        first, second = _pair(expected), _pair(used)
    return all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(first, second, strict=True))
