"""Class names and prompt templates of a dataset, and their text embeddings."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from vlmrank.errors import VlmrankError
from vlmrank.files import read_text

CLIP_BENCHMARK = "clip-benchmark:"
DEFAULT_TEMPLATES = ("a photo of a {c}.",)


@dataclass(frozen=True)
class Prompts:
    """Class names in the order of the labels, and templates with `{c}` where the name goes.

    Attributes
    ----------
    classes : may be empty: the dataset has no names, or its images bring them.
    templates : may be empty: the default is used.
    domain : kind of picture, where the file says so.
    """

    classes: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    domain: str = ""


def _checked(
    classes: Sequence[object], templates: Sequence[object], where: str, domain: object = "", *, unique: bool = True
) -> Prompts:
    if not isinstance(classes, (list, tuple)) or not isinstance(templates, (list, tuple)):
        raise VlmrankError(f"{where}: `classes` and `templates` must be lists, one entry a line")
    names = tuple(str(name).strip() for name in classes)
    prompts = tuple(str(template).strip() for template in templates)
    if any(not name for name in names):
        raise VlmrankError(f"{where}: class {names.index('')} of {len(names)} is empty; its index would be lost")
    double = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if unique and double is not None:
        raise VlmrankError(f"{where} has the class {double!r} twice")
    for prompt in prompts:
        if "{c}" not in prompt and "{}" not in prompt:
            raise VlmrankError(f"{where}: the template {prompt!r} has no {{c}} where the class name goes")
    return Prompts(names, tuple(prompt.replace("{}", "{c}") for prompt in prompts), str(domain or ""))


def read_prompts(path: str | Path) -> Prompts:
    """Read a class sheet: YAML (`classes`, optional `templates` and `domain`) or text with one class a line.

    Raises
    ------
    VlmrankError : not readable, no classes, a class twice, a template without `{c}`.
    """
    path = Path(path)
    try:
        text = read_text(path)
        if path.suffix.lower() not in (".yaml", ".yml"):
            content = {"classes": [line for line in text.splitlines() if line.strip()]}
        else:
            content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise VlmrankError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not content.get("classes"):
        raise VlmrankError(f"{path} names no class; write a list under `classes:`, or one class a line in a .txt file")
    return _checked(content["classes"], content.get("templates") or [], str(path), content.get("domain"))


@cache
def _clip_benchmark_lists() -> tuple[dict, dict]:
    spec = importlib.util.find_spec("clip_benchmark")  # its files alone: importing it takes torch
    if spec is None or not spec.submodule_search_locations:
        raise VlmrankError("clip-benchmark is not installed: pip install clip-benchmark, or give a file of class names")
    folder = Path(spec.submodule_search_locations[0]) / "datasets"
    names, templates = "en_classnames.json", "en_zeroshot_classification_templates.json"
    return tuple(json.loads((folder / name).read_text(encoding="utf-8")) for name in (names, templates))


def clip_benchmark_prompts(name: str) -> Prompts:
    """Class names and templates that clip-benchmark itself keeps for one of its datasets.

    For some datasets it keeps only the templates and takes the names from the images' own list; `classes` is then
    empty. Two of ImageNet's classes share their name with another; they are kept as they are.

    Examples
    --------
    >>> clip_benchmark_prompts("mnist").classes[:2], clip_benchmark_prompts("mnist").templates
    (('0', '1'), ('a photo of the number: "{c}".',))
    """
    names, templates = _clip_benchmark_lists()
    short = re.sub(r"^(wds/)?(vtab/)?", "", name)
    known = set(names) | set(templates)
    variant = "imagenet1k" if re.fullmatch(r"imagenet([-_].+|v2.*)", short) and short not in known else short
    if variant not in known:
        raise VlmrankError(
            f"{CLIP_BENCHMARK}{name}: clip-benchmark has no such dataset; it has {', '.join(sorted(known))}"
        )
    masked = short in ("imagenet-a", "imagenet-r", "imagenet-o")  # 200 of the classes: the images bring the names
    classes = [] if masked else names.get(variant, [])
    return _checked(classes, templates.get(variant, []), f"{CLIP_BENCHMARK}{name}", unique=False)


def unique_names(names: Sequence[str]) -> list[str]:
    """Number the names that were there before, so that they can be keys.

    Examples
    --------
    >>> unique_names(["missile", "cat", "missile"])
    ['missile', 'cat', 'missile (2)']
    """
    counts: dict[str, int] = {}
    result = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        result.append(name if counts[name] == 1 else f"{name} ({counts[name]})")
    return result


def class_embeddings(model, tokenizer, classes: Sequence[str], templates: Sequence[str], *, batch: int = 256):
    """Text embedding of each class, averaged over the templates, as CLIP's zero-shot classifier does.

    T_c = normalise(mean over templates t of normalise(text(t with c))).

    Parameters
    ----------
    model : has `encode_text`.
    tokenizer : texts -> tokens.
    classes : C names.
    templates : with `{c}`; every other brace is left as it is.
    batch : texts a pass.

    Returns
    -------
    torch tensor [C, D] of unit length, on the model's device.
    """
    import torch
    import torch.nn.functional as F

    device = next(model.parameters()).device
    texts = [template.replace("{c}", name) for name in classes for template in templates]
    with torch.no_grad():
        parts = [model.encode_text(tokenizer(texts[i : i + batch]).to(device)) for i in range(0, len(texts), batch)]
        embedding = F.normalize(torch.cat(parts), dim=-1).view(len(classes), len(templates), -1).mean(1)
        return F.normalize(embedding, dim=-1)
