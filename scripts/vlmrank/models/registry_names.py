"""Read the names in OpenCLIP's registry from its installed files, since importing it would import torch."""

from __future__ import annotations

import ast
import importlib.util
import json
from functools import cache
from pathlib import Path

from vlmrank.text import nearest

QUICK = "-quickgelu"


@cache
def _package() -> Path | None:
    spec = importlib.util.find_spec("open_clip")
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


@cache
def architecture_names() -> tuple[str, ...]:
    """All architectures, empty where OpenCLIP is not installed."""
    folder = _package()
    return tuple(sorted(path.stem for path in (folder / "model_configs").glob("*.json"))) if folder else ()


@cache
def registered() -> dict[str, dict[str, dict[str, object]]]:
    """Architecture -> tag -> what OpenCLIP's registry says in plain values: `url`, `hf_hub`, `quick_gelu`.

    In the order of `open_clip.list_pretrained`. A weight that was trained with QuickGELU is there a second time, under
    the architecture that ends so.
    """
    folder = _package()
    if folder is None:
        return {}
    values: dict[str, ast.expr] = {}
    for node in ast.parse((folder / "pretrained.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values.setdefault(node.targets[0].id, node.value)
    table = values.get("_PRETRAINED")
    if not isinstance(table, ast.Dict):
        return {}
    found = {}
    for key, value in zip(table.keys, table.values, strict=True):
        entry = values.get(value.id) if isinstance(value, ast.Name) else value
        if isinstance(key, ast.Constant):
            found[key.value] = {tag: _plain(config) for tag, config in _items(entry)}
    quick = {}
    for architecture, tags in found.items():
        own = {tag: config for tag, config in tags.items() if config.get("quick_gelu")}
        if own:
            quick[architecture + QUICK] = own
    return found | quick


def _items(entry: ast.expr | None) -> list[tuple[str, ast.expr]]:
    """Tags and their configurations in `dict(tag=...)` or `{"tag": ...}`."""
    if isinstance(entry, ast.Call):
        return [(keyword.arg, keyword.value) for keyword in entry.keywords if keyword.arg]
    if isinstance(entry, ast.Dict):
        pairs = zip(entry.keys, entry.values, strict=True)
        return [(key.value, value) for key, value in pairs if isinstance(key, ast.Constant)]
    return []


def _plain(config: ast.expr) -> dict[str, object]:
    """The arguments of a call that are written out."""
    given = config.keywords if isinstance(config, ast.Call) else ()
    found = {one.arg: one.value.value for one in given if one.arg and isinstance(one.value, ast.Constant)}
    first = config.args[0] if isinstance(config, ast.Call) and config.args else None
    return ({"url": first.value} if isinstance(first, ast.Constant) else {}) | found


@cache
def has_quick_gelu(architecture: str) -> bool:
    """Whether OpenCLIP builds an architecture with QuickGELU."""
    folder = _package()
    path = folder / "model_configs" / f"{architecture}.json" if folder else None
    return bool(path and path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("quick_gelu"))


def name_fault(architecture: str, tag: str | None) -> str:
    """What is wrong with an architecture and a tag of OpenCLIP's, with the nearest right name; empty if nothing is.

    Parameters
    ----------
    tag : None where a checkpoint file takes its place.

    Examples
    --------
    >>> name_fault("ViT-B-32", "openai"), name_fault("ViT-B-23", "openai")[:64]
    ('', "architecture: OpenCLIP has no 'ViT-B-23'. Did you mean 'ViT-B-32")
    """
    known = architecture_names()
    if not known:
        return ""
    if architecture not in known:
        hint = nearest(architecture, known) or "`vlmrank models` lists them."
        return f"architecture: OpenCLIP has no {architecture!r}. {hint}"
    if tag is None:
        return ""
    tags = tuple(registered().get(architecture, ()))
    if not tags or tag.lower().replace("-", "_") in tags:
        return "" if tags or tag else f"pretrained: OpenCLIP has no weights of {architecture}: give a checkpoint file."
    hint = nearest(tag, tags) or f"It has {', '.join(tags)}."
    return f"pretrained: {architecture} has no tag {tag!r}. {hint}" if tag else f"pretrained: is empty. {hint}"
