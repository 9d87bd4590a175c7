"""OpenCLIP's registry as rows: which weights there are, how large, trained on what; and what a sheet would download."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pandas as pd

from vlmrank.errors import VlmrankError
from vlmrank.text import nearest
from vlmrank.workflow.sheets import ModelRow

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


@dataclass(frozen=True)
class Entry:
    """One weight of the registry.

    Attributes
    ----------
    architecture, tag : as `open_clip.create_model` takes them.
    family : of the image tower.
    data : what it was trained on, read off the tag.
    image_size : pixels a side.
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
        """Size of the download, about: four bytes a parameter."""
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


def list_entries() -> list[Entry]:
    """All weights of the installed OpenCLIP's registry, in its order."""
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    from vlmrank.models.load import family_of

    sizes, entries = architectures(), []
    for architecture, tag in open_clip.list_pretrained():
        size, config = sizes.get(architecture, {}), get_pretrained_cfg(architecture, tag)
        entries.append(
            Entry(
                architecture,
                tag,
                size.get("family") or family_of(architecture),
                training_data(tag),
                int(size.get("image_size") or 0),
                _integer(size.get("parameters")),
                _integer(size.get("image_parameters")),
                size.get("gflops"),
                config.get("hf_hub") or config.get("url") or "",
                bool(config.get("quick_gelu")) == bool(open_clip.get_model_config(architecture).get("quick_gelu")),
            )
        )
    return entries


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


# --- what a sheet would download ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checked:
    """One row of a models sheet, looked at without loading the model.

    Attributes
    ----------
    model : its name.
    state : `local`, `cached`, `to download` or `wrong`.
    bytes : of the weights file; for a download about, None where unknown.
    notes : what is wrong, or a remark.
    """

    model: str
    state: str
    bytes: int | None = None
    notes: list[str] = field(default_factory=list)


def check_row(row: ModelRow, *, cache: str | os.PathLike[str] | None, online: bool = False) -> Checked:
    """Say of one row what is cached, what would be downloaded and what is wrong, without loading the model.

    Parameters
    ----------
    row : of the models sheet.
    cache : folder of downloads.
    online : whether the hub may be asked for the exact size of a download.
    """
    from vlmrank.models.weights import (
        HUB,
        HUB_NAMES,
        HubPlace,
        check_weights,
        find_weights,
        hub_place,
        in_cache,
        source_of,
    )

    source = source_of(row.architecture, row.pretrained or None)
    try:
        if source in ("local-dir", "file"):
            weights = find_weights(row.architecture, row.pretrained or None, offline=True)
            check_weights(weights.path)
            if source == "local-dir":
                _check_folder_config(Path(row.folder or "") / "open_clip_config.json")
            return Checked(row.model, "local", weights.path.stat().st_size, _quick_gelu_notes(row))
        if source == "hf-hub":
            place: HubPlace | None = HubPlace(row.architecture.removeprefix(HUB), HUB_NAMES)
        else:
            place = hub_place(_registered(row))
        found = in_cache(place, cache) if place else None
        if found:
            check_weights(found)
            return Checked(row.model, "cached", found.stat().st_size, _quick_gelu_notes(row))
        parameters = (architectures().get(row.architecture) or {}).get("parameters")
        about = int(parameters) * BYTES_PER_PARAMETER if parameters else None
        exact = _hub_size(place) if online and place else None
        return Checked(row.model, "to download", exact or about, _quick_gelu_notes(row))
    except VlmrankError as error:
        return Checked(row.model, "wrong", None, [str(error)])


def _registered(row: ModelRow) -> dict:
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    if row.architecture not in open_clip.list_models():
        hint = nearest(row.architecture, open_clip.list_models()) or "`vlmrank models` lists them."
        raise VlmrankError(f"OpenCLIP has no architecture {row.architecture!r}. {hint}")
    entry = get_pretrained_cfg(row.architecture, row.pretrained)
    if not entry:
        tags = open_clip.list_pretrained_tags_by_model(row.architecture)
        hint = nearest(row.pretrained, tags) or f"It has {', '.join(tags) or 'none'}."
        raise VlmrankError(f"{row.architecture} has no pretrained tag {row.pretrained!r}. {hint}")
    return entry


def _check_folder_config(path: Path) -> None:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise VlmrankError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_cfg"), dict):
        raise VlmrankError(f"{path} has no `model_cfg`: it is not OpenCLIP's")


def _quick_gelu_notes(row: ModelRow) -> list[str]:
    """A remark where a tag was trained with another activation than the architecture has."""
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    config = open_clip.get_model_config(row.architecture) if row.architecture in open_clip.list_models() else None
    entry = get_pretrained_cfg(row.architecture, row.pretrained) if config else None
    if not config or not entry or bool(entry.get("quick_gelu")) == bool(config.get("quick_gelu")):
        return []
    trained = "QuickGELU" if entry.get("quick_gelu") else "GELU"
    names = {f"{architecture}--{tag}" for architecture, tag in open_clip.list_pretrained()}
    better = better_architecture(row.architecture, row.pretrained, names)
    advice = f": take {better}" if better else ""
    return [f"{row.pretrained} was trained with {trained}, {row.architecture} has the other activation{advice}"]


def _hub_size(place) -> int | None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        siblings = HfApi().model_info(place.repository, files_metadata=True, timeout=10).siblings or []
    except (HfHubHTTPError, OSError, ValueError):
        return None
    sizes: Mapping[str, int | None] = {file.rfilename: file.size for file in siblings}
    return next((sizes[name] for name in place.files if sizes.get(name)), None)
