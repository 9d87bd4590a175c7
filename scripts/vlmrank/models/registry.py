"""OpenCLIP's registry: available weights, their sizes, families and training data, and filters on them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from vlmrank.errors import VlmrankError
from vlmrank.models.names import HUB, LOCAL
from vlmrank.models.registry_names import has_quick_gelu, registered
from vlmrank.text import nearest

SUFFIXES = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}
NUMBER = r"(\d+(?:\.\d+)?)([KMGB]?)"
ARCHITECTURES = Path(__file__).parent / "architectures.csv"
BYTES_PER_PARAMETER = 4  # hub files of OpenCLIP weights are in float32
TRAINING_DATA = (
    ("laion400m", "LAION-400M"),
    ("laion2b", "LAION-2B"),
    ("laion5b", "LAION-5B"),
    ("laion_aesthetic", "LAION-Aesthetic"),
    ("mscoco_finetuned_laion2b", "LAION-2B, MS COCO"),
    ("frozen_laion5b", "LAION-5B"),
    ("datacompdr", "DataCompDR"),
    ("datacomp", "DataComp"),
    ("commonpool", "CommonPool"),
    ("dfn", "DFN"),
    ("metaclip", "MetaCLIP"),
    ("merged2b", "Merged-2B"),
    ("webli", "WebLI"),
    ("yfcc15m", "YFCC-15M"),
    ("cc12m", "CC12M"),
    ("redcaps", "RedCaps"),
    ("openai", "WIT (OpenAI)"),
    ("mrl", "multilingual"),
    ("v1", "multilingual"),
    ("meta", "Meta"),
)

FAMILIES = (
    ("siglip2", "SigLIP2"),
    ("siglip", "SigLIP"),
    ("eva", "EVA"),
    ("coca", "CoCa"),
    ("mobileclip", "MobileCLIP"),
    ("vitamin", "ViTamin"),
    ("convnext", "ConvNeXt"),
    ("clipa", "CLIPA"),
    ("pe-core", "PE"),
    ("rn", "ResNet"),
    ("resnet", "ResNet"),
    ("vit", "ViT"),
)


@dataclass(frozen=True)
class Entry:
    """One weight of the registry.

    Attributes
    ----------
    architecture, tag : as `open_clip.create_model` takes them.
    family : of the image tower.
    data : what it was trained on, read off the tag.
    image_size : pixels per side.
    parameters, image_parameters : numbers, None where unknown.
    gflops : of the image tower for one image, a multiplication and an addition as two.
    place : where it lies on the hub, or its address.
    fits : whether the architecture has the activation (QuickGELU or not) that the weight was trained with.
    """

    architecture: str
    tag: str
    family: str
    data: str
    image_size: int
    parameters: int | None
    image_parameters: int | None
    gflops: float | None
    place: str
    fits: bool = True

    @property
    def model(self) -> str:
        """Name in the sheet."""
        return f"{self.architecture}--{self.tag}"

    @property
    def bytes(self) -> int | None:
        """Size of the download, about: four bytes per parameter."""
        return None if self.parameters is None else self.parameters * BYTES_PER_PARAMETER


@dataclass(frozen=True)
class Filters:
    """Which weights of the registry to take; empty and None take all.

    Attributes
    ----------
    families, data : names, in any case; one of them must fit.
    parameters, image_size : (least, most), None for no limit.
    pattern : regular expression searched in `<architecture>--<tag>`.
    published : names of a published table, of which the weight must be one.
    mismatched : whether weights are kept whose architecture has another activation than they were trained with, and for
        which OpenCLIP has an architecture that fits.
    """

    families: Sequence[str] = ()
    data: Sequence[str] = ()
    parameters: tuple[float | None, float | None] = (None, None)
    image_size: tuple[float | None, float | None] = (None, None)
    pattern: str = ""
    published: frozenset[str] | None = None
    mismatched: bool = False


@cache
def architectures() -> dict[str, dict]:
    """Sizes of all architectures, as benchmarks/architecture_sizes.py measured them."""
    table = pd.read_csv(ARCHITECTURES).astype(object)
    table = table.where(table.notna(), None)
    return {row["architecture"]: row for row in table.to_dict("records")}


def training_data(tag: str) -> str:
    """What a weight was trained on, by its tag.

    Examples
    --------
    >>> training_data("laion2b_s34b_b79k"), training_data("dfn5b"), training_data("something")
    ('LAION-2B', 'DFN', 'something')
    """
    return next((name for start, name in TRAINING_DATA if tag.startswith(start)), tag)


def family_of(name: str) -> str:
    """Tower family by an architecture's name, for grouping.

    Examples
    --------
    >>> family_of("ViT-B-32-quickgelu"), family_of("hf-hub:timm/ViT-B-16-SigLIP"), family_of("RN50x4")
    ('ViT', 'SigLIP', 'ResNet')
    """
    plain = name.removeprefix(HUB).removeprefix(LOCAL).rstrip("/").rsplit("/", 1)[-1]
    low = plain.lower()
    if re.match(r"(nllb|xlm|roberta|mt5)", low):
        return "multilingual"
    for start, family in FAMILIES:
        if re.search(rf"(^|[-_]){start}", low) and not (start == "rn" and not re.match(r"rn(\d|-)", low)):
            return family
    match = re.match(r"[A-Za-z]+", plain)
    return match[0] if match else plain


def list_entries() -> list[Entry]:
    """All weights of the installed OpenCLIP's registry, in its order; read off its files, without importing it."""
    sizes = architectures()
    return [
        Entry(
            architecture,
            tag,
            (size := sizes.get(architecture, {})).get("family") or family_of(architecture),
            training_data(tag),
            int(size.get("image_size") or 0),
            _integer(size.get("parameters")),
            _integer(size.get("image_parameters")),
            size.get("gflops"),
            str(config.get("hf_hub") or config.get("url") or ""),
            bool(config.get("quick_gelu")) == has_quick_gelu(architecture),
        )
        for architecture, tags in registered().items()
        for tag, config in tags.items()
    ]


def read_limits(text: str) -> tuple[float | None, float | None]:
    """Read `100M-1B`, `224-`, `224`, `-500M`, `<=500M` or `>=100M` as (least, most).

    Raises
    ------
    VlmrankError : it is none of them, or nothing is within.

    Examples
    --------
    >>> read_limits("100M-1B"), read_limits("-500M"), read_limits("224-"), read_limits("224"), read_limits("<=500M")
    ((100000000.0, 1000000000.0), (None, 500000000.0), (224.0, None), (224.0, 224.0), (None, 500000000.0))
    """
    plain = re.sub(r"\s", "", text).upper()
    plain = re.sub(rf"^<=?{NUMBER}$", r"-\1\2", re.sub(rf"^>=?{NUMBER}$", r"\1\2-", plain))
    match = re.fullmatch(rf"(?:{NUMBER})?(-)?(?:{NUMBER})?", plain)
    if match is None or not (match[1] or match[4]) or (match[1] and match[4] and not match[3]):
        raise VlmrankError(f"{text!r}: write a number, or a range such as 100M-1B, <=500M or 224-")
    low = float(match[1]) * SUFFIXES[match[2]] if match[1] else None
    high = float(match[4]) * SUFFIXES[match[5]] if match[4] else None
    if not match[3]:
        high = low
    if low is not None and high is not None and low > high:
        raise VlmrankError(f"{text!r}: the range is empty")
    return low, high


def _integer(value: object) -> int | None:
    return None if value is None else int(value)


def _within(value: float | None, limits: tuple[float | None, float | None]) -> bool:
    low, high = limits
    if low is None and high is None:
        return True
    return value is not None and (low is None or value >= low) and (high is None or value <= high)


def select(entries: Iterable[Entry], filters: Filters) -> list[Entry]:
    """The entries that pass all filters.

    Raises
    ------
    VlmrankError : a family or training data that no entry has; a broken pattern.
    """
    entries = list(entries)
    for name, wanted in (("family", filters.families), ("data", filters.data)):
        known = sorted({getattr(entry, name) for entry in entries})
        for value in wanted:
            if not any(_fits(value, one) for one in known):
                hint = nearest(value, known) or f"There are {', '.join(known)}."
                raise VlmrankError(f"--{name} {value}: no weight has it. {hint}")
    try:
        pattern = re.compile(filters.pattern)
    except re.error as error:
        raise VlmrankError(f"--name {filters.pattern}: not a regular expression ({error})") from error
    names = {entry.model for entry in entries}
    return [
        entry
        for entry in entries
        if (filters.mismatched or entry.fits or better_architecture(entry.architecture, entry.tag, names) is None)
        and (not filters.families or any(_fits(value, entry.family) for value in filters.families))
        and (not filters.data or any(_fits(value, entry.data) for value in filters.data))
        and _within(entry.parameters, filters.parameters)
        and _within(entry.image_size, filters.image_size)
        and pattern.search(entry.model)
        and (filters.published is None or entry.model in filters.published)
    ]


def better_architecture(architecture: str, tag: str, models: Collection[str]) -> str | None:
    """The architecture with the other activation, if OpenCLIP has the weight under it.

    Examples
    --------
    >>> better_architecture("RN50", "openai", {"RN50--openai", "RN50-quickgelu--openai"})
    'RN50-quickgelu'
    """
    base = architecture.removesuffix("-quickgelu")
    other = base if base != architecture else f"{base}-quickgelu"
    return other if f"{other}--{tag}" in models else None


def _fits(wanted: str, name: str) -> bool:
    return wanted.casefold() in (name.casefold(), re.split(r"[- (]", name)[0].casefold())


def sheet_of(entries: Iterable[Entry]) -> str:
    """The entries as a models sheet."""
    rows = [f"{entry.model}\t{entry.architecture}\t{entry.tag}\t{entry.family}" for entry in entries]
    return "\n".join(["model\tarchitecture\tpretrained\tfamily", *rows, ""])
