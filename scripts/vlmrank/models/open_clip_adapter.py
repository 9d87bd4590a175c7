"""Every private name of OpenCLIP that is touched, and nothing else."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from open_clip import factory
from open_clip.hf_configs import arch_dict


@contextlib.contextmanager
def registered(model_cfg: Mapping[str, Any]) -> Iterator[str]:
    """Register a checked configuration inside the block, so that OpenCLIP reads no file of it; yields its name."""
    name = f"vlmrank-{secrets.token_hex(8)}"
    factory._MODEL_CONFIGS[name] = deepcopy(dict(model_cfg))
    try:
        yield name
    finally:
        del factory._MODEL_CONFIGS[name]


def text_tower_types() -> list[str]:
    """Kinds of Hugging Face text towers (`model_type`) that OpenCLIP can build."""
    return sorted(arch_dict)


def registry_repositories() -> frozenset[str]:
    """Repositories that the configurations of OpenCLIP's own architectures name for text towers and tokenizers."""
    texts = [config.get("text_cfg", {}) for config in factory._MODEL_CONFIGS.values()]
    keys = ("hf_tokenizer_name", "hf_model_name")
    return frozenset(text[key] for text in texts for key in keys if text.get(key))
