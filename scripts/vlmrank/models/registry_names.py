"""Names of OpenCLIP's architectures and tags, off the installed files: importing it would import torch."""

from __future__ import annotations

import ast
import importlib.util
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
def tags_by_architecture() -> dict[str, tuple[str, ...]]:
    """Architecture -> its pretrained tags, as far as they can be read; those with QuickGELU may have further ones."""
    folder = _package()
    if folder is None:
        return {}
    values: dict[str, ast.expr] = {}
    for node in ast.parse((folder / "pretrained.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values[node.targets[0].id] = node.value
    table = values.get("_PRETRAINED")
    if not isinstance(table, ast.Dict):
        return {}
    found = {}
    for key, value in zip(table.keys, table.values, strict=True):
        entry = values.get(value.id) if isinstance(value, ast.Name) else value
        if isinstance(key, ast.Constant) and isinstance(entry, ast.Call):
            found[key.value] = tuple(keyword.arg for keyword in entry.keywords if keyword.arg)
        elif isinstance(key, ast.Constant) and isinstance(entry, ast.Dict):
            found[key.value] = tuple(one.value for one in entry.keys if isinstance(one, ast.Constant))
    return found


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
    tags = tags_by_architecture().get(architecture, ())
    if architecture.endswith(QUICK):
        tags += tags_by_architecture().get(architecture.removesuffix(QUICK), ())
    if not tags or tag.lower().replace("-", "_") in tags:
        return "" if tags or tag else f"pretrained: OpenCLIP has no weights of {architecture}: give a checkpoint file."
    hint = nearest(tag, tags) or f"It has {', '.join(tags)}."
    return f"pretrained: {architecture} has no tag {tag!r}. {hint}" if tag else f"pretrained: is empty. {hint}"
