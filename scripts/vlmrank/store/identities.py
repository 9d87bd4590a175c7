"""What a result depends on besides the code behind it: the content of its inputs.

Snakemake does not see that two working directories want the same result: a pair is therefore kept under the hash of
everything that went into it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def content_identity(parts: Mapping[str, Any]) -> str:
    """SHA-256 of a mapping as canonical JSON, 64 hexadecimal digits; keys in any order give the same.

    Examples
    --------
    >>> content_identity({"a": 1, "b": 2}) == content_identity({"b": 2, "a": 1})
    True
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


# Facts of a model card that decide what its towers compute.
MODEL_FACTS = ("weights_sha256", "config_sha256", "activation", "image_size", "embed_dim", "preprocess")
# Options that decide how a pair is computed but not what comes out.
FREE_OPTIONS = ("device", "batch", "datasets_per_job", "job_minutes")


def pair_identity(model: Mapping[str, Any], dataset: Mapping[str, Any], options: Mapping[str, Any], code: str) -> str:
    """Identity of a pair: weights, images, class names, templates, preprocessing, options and code.

    The names of the model and of the dataset and their places on disk are no part of it, nor is the device.
    """
    return content_identity(
        {
            "model": {name: model.get(name) for name in MODEL_FACTS},
            "architecture": None if model.get("config_sha256") else model.get("architecture"),
            "images": [[image["id"], image["sha256"]] for image in dataset["images"]],
            "classes": dataset.get("classes") or [],
            "templates": dataset.get("templates") or [],
            "options": {name: value for name, value in options.items() if name not in FREE_OPTIONS},
            "code": code,
        }
    )


def accuracy_identity(
    model: Mapping[str, Any], dataset: Mapping[str, Any], options: Mapping[str, Any], code: str
) -> str:
    """Identity of a measured accuracy: like a pair's, with the labelled test images."""
    return content_identity(
        {
            "model": {name: model.get(name) for name in MODEL_FACTS},
            "architecture": None if model.get("config_sha256") else model.get("architecture"),
            "images": [[image["id"], image["sha256"], image["label"]] for image in dataset.get("test") or []],
            "classes": dataset.get("classes") or [],
            "templates": dataset.get("templates") or [],
            "options": {name: value for name, value in options.items() if name not in FREE_OPTIONS},
            "code": code,
        }
    )
