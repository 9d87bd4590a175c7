"""Every private name of OpenCLIP that we use, and nothing else."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from open_clip import factory
from open_clip.hf_configs import arch_dict
from open_clip.pretrained import _PRETRAINED
from torch import Tensor, nn

PRIVATE = (
    "open_clip.factory:_MODEL_CONFIGS",
    "open_clip.factory:_find_checkpoint_in_dir",
    "open_clip.pretrained:_PRETRAINED",
    "open_clip.hf_configs:arch_dict",
)


@contextlib.contextmanager
def registered(model_cfg: Mapping[str, Any]) -> Iterator[str]:
    """Register a checked configuration inside the block, so that OpenCLIP reads no file; yields its name."""
    name = f"vlmrank-{secrets.token_hex(8)}"
    factory._MODEL_CONFIGS[name] = deepcopy(dict(model_cfg))
    try:
        yield name
    finally:
        del factory._MODEL_CONFIGS[name]


@contextlib.contextmanager
def reading(read: Callable[[str], dict[str, Tensor]], *, resize: bool) -> Iterator[None]:
    """Make OpenCLIP read weights through `read` inside the block, and interpolate position embeddings if `resize`."""
    names = ("load_state_dict", "resize_pos_embed", "resize_text_pos_embed")
    before = {name: getattr(factory, name) for name in names}
    factory.load_state_dict = lambda path, **_: read(path)
    if not resize:
        factory.resize_pos_embed = factory.resize_text_pos_embed = lambda *_: None
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(factory, name, value)


def converted(model: nn.Module, tensors: Mapping[str, Tensor], *, resize: bool) -> dict[str, Tensor]:
    """The tensors that OpenCLIP would load into this model, after converting other layouts."""
    found: dict[str, Tensor] = {}
    model.load_state_dict = lambda state, **_: found.update(state)  # of this one model
    try:
        with reading(lambda _: dict(tensors), resize=resize):
            factory.load_checkpoint(model, "")
    finally:
        del model.load_state_dict
    return found


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
