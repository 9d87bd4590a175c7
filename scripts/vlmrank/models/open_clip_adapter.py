"""Every private name of OpenCLIP that is touched, and nothing else."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from open_clip import factory
from open_clip.hf_configs import arch_dict
from open_clip.pretrained import _PRETRAINED


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


def registered_tags() -> list[tuple[str, str, dict[str, Any]]]:
    """Every (architecture, tag, entry) of OpenCLIP's registry of weights."""
    return [(name, tag, entry) for name, tags in _PRETRAINED.items() for tag, entry in tags.items()]


def checkpoint_in_folder(folder: Path) -> Path | None:
    """The weights file that OpenCLIP would load from a `local-dir:` folder."""
    found = factory._find_checkpoint_in_dir(folder)
    return None if found is None else Path(found)
