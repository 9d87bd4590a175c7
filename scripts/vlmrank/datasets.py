"""Images of a task: find them, draw K with a seed, and describe them in a card."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from vlmrank.errors import VlmrankError
from vlmrank.images import ImageError, is_image_name, open_image
from vlmrank.prompts import CLIP_BENCHMARK, DEFAULT_TEMPLATES, Prompts, clip_benchmark_prompts, read_prompts


def _class_index(folder: str, classes: list[str]) -> int:
    match = re.fullmatch(r"(\d+)_(.*)", folder)
    if match and int(match[1]) < len(classes):
        return int(match[1])
    return classes.index(folder) if folder in classes else -1


def _images(path: str, classes: list[str]) -> list[dict[str, Any]]:
    root = Path(path)
    found = []
    for file in sorted(p for p in root.rglob("*") if p.is_file() and is_image_name(p.name)):
        inside = file.relative_to(root)
        label = _class_index(inside.parts[0], classes) if len(inside.parts) > 1 else -1
        found.append({"id": inside.as_posix(), "path": str(file), "label": label})
    return found


def prepare_dataset(
    dataset: str, role: str, path: str, kind: str, test: str, classes: str, domain: str, *, images: int, seed: int
) -> dict[str, Any]:
    """Card of one dataset; status `failed` and a reason where it cannot be used."""
    card: dict[str, Any] = {"dataset": dataset, "role": role, "seed": seed, "domain": domain, "classes": []}
    card |= {
        "templates": [],
        "images": [],
        "failed_images": [],
        "test": None,
        "n_test": 0,
        "status": "ok",
        "reason": "",
    }
    try:
        if classes.startswith(CLIP_BENCHMARK):
            prompts = clip_benchmark_prompts(classes.removeprefix(CLIP_BENCHMARK))
        elif classes:
            prompts = read_prompts(classes)
        else:
            names = sorted(p.name for p in Path(path).iterdir() if p.is_dir())
            prompts = Prompts(tuple(re.sub(r"^\d+_", "", name) for name in names))
        names = list(prompts.classes)
        found = _images(path, names)
        drawn = np.random.default_rng(seed).permutation(len(found))
        for index in drawn:
            if len(card["images"]) == images:
                break
            entry = found[index]
            try:
                open_image(entry["path"])
            except ImageError as error:
                card["failed_images"].append({"id": entry["id"], "reason": str(error)})
                continue
            digest = hashlib.sha256(Path(entry["path"]).read_bytes()).hexdigest()
            card["images"].append({**entry, "sha256": digest})
        labelled = _images(test, names) if test else found
        labelled = [entry for entry in labelled if entry["label"] >= 0]
        card |= {
            "classes": names,
            "templates": list(prompts.templates or (DEFAULT_TEMPLATES if names else ())),
            "domain": domain or prompts.domain,
            "test": labelled or None,
            "n_test": len(labelled),
        }
        if not card["images"]:
            raise VlmrankError(f"{path} holds no image that can be read")
    except (VlmrankError, OSError) as error:
        card |= {"status": "failed", "reason": str(error)}
    return card
