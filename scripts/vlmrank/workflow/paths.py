"""Normalise paths of the configuration and the sheets: `./x`, `x/`, `a/../x`, `~/x`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlmrank.errors import VlmrankError

PATHS = ("models", "datasets", "results", "store", "cache", "labels")
ACCURACY_PATHS = ("per_class", "names")


def normal_path(path: str) -> str:
    """A path in its shortest spelling, with the home folder expanded; a URL or an empty text is unchanged.

    Examples
    --------
    >>> normal_path("./a/../results/"), normal_path("https://x.org/a//b"), normal_path("")
    ('results', 'https://x.org/a//b', '')
    """
    if not path or "://" in path:
        return path
    return os.path.normpath(os.path.expanduser(path))  # noqa: PTH111


def normal_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with every path in its shortest spelling; `results` is relative if it is below this folder.

    Raises
    ------
    VlmrankError : `results` is the working directory or one above it; a path with `{}` or `<>`.
    """
    _check_plain(config)
    found = {**config, "accuracy": dict(config["accuracy"])}
    for section, names in ((found, PATHS), (found["accuracy"], ACCURACY_PATHS)):
        section.update({name: normal_path(section[name]) for name in names if section.get(name)})
    found["packs"] = [normal_path(place) for place in found.get("packs") or ()]
    tables = found["accuracy"].get("tables") or []
    found["accuracy"]["tables"] = [{**table, "path": normal_path(table["path"])} for table in tables]
    here, results = Path.cwd(), Path(found["results"]).absolute()
    if here.is_relative_to(os.path.normpath(results)):
        raise VlmrankError(
            f"results: {config['results']!r} is the working directory or one above it. Give the results a folder of "
            "their own, e.g. results."
        )
    if results.is_relative_to(here):
        found["results"] = str(results.relative_to(here))
    return found


def _check_plain(config: Mapping[str, Any]) -> None:
    """Refuse wildcards and path variables of Snakemake in the paths that rules use."""
    accuracy = config["accuracy"]
    tables = [(f"accuracy.tables.{n}.path", table["path"]) for n, table in enumerate(accuracy.get("tables") or [])]
    named = [(name, config.get(name)) for name in PATHS]
    named += [(f"accuracy.{name}", accuracy.get(name)) for name in ACCURACY_PATHS]
    for name, path in [*named, *tables]:
        strange = sorted(set(path or "") & set("{}<>\0\n"))
        if strange and "://" not in path:
            raise VlmrankError(f"{name}: {path!r} holds {' '.join(map(repr, strange))}, which no path here can have")


def log_folder(results: str) -> str:
    """Folder of a run's logs, one for each results folder.

    Examples
    --------
    >>> log_folder("results"), log_folder("results/bench"), log_folder("mine/bench"), log_folder("/scratch/bench")
    ('logs', 'logs/bench', 'mine/bench/logs', '/scratch/bench/logs')
    """
    place = Path(results)
    if place.parts[0] == "results":
        return str(Path("logs", *place.parts[1:]))
    return str(place / "logs")
