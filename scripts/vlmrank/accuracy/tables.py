"""Match published accuracy tables to the names of the sheets; list what matches nothing, guess nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pandas as pd

from vlmrank.accuracy.formats import DATASET, MODEL, parse_table, read_class_table, read_table
from vlmrank.errors import VlmrankError
from vlmrank.text import nearest
from vlmrank.textfile import read_lines

COLUMNS = ["model", "dataset", "acc1", "n", "origin"]
UNMATCHED = ["table", "kind", "name", "rows", "reason"]
CLASS_COLUMNS = ["model", "dataset", "class", "acc1", "n"]
__all__ = ["match_table", "read_classes", "read_names", "read_table", "read_tables"]


@dataclass(frozen=True)
class Published:
    """Accuracies of published tables.

    Attributes
    ----------
    accuracy : columns model, dataset, acc1 (0..1), n (nan: unknown), origin (the table's file name).
    unmatched : what was left out: columns table, kind (`model`, `dataset`, `cell`, `task`, ...), name, rows, reason.
    """

    accuracy: pd.DataFrame
    unmatched: pd.DataFrame


def local_tables(tables: Sequence[Mapping[str, str]], folder: str) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Local paths of tables, and downloads of those given by URL (`https://...`).

    Returns
    -------
    The tables with local paths, and file name -> URL of those to be downloaded to `folder`.

    Raises
    ------
    VlmrankError : two URLs have the same file name.

    Examples
    --------
    >>> local_tables([{"path": "https://x.org/a%20b.csv?raw=1"}, {"path": "c.csv"}], "tables")
    ([{'path': 'tables/a b.csv'}, {'path': 'c.csv'}], {'a b.csv': 'https://x.org/a%20b.csv?raw=1'})
    """
    placed, urls = [], {}
    for table in tables:
        path = table["path"]
        if "://" in path:
            name = unquote(urlsplit(path).path).rsplit("/", 1)[-1]
            if not name or urls.get(name, path) != path:
                raise VlmrankError(
                    f"accuracy.tables: {path}: a table needs a file name of its own; download it by hand"
                )
            urls[name] = path
            path = f"{folder}/{name}"
        placed.append({**table, "path": path})
    return placed, urls


def read_names(path: str | os.PathLike[str]) -> dict[tuple[str, str], str]:
    """Read a name map: a tab-separated file with the columns `kind` (model or dataset), `table` and `name`.

    Returns
    -------
    (kind, name in the table) -> name in the sheet.

    Raises
    ------
    VlmrankError : a column is missing, a kind is unknown, a cell is empty, or a name of a table is mapped twice.
    """
    lines = enumerate(read_lines(path), 1)
    rows = [(number, line.split("\t")) for number, line in lines if line.strip() and not line.startswith("#")]
    header = [cell.strip() for cell in rows[0][1]] if rows else []
    if sorted(header) != ["kind", "name", "table"]:
        found = ", ".join(header) or "none"
        raise VlmrankError(f"{path}: the columns must be kind, table and name, separated by tabs; found {found}")
    names: dict[tuple[str, str], str] = {}
    lines_of: dict[tuple[str, str], int] = {}
    for number, cells in rows[1:]:
        row = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
        if len(cells) != 3 or not all(row.values()):
            raise VlmrankError(f"{path}, line {number}: three cells are needed: kind, table, name")
        if row["kind"] not in (MODEL, DATASET):
            raise VlmrankError(f"{path}, line {number}: the kind {row['kind']!r} is neither model nor dataset")
        key = (row["kind"], row["table"])
        if names.get(key, row["name"]) != row["name"]:
            raise VlmrankError(
                f"{path}, line {number}: the {row['kind']} {row['table']!r} is mapped to {names[key]!r} on line "
                f"{lines_of[key]} already, and here to {row['name']!r}"
            )
        names[key], lines_of[key] = row["name"], number
    return names


def _match(
    rows: pd.DataFrame, kind: str, known: Sequence[str], names: Mapping[tuple[str, str], str], origin: str
) -> tuple[pd.Series, list[tuple[Any, ...]]]:
    """Names in the sheet for a column of the table (None: no match), and the unmatched names."""
    here, lost, matched = set(known), [], {}
    for name, count in rows[kind].value_counts(sort=False).items():
        mapped = names.get((kind, name), name)
        if mapped in here:
            matched[name] = mapped
            continue
        if (kind, name) in names:
            reason = f"the name map says {mapped}, which the {kind}s sheet does not have. {nearest(mapped, known)}"
        else:
            reason = f"the {kind}s sheet has no such name and the name map does not mention it"
        lost.append((origin, kind, name, int(count), reason.strip()))
    return rows[kind].map(matched), lost


def match_table(
    rows: pd.DataFrame,
    *,
    models: Sequence[str],
    datasets: Sequence[str],
    names: Mapping[tuple[str, str], str] | None = None,
    origin: str,
    left_out: Sequence[tuple[str, str, int, str]] = (),
) -> Published:
    """Give the rows of a table the names of the sheets: equal names or those of the name map, nothing else.

    Two different values for one model and dataset are both dropped and listed; `left_out` of a `Table` is listed too.
    """
    names = names or {}
    model, lost_models = _match(rows, MODEL, models, names, origin)
    dataset, lost_datasets = _match(rows, DATASET, datasets, names, origin)
    found = rows.assign(model=model, dataset=dataset, origin=origin)
    found = found[model.notna() & dataset.notna()]
    spread = found.groupby(["model", "dataset"])["acc1"].agg(["min", "max", "size"])
    double = spread[spread["max"] - spread["min"] > 1e-6]
    lost_cells = [
        (origin, "cell", f"{m} on {d}", int(row["size"]), f"{int(row['size'])} different values: none is taken")
        for (m, d), row in double.iterrows()
    ]
    lost_before = [(origin, *left) for left in left_out]
    found = found.drop_duplicates(["model", "dataset"])
    if len(double):
        found = found[~pd.MultiIndex.from_frame(found[["model", "dataset"]]).isin(double.index)]
    return Published(
        found[COLUMNS].reset_index(drop=True),
        pd.DataFrame(lost_models + lost_datasets + lost_cells + lost_before, columns=UNMATCHED),
    )


def read_tables(
    tables: Sequence[Mapping[str, str]],
    *,
    models: Sequence[str],
    datasets: Sequence[str],
    names: str | os.PathLike[str] | None = None,
) -> Published:
    """Read several tables and match them to the sheets; for each pair the first table that has it counts.

    Parameters
    ----------
    tables : `path` and `format` of each.
    models, datasets : names in the sheets.
    names : the name map's file, if there is one.

    Raises
    ------
    VlmrankError : as `read_table` and `read_names`.
    """
    mapped = read_names(names) if names else {}
    asked = {*datasets, *(table for (kind, table), name in mapped.items() if kind == DATASET and name in set(datasets))}
    parts = []
    for table in tables:
        found = parse_table(table["path"], table.get("format", "own"), datasets=asked)
        known = {"models": models, "datasets": datasets, "names": mapped, "origin": Path(table["path"]).name}
        parts.append(match_table(found.rows, **known, left_out=found.left_out))
    accuracy = [part.accuracy for part in parts if len(part.accuracy)]
    unmatched = [part.unmatched for part in parts if len(part.unmatched)]
    return Published(
        pd.concat(accuracy).drop_duplicates(["model", "dataset"], ignore_index=True)
        if accuracy
        else pd.DataFrame(columns=COLUMNS),
        pd.concat(unmatched, ignore_index=True) if unmatched else pd.DataFrame(columns=UNMATCHED),
    )


def read_classes(
    path: str | os.PathLike[str],
    *,
    models: Sequence[str],
    datasets: Sequence[str],
    names: str | os.PathLike[str] | None = None,
) -> Published:
    """Read a table of accuracies per class and match it to the sheets, as `read_tables` does.

    Returns
    -------
    `accuracy` has the columns model, dataset, class, acc1, n.
    """
    rows, origin = read_class_table(path), Path(path).name
    mapped = read_names(names) if names else {}
    model, lost_models = _match(rows, MODEL, models, mapped, origin)
    dataset, lost_datasets = _match(rows, DATASET, datasets, mapped, origin)
    found = rows.assign(model=model, dataset=dataset)[model.notna() & dataset.notna()]
    double = found[found.duplicated(["model", "dataset", "class"])]
    if len(double):
        row = double.iloc[0]
        raise VlmrankError(
            f"{path}, line {double.index[0]}: {row['model']} on {row['class']} of {row['dataset']} twice"
        )
    lost = pd.DataFrame(lost_models + lost_datasets, columns=UNMATCHED)
    return Published(found[CLASS_COLUMNS].reset_index(drop=True), lost)


def check_tables(
    tables: Sequence[Mapping[str, str]],
    *,
    models: Sequence[str],
    sources: Sequence[str],
    names: str | None = None,
    per_class: str | None = None,
    alone: bool = False,
) -> None:
    """Read the local tables before anything runs.

    Parameters
    ----------
    tables, names, per_class : of the configuration; a table that does not exist yet is a URL.
    models, sources : names in the sheets.
    alone : whether no accuracy is measured, so that the tables must provide some.

    Raises
    ------
    VlmrankError : as `read_tables`; no table has any model on any source.
    """
    here = [table for table in tables if "://" not in table["path"]]
    found = read_tables(here, models=models, datasets=sources, names=names)
    if per_class:
        read_classes(per_class, models=models, datasets=sources, names=names)
    if alone and tables and len(here) == len(tables) and found.accuracy.empty:
        lost = found.unmatched.iloc[0] if len(found.unmatched) else None
        first = (
            "" if lost is None else f" The first that fits nothing: {lost['kind']} {lost['name']!r}: {lost['reason']}."
        )
        raise VlmrankError(
            f"accuracy.tables: {', '.join(table['path'] for table in tables)}: no model of the sheet has an accuracy "
            f"on a source, and none is measured (accuracy.measure).{first}"
        )
