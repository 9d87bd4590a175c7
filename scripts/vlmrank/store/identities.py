"""Identity of a result: the hash of its inputs' content, its options, code and package versions.

Snakemake cannot tell that two working directories want the same result, so results are stored under the hash of
everything that decides them.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
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


# Keys of a model card that decide what its towers compute.
MODEL_FACTS = (
    *("weights_sha256", "config_sha256", "tokenizer_sha256", "text_config_sha256"),
    *("activation", "image_size", "embed_dim", "preprocess"),
)
# Packages whose releases change numbers; docs/output.md says why these, and why not their last digits.
PACKAGES = ("torch", "open_clip_torch", "timm", "pillow")
TEXT_PACKAGES = (*PACKAGES, "transformers")  # for text towers of Hugging Face
# Options that decide how a pair is computed but not what comes out.
FREE_OPTIONS = ("device", "batch", "datasets_per_job", "job_minutes")


def deciding_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the `conductance` options that can change a result: without `tolerance`, `max_points` cannot.

    Examples
    --------
    >>> deciding_options({"points": 16, "tolerance": None, "max_points": 256, "device": "cpu"})
    {'points': 16, 'tolerance': None}
    """
    free = {*FREE_OPTIONS, *(() if options.get("tolerance") else ("max_points",))}
    return {name: value for name, value in options.items() if name not in free}


@functools.cache
def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Package -> `major.minor` of what is installed here, empty where it is not; nothing is imported."""
    found = {}
    for name in packages:
        try:
            found[name] = ".".join(re.findall(r"\d+", metadata.version(name))[:2])
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


def row_family(model: Mapping[str, Any], dataset: Mapping[str, Any], options: Mapping[str, Any], code: str) -> str:
    """Identity without the images: pairs with the same one have equal rows for equal images.

    If paths start at the mean image, rows depend on all images, which then stay in.
    """
    together = dataset["images"] if options.get("baseline") == "mean" else []
    return pair_identity(model, {**dataset, "images": together, "predicted": []}, options, code)


def pair_identity(model: Mapping[str, Any], dataset: Mapping[str, Any], options: Mapping[str, Any], code: str) -> str:
    """Identity of a pair: weights, tokenizer, images, class names, templates, preprocessing, options, code, versions.

    Names of the model and the dataset, their places on disk and the device are not part of it.
    """
    return content_identity(
        {
            "model": {name: model.get(name) for name in MODEL_FACTS},
            "architecture": None if model.get("config_sha256") else model.get("architecture"),
            "images": [[image["id"], image["sha256"]] for image in dataset["images"]],
            "predicted": [[image["id"], image["sha256"]] for image in dataset.get("predicted") or []],
            "classes": dataset.get("classes") or [],
            "templates": dataset.get("templates") or [],
            "options": deciding_options(options),
            "code": code,
            "versions": versions(TEXT_PACKAGES if model.get("text_config_sha256") else PACKAGES),
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
            "options": deciding_options(options),
            "code": code,
            "versions": versions(TEXT_PACKAGES if model.get("text_config_sha256") else PACKAGES),
        }
    )
