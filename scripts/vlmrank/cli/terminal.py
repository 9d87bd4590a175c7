"""Shared by the commands: argument types, reading the configuration, printing tables."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from vlmrank.errors import VlmrankError
from vlmrank.workflow.config import check_config, read_schema
from vlmrank.workflow.folder import workflow_folder


def schema(name: str) -> dict[str, Any]:
    """Read a schema of the workflow."""
    return read_schema(workflow_folder() / "schemas" / f"{name}.schema.yaml")


def read_config(path: str) -> dict[str, Any]:
    """Read and check a configuration file."""
    try:
        given = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise VlmrankError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    return check_config(given, schema("config"), files=[path])


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Lay rows of text out in columns; those in `right` are right-aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def positive(text: str) -> float:
    """Read an argument that is a number above 0.

    Examples
    --------
    >>> positive("15")
    15.0
    """
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: write a number above 0")
    return value


def count(text: str) -> int:
    """Read an argument that is a whole number of at least 0.

    Examples
    --------
    >>> count("0")
    0
    """
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number of at least 0")
    return value
