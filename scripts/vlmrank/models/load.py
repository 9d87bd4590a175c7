"""Models: find or download one, describe it in a card, and load it offline."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.pretrained import _PRETRAINED, get_pretrained_cfg
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import nn

from vlmrank.errors import FailedPair, VlmrankError
from vlmrank.models.blocks import visual_blocks
from vlmrank.models.hub import HubError, hub_cache, hub_file, hub_is_reachable
from vlmrank.models.model_config import CONFIG_FILE, ModelConfig, read_model_config
from vlmrank.models.open_clip_adapter import registered
from vlmrank.models.registry import better_architecture
from vlmrank.models.tokenizer import (
    TokenizerSource,
    check_text_tower,
    find_tokenizer,
    load_tokenizer,
    no_remote_code,
    vouched,
)
from vlmrank.models.weights import HUB, LOCAL, check_weights, file_sha256, find_weights, source_of
from vlmrank.store import FAILED, OK

__all__ = ["LoadedModel", "fetch_model", "load_model", "visual_blocks"]

DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.float32, "float64": torch.float64}
PREPROCESS_KEYS = ("size", "mean", "std", "interpolation", "resize_mode")
FAMILIES = (
    ("siglip2", "SigLIP2"),
    ("siglip", "SigLIP"),
    ("eva", "EVA"),
    ("coca", "CoCa"),
    ("mobileclip", "MobileCLIP"),
    ("vitamin", "ViTamin"),
    ("convnext", "ConvNeXt"),
    ("clipa", "CLIPA"),
    ("pe-core", "PE"),
    ("rn", "ResNet"),
    ("resnet", "ResNet"),
    ("vit", "ViT"),
)


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for inference and for gradients by its activations.

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


def family_of(name: str) -> str:
    """Tower family by an architecture's name, for grouping.

    Examples
    --------
    >>> family_of("ViT-B-32-quickgelu"), family_of("hf-hub:timm/ViT-B-16-SigLIP"), family_of("RN50x4")
    ('ViT', 'SigLIP', 'ResNet')
    """
    plain = name.removeprefix(HUB).removeprefix(LOCAL).rstrip("/").rsplit("/", 1)[-1]
    low = plain.lower()
    if re.match(r"(nllb|xlm|roberta|mt5)", low):
        return "multilingual"
    for start, family in FAMILIES:
        if re.search(rf"(^|[-_]){start}", low) and not (start == "rn" and not re.match(r"rn(\d|-)", low)):
            return family
    match = re.match(r"[A-Za-z]+", plain)
    return match[0] if match else plain


def fetch_model(
    model: str,
    architecture: str,
    pretrained: str | None = None,
    *,
    cache: str | os.PathLike[str] | None = None,
    family: str | None = None,
    offline: bool = False,
    tokenizer: str = "",
) -> dict[str, Any]:
    """Find or download one model's weights, check them without running code of theirs, and describe the model.

    This is the only function that goes to the network for a model. It loads no weights: parameters and cost are read
    off the architecture on the meta device.

    Parameters
    ----------
    model : its name in the sheet.
    architecture, pretrained : as `open_clip.create_model` takes them.
    cache : folder that downloads are kept in.
    family : overrides the family read off the name.
    offline : stay off the network.
    tokenizer : repository of the hub that the tokenizer comes from, if the user names one.

    Returns
    -------
    The model card, ready for JSON. Whatever stands in the way of using the model makes a card of status `failed` with
    the reason in one line, so that other models go on.
    """
    card = _empty_card(model, architecture, pretrained, family)
    try:
        weights = find_weights(architecture, pretrained, cache=cache, offline=offline)
        card.update(source=weights.source, path=str(weights.path), revision=weights.revision)
        config = _config(card, cache=cache, offline=offline)
        parts = [config.model["text_cfg"].get(name) for name in ("hf_tokenizer_name", "hf_model_name")]
        on_hub = weights.source in ("tag", "hf-hub") or tokenizer or any(parts)
        with hub_cache(cache, offline=bool(offline or (on_hub and not hub_is_reachable()))), _quiet():
            source = _tokenizer_source(config, architecture, tokenizer, cache=cache, offline=offline)
            card.update(_describe(config, source, cache=cache))
        check_weights(weights.path, parameters=card["parameters"])
        card.update(bytes=weights.path.stat().st_size, weights_sha256=file_sha256(weights.path))
        card["mismatches"] = _mismatches(card)
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
        "revision": "",
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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """OpenCLIP's warnings (QuickGELU, random weights) are answered by the card."""
    level = logging.getLogger().level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger().setLevel(max(level, logging.ERROR))
        try:
            yield
        finally:
            logging.getLogger().setLevel(level)


def _explain(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{text[:300]}{'...' if len(text) > 300 else ''}" or type(error).__name__


def _config(card: Mapping[str, Any], *, cache: str | os.PathLike[str] | None, offline: bool) -> ModelConfig:
    """The configuration of a card's model: OpenCLIP's own, or what passes of its folder's or its repository's."""
    architecture = card["architecture"]
    if architecture.startswith(LOCAL):
        return read_model_config(Path(architecture.removeprefix(LOCAL)) / CONFIG_FILE)
    if architecture.startswith(HUB):
        return read_model_config(hub_file(architecture.removeprefix(HUB), CONFIG_FILE, cache=cache, offline=offline))
    entry = get_pretrained_cfg(architecture, card["pretrained"]) if card["source"] == "tag" else {}
    preprocess = {name: entry[name] for name in PREPROCESS_KEYS if entry.get(name) is not None}
    return ModelConfig(open_clip.get_model_config(architecture), preprocess)


def _build(config: ModelConfig, weights: str | None, device: str):
    """Build a model by OpenCLIP from a checked configuration; `weights` is a file or None."""
    preprocess = {name: value for name, value in config.preprocess.items() if name != "size"}  # the tower's size counts
    with registered(config.model) as name, no_remote_code():
        return open_clip.create_model(
            name,
            weights,
            device=device,
            load_weights=weights is not None,
            require_pretrained=weights is not None,
            pretrained_text=False,
            weights_only=True,
            force_preprocess_cfg=preprocess,
        )


def build_on_meta(config: ModelConfig):
    """Build a model without weights and without memory, to count its parameters and operations.

    Raises
    ------
    VlmrankError : it cannot be built from this configuration.
    """
    try:
        try:
            with torch.device("meta"):
                return _build(config, None, "meta")
        except NotImplementedError:  # an architecture that computes with its weights while it is built
            return _build(config, None, "cpu")
    except VlmrankError:
        raise
    except OSError as error:
        raise HubError(f"a part of the model must be downloaded first: {_explain(error)}") from error
    except Exception as error:  # keys that are right each may not fit each other
        raise VlmrankError(f"the model cannot be built from its configuration: {_explain(error)}") from error


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
        logging.getLogger(__name__).info("operations cannot be counted: %s", _explain(error))
        return None
    return counter.get_total_flops() / 1e9


def activation_of(visual: nn.Module) -> str:
    """Activation of the image tower by the class that occurs most, `QuickGELU` or `GELU` for OpenCLIP's own towers."""
    counts: dict[str, int] = {}
    for module in visual.modules():
        name = type(module).__name__
        if re.fullmatch(r"(Quick)?G?ELU\w*|ReLU6?|SiLU|Swish\w*|GELUTanh|Mish|Hardswish", name):
            counts[name] = counts.get(name, 0) + 1
    return max(counts, key=counts.get) if counts else ""


def _describe(config: ModelConfig, source: TokenizerSource, *, cache: str | os.PathLike[str] | None) -> dict[str, Any]:
    tokenizer = load_tokenizer(config.model["text_cfg"], source, cache=cache)
    model = build_on_meta(config).eval()  # batch norm of one image
    _check_tokens(tokenizer, model)
    preprocess = {name: model.visual.preprocess_cfg[name] for name in PREPROCESS_KEYS}
    return {
        "config": {"model": _plain(config.model), "preprocess": _plain(config.preprocess)},
        "config_sha256": _config_hash(config, source),
        "tokenizer": {"source": source.place, "revision": source.revision},
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


def _config_hash(config: ModelConfig, source: TokenizerSource) -> str:
    """Hash of the architecture, and of the tokenizer where the sheet names one."""
    content = {**config.model, "tokenizer": source.place} if source.named else config.model
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _tokenizer_source(
    config: ModelConfig, architecture: str, named: str, *, cache: str | os.PathLike[str] | None, offline: bool
) -> TokenizerSource:
    """Where the tokenizer comes from; repositories that a configuration names are looked at before they are used."""
    text = config.model["text_cfg"]
    folder = architecture.removeprefix(LOCAL) if architecture.startswith(LOCAL) else ""
    own = architecture.removeprefix(HUB) if architecture.startswith(HUB) else ""
    if text.get("hf_model_name"):
        tower = vouched(text["hf_model_name"], "hf_model_name", own=own, named=named)
        check_text_tower(tower, cache=cache, offline=offline)
    return find_tokenizer(text, folder=folder, own=own, named=named, cache=cache, offline=offline)


def _check_tokens(tokenizer: Callable, model: nn.Module) -> None:
    """Refuse a tokenizer that gives tokens which the text tower has no embedding for."""
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
    """Entries (architecture, tag, config) of OpenCLIP's registry that these weights are known under."""
    if card["source"] == "tag":
        entry = get_pretrained_cfg(card["architecture"], card["pretrained"])
        return [(card["architecture"], card["pretrained"], entry)] if entry else []
    entries = [(name, tag, entry) for name, tags in _PRETRAINED.items() for tag, entry in tags.items()]
    if card["source"] == "hf-hub":
        repository = card["architecture"].removeprefix(HUB)
        return [found for found in entries if os.path.split(found[2].get("hf_hub", ""))[0] == repository]
    name = Path(card["path"]).name
    return [found for found in entries if found[2].get("url") and Path(found[2]["url"]).name == name]


def _mismatches(card: Mapping[str, Any]) -> list[str]:
    """What differs between the model as built and what OpenCLIP's registry says these weights were trained with."""
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


def choose_device(device: str) -> torch.device:
    """`auto`: a GPU where there is one.

    Raises
    ------
    VlmrankError : a GPU is asked for by name and there is none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise VlmrankError("conductance.device is cuda, but torch sees no GPU here: set it to auto or cpu")
    return torch.device(device)


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
    return load_from_card(named, cache=cache, device=device, precision=precision, offline=offline)


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
    cache, device, precision, offline : as in `load_model`.

    Raises
    ------
    FailedPair : the model cannot be used; the reason in one line.
    VlmrankError : device or precision is not available.
    """
    if precision not in DTYPES:
        raise VlmrankError(f"precision {precision!r} is none of {', '.join(DTYPES)}")
    place = choose_device(device)
    if card["status"] != OK:
        raise FailedPair(card["reason"])
    path = Path(card["path"])
    if not path.is_file() or path.stat().st_size != card["bytes"]:
        raise FailedPair(f"the weights {path} are gone or have changed since they were fetched: run fetch_model again")
    try:
        with hub_cache(cache, offline=offline), _quiet():
            config = ModelConfig(**card["config"])
            source = TokenizerSource(card["tokenizer"]["source"], card["tokenizer"]["revision"])
            tokenizer = load_tokenizer(config.model["text_cfg"], source, cache=cache)
            model = _build(config, str(path), "cpu")
    except VlmrankError as error:
        raise FailedPair(str(error)) from error
    except Exception as error:  # broken weights raise whatever they make the loader stumble over
        raise FailedPair(f"the weights {path} cannot be loaded: {_explain(error)}") from error
    model = model.to(place, DTYPES[precision]).eval().requires_grad_(False)
    preprocess = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    return LoadedModel(model, tokenizer, preprocess, model.visual, dict(card))
