"""Check a model's `open_clip_config.json` against an allow list of keys, types and ranges.

OpenCLIP passes parts of `open_clip_config.json` on to other libraries: `tokenizer_kwargs` could make one of them run a
file of the model's folder, and names may point to other repositories or paths. Nothing reaches OpenCLIP unchecked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jsonschema

from vlmrank.errors import VlmrankError
from vlmrank.files import MOST_CONFIG, RefusedFileError, read_text

CONFIG_FILE = "open_clip_config.json"
REPOSITORY = r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$"  # no path may leave the hub's cache


def _whole(low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high}


def _number(low: float, high: float) -> dict[str, Any]:
    return {"type": "number", "minimum": low, "maximum": high}


def _list(entry: dict[str, Any], *lengths: int) -> dict[str, Any]:
    return {"type": "array", "items": entry, "minItems": min(lengths), "maxItems": max(lengths)}


def _one_of(*values: object) -> dict[str, Any]:
    return {"enum": list(values)}


def _either(*schemas: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": list(schemas)}


def _object(properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": list(required)}


YES_NO, NOTHING = {"type": "boolean"}, {"type": "null"}
CHANNELS = _whole(1, 65_536)
LAYERS = _whole(1, 512)
SIDE = _whole(1, 8_192)
SHARE = _number(0, 1)
SIDES = _either(SIDE, _list(SIDE, 1, 2))
NAME = {"type": "string", "pattern": REPOSITORY, "maxLength": 200}
ACTIVATION = _object({"approximate": _one_of("none", "tanh")})
NORM = _object({"eps": _number(0, 1), "elementwise_affine": YES_NO, "bias": YES_NO})
TRANSFORMER = {
    "width": CHANNELS,
    "mlp_ratio": _number(0.01, 100),
    "ls_init_value": _either(_number(-100, 100), NOTHING),
    "output_tokens": YES_NO,
    "final_ln_after_pool": YES_NO,
    "act_kwargs": _either(ACTIVATION, NOTHING),
    "norm_kwargs": _either(NORM, NOTHING),
    "block_type": _one_of("default", "custom", None),
    **dict.fromkeys(("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn"), YES_NO),
    "scale_fc": YES_NO,
}
VISION = {
    **TRANSFORMER,
    "layers": _either(LAYERS, _list(LAYERS, 4)),
    "head_width": CHANNELS,
    "patch_size": _either(_whole(1, 1_024), NOTHING),
    "image_size": SIDES,
    "patch_dropout": SHARE,
    "attentional_pool": _either(YES_NO, _one_of("parallel", "cascade")),
    "attn_pooler_queries": CHANNELS,
    "attn_pooler_heads": CHANNELS,
    "no_ln_pre": YES_NO,
    "pos_embed_type": _one_of("learnable", "sin_cos_2d"),
    "pool_type": _one_of("tok", "avg", "none"),
    "timm_model_name": {"type": "string", "pattern": "^[A-Za-z0-9_]+(\\.[A-Za-z0-9_]+)?$", "maxLength": 200},
    "timm_model_pretrained": YES_NO,
    "timm_pool": _one_of("", "avg", "max", "avgmax", "map", "token", "abs_attn", "rot_attn"),
    "timm_proj": _one_of("", "linear", "mlp", "none", None),
    "timm_proj_bias": YES_NO,
    "timm_drop": SHARE,
    "timm_drop_path": _either(SHARE, NOTHING),
}
TOKENIZER = _object(
    {
        "clean": _one_of("canonicalize", "lower", "whitespace"),
        "strip_sep_token": YES_NO,
        "language": {"type": "string", "pattern": "^[A-Za-z]{2,3}(_[A-Za-z]{2,4})?$"},
    }
)
TEXT = {
    **TRANSFORMER,
    "layers": LAYERS,
    "heads": CHANNELS,
    "context_length": _whole(1, 4_096),
    "vocab_size": _whole(1, 4_000_000),
    "embed_cls": YES_NO,
    "pad_id": _whole(-1, 4_000_000),
    "eos_id": _whole(-1, 4_000_000),
    "no_causal_mask": YES_NO,
    "pool_type": _one_of("argmax", "eos", "first", "last", "none"),
    "proj_type": _one_of("linear", "none"),
    "proj_bias": YES_NO,
    "hf_model_name": NAME,
    "hf_model_pretrained": YES_NO,
    "hf_proj_type": _one_of("linear", "mlp", "", None),
    "hf_pooler_type": _one_of("mean_pooler", "max_pooler", "cls_pooler", "cls_last_hidden_state_pooler", None),
    "hf_tokenizer_name": NAME,
    "tokenizer_mode": _one_of("clips", "", None),
    "tokenizer_kwargs": TOKENIZER,
}
DECODER = {**TEXT, "dim_head": CHANNELS, "n_queries": CHANNELS, "attn_pooler_heads": CHANNELS}
MODEL = _object(
    {
        "embed_dim": CHANNELS,
        "vision_cfg": _object(VISION),
        "text_cfg": _object(TEXT),
        "multimodal_cfg": _object(DECODER),
        "quick_gelu": YES_NO,
        "custom_text": YES_NO,
        "init_logit_scale": _number(-100, 100),
        "init_logit_bias": _either(_number(-1_000, 1_000), NOTHING),
        "nonscalar_logit_scale": YES_NO,
        "output_dict": YES_NO,
    },
    ("embed_dim", "vision_cfg", "text_cfg"),
)
ABOVE_ZERO = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
PREPROCESS = _object(
    {
        "size": SIDES,
        "mode": _one_of("RGB"),
        "mean": _either(SHARE, _list(SHARE, 3)),
        "std": _either(ABOVE_ZERO, _list(ABOVE_ZERO, 3)),
        "interpolation": _one_of("bicubic", "bilinear"),
        "resize_mode": _one_of("shortest", "longest", "squash"),
        "fill_color": _whole(0, 255),
    }
)


class ConfigError(VlmrankError):
    """A model's configuration is refused; the message names the file, the key and what is allowed."""


@dataclass(frozen=True)
class ModelConfig:
    """What is taken from an `open_clip_config.json`.

    Attributes
    ----------
    model : `model_cfg`, ready for OpenCLIP.
    preprocess : `preprocess_cfg`, may be empty.
    """

    model: Mapping[str, Any]
    preprocess: Mapping[str, Any] = field(default_factory=dict)


def _allowed(schema: Mapping[str, Any]) -> str:
    """What a schema allows, in words."""
    if "anyOf" in schema:
        return " or ".join(_allowed(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(json.dumps(value) for value in schema["enum"])
    if schema["type"] in ("integer", "number"):
        kind = "a whole number" if schema["type"] == "integer" else "a number"
        low = f"above {schema['exclusiveMinimum']}" if "exclusiveMinimum" in schema else f"from {schema['minimum']}"
        return f"{kind} {low} to {schema['maximum']}"
    if schema["type"] == "array":
        lengths = sorted({schema["minItems"], schema["maxItems"]})
        return f"a list of {' or '.join(map(str, lengths))}, each {_allowed(schema['items'])}"
    return {"boolean": "true or false", "null": "null", "object": "an object"}.get(schema["type"], "a plain name")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_section(content: Any, schema: Mapping[str, Any], name: str, where: str) -> None:
    """Refuse a section of a configuration that does not match the schema.

    Raises
    ------
    ConfigError : names the first key at fault.
    """
    found = next(iter(jsonschema.Draft202012Validator(schema).iter_errors(content)), None)
    if found is None:
        return
    path = ".".join([name, *(str(part) for part in found.absolute_path)])
    if found.validator == "additionalProperties":
        key = sorted(str(one) for one in set(found.instance) - set(found.schema["properties"]))[0]
        raise ConfigError(
            f"{where}: {path}.{key[:60]} is refused ({_shown(found.instance[key])}): this key is not among those "
            "that are passed on to OpenCLIP"
        )
    if found.validator == "required":
        missing = [key for key in found.schema["required"] if key not in found.instance]
        raise ConfigError(f"{where}: {path} has no {', '.join(missing)}")
    raise ConfigError(f"{where}: {path} is {_shown(found.instance)}; allowed: {_allowed(found.schema)}")


def read_json_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a small JSON file that holds an object.

    Raises
    ------
    ConfigError : not readable, no JSON, no object, larger than `vlmrank.files.MOST_CONFIG`.
    """

    def refuse(name: str) -> float:
        raise ValueError(f"{name} is no number")

    try:
        content = json.loads(read_text(path, most=MOST_CONFIG), parse_constant=refuse)
    except RefusedFileError as error:
        raise ConfigError(str(error)) from error
    except (OSError, ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ConfigError(f"{path} cannot be read as JSON ({reason})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is no JSON object")
    return content


def read_model_config(path: str | os.PathLike[str]) -> ModelConfig:
    """Read an `open_clip_config.json` and check it against the allow list.

    Raises
    ------
    ConfigError : not readable; a key or value that is not allowed.
    """
    content = read_json_object(path)
    if not isinstance(content.get("model_cfg"), dict):
        raise ConfigError(f"{path} has no `model_cfg`: it is not OpenCLIP's")
    preprocess = content.get("preprocess_cfg") or {}
    check_section(content["model_cfg"], MODEL, "model_cfg", str(path))
    check_section(preprocess, PREPROCESS, "preprocess_cfg", str(path))
    return ModelConfig(content["model_cfg"], {name: value for name, value in preprocess.items() if value is not None})
