"""Class names and prompt templates of a dataset, and their text embeddings."""

from __future__ import annotations

import importlib.util
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from vlmrank.errors import VlmrankError
from vlmrank.text import nearest
from vlmrank.textfile import read_text

CLIP_BENCHMARK = "clip-benchmark:"
DEFAULT_TEMPLATES = ("a photo of a {c}.",)


@dataclass(frozen=True)
class Prompts:
    """Class names in the order of the labels, and templates with `{c}` where the name goes.

    Attributes
    ----------
    classes : may be empty: the dataset has no names, or its images bring them.
    templates : may be empty: the default is used.
    domain : kind of images, if the file gives it.
    """

    classes: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    domain: str = ""


KEYS = ("name", "domain", "classes", "templates")
TAGS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))


def _checked(
    classes: Sequence[str], templates: Sequence[str], where: str, domain: str = "", *, unique: bool = True
) -> Prompts:
    names = tuple(name.strip() for name in classes)
    prompts = tuple(template.strip() for template in templates)
    if any(not name for name in names):
        raise VlmrankError(f"{where}: class {names.index('')} of {len(names)} is empty; its index would be lost")
    if unique:
        _check_unique(names, where)
    for prompt in prompts:
        if "{c}" not in prompt and "{}" not in prompt:
            raise VlmrankError(f"{where}: the template {prompt!r} has no {{c}} where the class name goes")
    return Prompts(names, tuple(prompt.replace("{}", "{c}") for prompt in prompts), domain)


def _check_unique(names: Sequence[str], where: str) -> None:
    """Refuse names that a tokenizer cannot distinguish, since it folds case and white space."""
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(same_text(name), name)
        if first != name:
            raise VlmrankError(
                f"{where} has the classes {first!r} and {name!r}, which are one text to the models. Say in words how "
                "they differ, such as 'filled circle'."
            )
    if len(seen) < len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise VlmrankError(f"{where} has the class {double!r} twice")


def same_text(name: str) -> str:
    """A class name as CLIP's tokenizers see it: composed Unicode, lower case, single spaces.

    Examples
    --------
    >>> same_text("Polar  Bear") == same_text("polar bear")
    True
    """
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def read_prompts(path: str | Path) -> Prompts:
    """Read a class file: YAML (`classes`, optional `templates`, `domain`, `name`) or text with one class per line.

    Every scalar is taken as text: `no`, `007` and `null` are class names.

    Raises
    ------
    VlmrankError : not readable, no classes, two indistinguishable classes, a template without `{c}`, an unknown or
        duplicate key, an entry that is not text; with the line.
    """
    path = Path(path)
    text = read_text(path)
    if path.suffix.lower() not in (".yaml", ".yml"):
        found = _checked([line for line in text.split("\n") if line.strip()], [], str(path))
    else:
        content = _read_yaml(text, path)
        found = _checked(content.get("classes", []), content.get("templates", []), str(path), content.get("domain", ""))
    if not found.classes:
        raise VlmrankError(f"{path} names no class; write a list under `classes:`, or one class a line in a .txt file")
    if len(found.classes) == 1:
        raise VlmrankError(f"{path} names one class; at least two are needed, since with one every model is right")
    return found


def _read_yaml(text: str, path: Path) -> dict[str, Any]:
    """Key -> text or list of texts."""
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise VlmrankError(f"{path} cannot be read: {' '.join(str(error).split())[:300]}") from error
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise VlmrankError(f"{path} names no class: write the list under the key `classes:`")
    content: dict[str, Any] = {}
    for key, value in root.value:
        where = f"{path}, line {key.start_mark.line + 1}"
        name = _text(key, where, "a key")
        if name not in KEYS:
            hint = nearest(name, KEYS) or f"Known are {', '.join(KEYS)}."
            raise VlmrankError(f"{where}: there is no such key {name!r}. {hint}")
        if name in content:
            raise VlmrankError(f"{where}: the key {name!r} is there twice")
        content[name] = _entries(value, where, name) if name in ("classes", "templates") else _text(value, where, name)
    return content


def _entries(node: yaml.Node, where: str, name: str) -> list[str]:
    if isinstance(node, yaml.ScalarNode) and not node.value and not node.style:
        return []
    _refuse_tag(node, where)
    if not isinstance(node, yaml.SequenceNode):
        raise VlmrankError(f"{where}: `{name}` must be a list, one entry per line, each after a dash")
    place = where.rpartition(", line ")[0]
    return [_text(entry, f"{place}, line {entry.start_mark.line + 1}", f"an entry of `{name}`") for entry in node.value]


def _text(node: yaml.Node, where: str, what: str) -> str:
    if isinstance(node, yaml.MappingNode) and node.value and isinstance(node.value[0][0], yaml.ScalarNode):
        key = node.value[0][0].value
        raise VlmrankError(f"{where}: {what} must be a text, not a key {key!r} with a value; put it in quotation marks")
    if not isinstance(node, yaml.ScalarNode):
        raise VlmrankError(f"{where}: {what} must be a text, not a list or a block of keys")
    _refuse_tag(node, where)
    return node.value


def _refuse_tag(node: yaml.Node, where: str) -> None:
    if node.tag not in TAGS:
        raise VlmrankError(f"{where} cannot be read: the tag {node.tag} is not allowed; take it out")


@cache
def _clip_benchmark_lists() -> tuple[dict, dict]:
    spec = importlib.util.find_spec("clip_benchmark")  # read its files only, since importing it would import torch
    if spec is None or not spec.submodule_search_locations:
        raise VlmrankError("clip-benchmark is not installed: pip install clip-benchmark, or give a file of class names")
    folder = Path(spec.submodule_search_locations[0]) / "datasets"
    names, templates = "en_classnames.json", "en_zeroshot_classification_templates.json"
    return tuple(json.loads((folder / name).read_text(encoding="utf-8")) for name in (names, templates))


def clip_benchmark_prompts(name: str) -> Prompts:
    """Class names and templates that clip-benchmark provides for one of its datasets.

    For some datasets it provides only templates and takes the names from the images' own list; `classes` is then empty.
    Two of ImageNet's classes share their name with another one; they are kept.

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
    masked = short in ("imagenet-a", "imagenet-r", "imagenet-o")  # 200 of the classes; the images provide the names
    classes = [] if masked else names.get(variant, [])
    return _checked(classes, templates.get(variant, []), f"{CLIP_BENCHMARK}{name}", unique=False)


def unique_names(names: Sequence[str]) -> list[str]:
    """Number repeated names, so that they can be keys.

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
