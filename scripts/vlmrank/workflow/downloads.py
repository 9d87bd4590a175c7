"""List what a models sheet would download, and what is wrong with its rows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vlmrank.errors import VlmrankError
from vlmrank.models.model_config import CONFIG_FILE, read_model_config
from vlmrank.models.names import HUB
from vlmrank.models.registry import BYTES_PER_PARAMETER, architectures, better_architecture
from vlmrank.text import nearest
from vlmrank.workflow.sheets import ModelRow


@dataclass(frozen=True)
class Checked:
    """One row of a models sheet, checked without loading the model.

    Attributes
    ----------
    model : its name.
    state : `local`, `cached`, `to download` or `wrong`.
    bytes : of the weights file; approximate for a download, None if unknown.
    notes : what is wrong, or a remark.
    """

    model: str
    state: str
    bytes: int | None = None
    notes: list[str] = field(default_factory=list)


def check_row(row: ModelRow, *, cache: str | os.PathLike[str] | None, online: bool = False) -> Checked:
    """Check one row: what is cached, what would be downloaded, what is wrong; the model is not loaded.

    Parameters
    ----------
    row : of the models sheet.
    cache : folder of downloads.
    online : whether the hub may be asked for the exact size of a download.
    """
    from vlmrank.models.weights import (
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
            notes = _quick_gelu_notes(row) + _tokenizer_notes(row, cache)
            check_weights(weights.path)
            return Checked(row.model, "local", weights.path.stat().st_size, notes)
        if source == "hf-hub":
            place: HubPlace | None = HubPlace(row.architecture.removeprefix(HUB), HUB_NAMES)
        else:
            place = hub_place(_registered(row))
        notes = _quick_gelu_notes(row) + _tokenizer_notes(row, cache)
        found = in_cache(place, cache) if place else None
        if found:
            check_weights(found)
            return Checked(row.model, "cached", found.stat().st_size, notes)
        parameters = (architectures().get(row.architecture) or {}).get("parameters")
        about = int(parameters) * BYTES_PER_PARAMETER if parameters else None
        exact = _hub_size(place) if online and place else None
        return Checked(row.model, "to download", exact or about, notes)
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


def _tokenizer_notes(row: ModelRow, cache: str | os.PathLike[str] | None) -> list[str]:
    """Check the configuration of a folder or of a cached repository; report where the tokenizer comes from."""
    from vlmrank.models.hub import HubError, is_in_cache
    from vlmrank.models.tokenizer import find_tokenizer

    own = row.architecture.removeprefix(HUB) if row.architecture.startswith(HUB) else ""
    path = is_in_cache(own, CONFIG_FILE, cache=cache) if own else Path(row.folder or "") / CONFIG_FILE
    if path is None or not (own or row.folder):
        return [f"tokenizer: {row.tokenizer}"] if row.tokenizer else []
    text = read_model_config(path).model["text_cfg"]
    try:
        found = find_tokenizer(text, folder=row.folder or "", own=own, named=row.tokenizer, cache=cache, offline=True)
    except HubError:
        return [f"tokenizer: {row.tokenizer or text['hf_tokenizer_name']}, to be downloaded"]
    return [f"tokenizer: {found.place}"] if found.place else []


def _quick_gelu_notes(row: ModelRow) -> list[str]:
    """A remark if a tag was trained with another activation (GELU/QuickGELU) than the architecture has."""
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
