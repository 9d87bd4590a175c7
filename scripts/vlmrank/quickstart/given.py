"""Check what the user gave (images, class names, models, a budget) and report all faults in one message."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmrank.datasets.prompts import CLIP_BENCHMARK
from vlmrank.errors import VlmrankError
from vlmrank.models.names import LOCAL
from vlmrank.models.registry import Filters, architectures, list_entries, read_limits, select
from vlmrank.text import nearest
from vlmrank.workflow.sheets import DatasetRow, ModelRow, read_models
from vlmrank.workflow.shortlist import download_bytes

CONFIG_FILE = "open_clip_config.json"
LISTS = (".csv", ".tsv", ".parquet", ".pq")
MOST_WORDS = 60  # per class name: CLIP's context is 77 tokens, including the prompt
UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
TIMES = {"S": 1.0, "MIN": 60.0, "M": 60.0, "H": 3600.0, "D": 86400.0}


@dataclass(frozen=True)
class Candidate:
    """A model to choose from.

    Attributes
    ----------
    row : of the models sheet.
    parameters : number, None if unknown.
    bytes : of its download, 0 if it is on this machine, None if unknown.
    facts : its entry in the table of architectures.
    """

    row: ModelRow
    parameters: int | None
    bytes: float | None
    facts: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Candidate({self.row.model!r})"


@dataclass(frozen=True)
class Budget:
    """What a run may cost; None for no limit."""

    bytes: float | None = None
    seconds: float | None = None


def slug(text: str) -> str:
    """Turn a text into a name for result paths.

    Examples
    --------
    >>> slug("My photos (2)"), slug("...")
    ('My-photos-2', 'images')
    """
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-._+")[:80] or "images"


def read_images(path: str | os.PathLike[str]) -> DatasetRow:
    """The user's images as a row of the datasets sheet: a folder, a list (CSV, Parquet) or tar files.

    Raises
    ------
    VlmrankError : `path` does not exist.
    """
    text = os.fspath(path)
    place = Path(text).expanduser()
    tars = sorted(place.glob("*.tar")) if place.is_dir() else []
    where = str(place.absolute())
    if place.suffix.lower() == ".tar" or (tars and not any(one.suffix.lower() != ".tar" for one in place.iterdir())):
        pattern = where if not tars else f"{where}/*.tar"
        return DatasetRow(slug(place.stem), "target", pattern, "webdataset")
    if not place.exists():
        raise VlmrankError(f"{text}: there is no such folder or list of images")
    if place.is_dir():
        return DatasetRow(slug(place.absolute().name), "target", where, "folder")
    if place.suffix.lower() in LISTS:
        return DatasetRow(slug(place.stem), "target", where, "csv")
    raise VlmrankError(f"{text}: give a folder of images, a list ({', '.join(LISTS)}) or tar files")


def read_classes(given: str | Sequence[str] | None) -> str | list[str]:
    """Class names as a list, or the path of the file that has them; an empty list if there are none.

    Raises
    ------
    VlmrankError : the file is missing, there is only one class, or a name is empty or too long for a prompt.
    """
    if given is None:
        return []
    if isinstance(given, os.PathLike):
        given = os.fspath(given)
    if isinstance(given, str):
        if given.startswith(CLIP_BENCHMARK):
            return given
        if _is_file(given):
            return str(Path(given).expanduser().absolute())
        if "," not in given:
            raise VlmrankError(f"classes: there is no file {given[:200]!r}; separate names by commas: 'cat,dog,horse'")
        given = given.split(",")
    names = [str(name).strip() for name in given]
    if "" in names:
        raise VlmrankError(f"classes: name {names.index('') + 1} of {len(names)} is empty")
    if len(names) < 2:
        raise VlmrankError("classes: one name; at least two are needed, since with one every model is right")
    check_lengths(names)
    if any("\n" in name for name in names):
        raise VlmrankError("classes: a name holds a line break")
    return names


def _is_file(text: str) -> bool:
    try:
        return Path(text).expanduser().is_file()
    except OSError:  # too long for a path
        return False


def check_lengths(names: Sequence[str]) -> None:
    """Refuse a class name that is too long for a prompt."""
    for number, name in enumerate(names, 1):
        if len(name.split()) > MOST_WORDS:
            long = f"classes: name {number} ({name[:40]} ...) has {len(name.split())} words"
            raise VlmrankError(f"{long}: a text tower reads 77 tokens, so shorten it")


def read_budget(text: str | None) -> Budget:
    """Read `20GB` or `1h`, or both separated by a comma.

    Raises
    ------
    VlmrankError : `text` is neither.

    Examples
    --------
    >>> read_budget("20GB"), read_budget("1.5h").seconds, read_budget(None)
    (Budget(bytes=20000000000.0, seconds=None), 5400.0, Budget(bytes=None, seconds=None))
    """
    found: dict[str, float] = {}
    for part in (text or "").split(",") if text else ():
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Z]+)", part.strip().upper())
        if match and match[2] in UNITS:
            found["bytes"] = float(match[1]) * UNITS[match[2]]
        elif match and match[2] in TIMES:
            found["seconds"] = float(match[1]) * TIMES[match[2]]
        else:
            raise VlmrankError(f"budget: {part.strip()!r} is neither a size nor a time: write 20GB, 1h or 30min")
    return Budget(**found)


def read_candidates(given: str | Sequence[str] | None, schema: Mapping[str, Any]) -> list[Candidate]:
    """The models to choose from.

    Parameters
    ----------
    given : limits of the number of parameters (`<=500M`), a models sheet, folders of models or folders that contain
        them, names such as `ViT-B-32--openai`, or several of these; None for all of OpenCLIP's registry.
    schema : of the models sheet.

    Raises
    ------
    VlmrankError : an item is none of these, or no model is left.
    """
    given = [given] if isinstance(given, (str, os.PathLike)) else list(given or ["0-"])
    found: dict[str, Candidate] = {}
    for one in map(os.fspath, given):
        for candidate in _candidates(one, schema):
            found.setdefault(candidate.row.model, candidate)
    if not found:
        raise VlmrankError(f"models: no model of OpenCLIP's registry has {', '.join(map(str, given))} parameters")
    return list(found.values())


def _candidates(given: str, schema: Mapping[str, Any]) -> list[Candidate]:
    place = Path(given).expanduser()
    if place.is_dir():
        return [_in_folder(folder) for folder in _model_folders(place)]
    if place.is_file():
        rows = read_models(place, schema)
        return [candidate_of(row) for row in rows]
    if re.fullmatch(r"[<>=\s]*[\d.]+[KMGB]?\s*-?\s*[\d.]*[KMGB]?|-[\d.]+[KMGB]?", given.strip().upper()):
        entries = select(list_entries(), Filters(parameters=_limits(given)))
        return [candidate_of(ModelRow(one.model, one.architecture, one.tag, one.family)) for one in entries]
    names = {entry.model: entry for entry in list_entries()}
    if given in names:
        one = names[given]
        return [candidate_of(ModelRow(one.model, one.architecture, one.tag, one.family))]
    hint = nearest(given, names)
    what = "no sheet, no folder, no name of OpenCLIP's registry and no size such as <=500M"
    raise VlmrankError(f"models: {given!r} is {what}. {hint}".rstrip())


def _limits(given: str) -> tuple[float | None, float | None]:
    low, high = read_limits(given)
    return (None, None) if low == 0 and high is None else (low, high)


def _model_folders(place: Path) -> list[Path]:
    if (place / CONFIG_FILE).is_file():
        return [place]
    found = sorted(folder for folder in place.iterdir() if (folder / CONFIG_FILE).is_file())
    if not found:
        raise VlmrankError(f"models: {place} holds no {CONFIG_FILE}, and no folder in it does")
    return found


def _in_folder(folder: Path) -> Candidate:
    return candidate_of(ModelRow(slug(folder.name), f"{LOCAL}{folder.absolute()}"))


def candidate_of(row: ModelRow) -> Candidate:
    """What is known about a row without loading anything."""
    facts = architectures().get(row.architecture) or {}
    parameters = facts.get("parameters")
    known = None if parameters is None or math.isnan(parameters) else int(parameters)
    return Candidate(row, known, download_bytes(row), facts)
