"""Check the time limits in partitions.yaml, which Snakemake's SLURM plugin would misread.

`sinfo` writes thirty minutes as 30:00. Unquoted, YAML reads this as 1,800, which the plugin takes for minutes. Quoted,
the plugin takes it for thirty hours.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from vlmrank.errors import VlmrankError
from vlmrank.textfile import read_text

ADVICE = "write days-hours:minutes:seconds as in 1-00:00:00 or 0-00:30:00, or minutes"
_DAYS = re.compile(r"[0-9]+-[0-9]+(:[0-9]+){0,2}")
_PLAIN = re.compile(r"[0-9]+(\.[0-9]+)?|([0-9]+[dhms])+")
_CLOCK = re.compile(r"[0-9]+:[0-9]+:[0-9]+")


def check_partitions(path: str | Path | None) -> None:
    """Refuse a `max_runtime` that is ambiguous or unreadable.

    Parameters
    ----------
    path : of partitions.yaml; None if jobs do not go to SLURM.

    Raises
    ------
    VlmrankError : names the file, the line, and how to write the time.
    """
    if path is None:
        return
    try:
        root = yaml.compose(read_text(path), Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise VlmrankError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    for partition, limits in _pairs(dict(_named(root)).get("partitions")):
        for key, value in _pairs(limits):
            if key.value == "max_runtime":
                _check_time(value, f"{path}, line {value.start_mark.line + 1}: partition {partition.value}")


def _pairs(node: yaml.Node | None) -> list[tuple[yaml.Node, yaml.Node]]:
    return node.value if isinstance(node, yaml.MappingNode) else []


def _named(node: yaml.Node | None) -> list[tuple[str, yaml.Node]]:
    return [(str(key.value), value) for key, value in _pairs(node)]


def _check_time(node: yaml.Node, where: str) -> None:
    text = str(node.value).strip()
    if _DAYS.fullmatch(text) or _PLAIN.fullmatch(text) or (node.style and _CLOCK.fullmatch(text)):
        return
    if text.lower().strip(".") in ("infinite", "unlimited", "inf", "infinity", "none", "null", "~", ""):
        raise VlmrankError(f"{where}: max_runtime is {text!r}; leave the line out where there is no limit")
    raise VlmrankError(f"{where}: max_runtime is {text!r}, which is read in two ways; {ADVICE}")
