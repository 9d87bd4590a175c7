"""Published accuracy tables as rows of accuracy.csv; what fits no name of the sheets is listed, never guessed."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pandas as pd

from vlmrank.errors import VlmrankError
from vlmrank.files import read_parquet, read_text
from vlmrank.text import nearest

FORMATS = ("own", "openclip", "clip-benchmark", "lovm", "swab")
MODEL, DATASET = "model", "dataset"
COLUMNS = ["model", "dataset", "acc1", "n", "origin"]
UNMATCHED = ["table", "kind", "name", "rows", "reason"]
NOT_DATASETS = ("params (M)", "FLOPs (B)")  # of OpenCLIP's table, beside its averages


@dataclass(frozen=True)
class Published:
    """Accuracies of published tables.

    Attributes
    ----------
    accuracy : columns model, dataset, acc1 (0..1), n (nan: not told), origin (the table's file name).
    unmatched : columns table, kind (`model`, `dataset`, `cell`), name, rows, reason.
    """

    accuracy: pd.DataFrame
    unmatched: pd.DataFrame


def local_tables(tables: Sequence[Mapping[str, str]], folder: str) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Where tables that are given by an address (`https://...`) are kept.

    Returns
    -------
    The tables with every path on this machine, and file name -> address of those that are to be downloaded to `folder`.

    Raises
    ------
    VlmrankError : two addresses have the same file name.

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


def _read(path: str | os.PathLike[str]) -> pd.DataFrame:
    path = Path(path)
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return read_parquet(path).to_pandas()
        separator = "\t" if ".tsv" in [suffix.lower() for suffix in path.suffixes[-2:]] else ","
        return pd.read_csv(io.StringIO(read_text(path)), sep=separator, dtype=object, keep_default_na=False)
    except FileNotFoundError as error:
        raise VlmrankError(f"the table {path} does not exist") from error
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise VlmrankError(f"the table {path} cannot be read: {' '.join(str(error).split())}") from error


def _need(table: pd.DataFrame, columns: Sequence[str], path: object, kind: str) -> None:
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise VlmrankError(
            f"{path} is not a table of the format {kind}: it has no column {', '.join(missing)} (it has "
            f"{', '.join(map(str, table.columns[:12]))})"
        )


def _long(table: pd.DataFrame, path: object, kind: str) -> pd.DataFrame:
    _need(table, ["dataset", "model", "acc1"], path, kind)
    if kind != "own":
        _need(table, ["pretrained"], path, kind)
    if "task" in table.columns:
        table = table[table["task"] == "zeroshot_classification"]
    if "language" in table.columns:
        table = table[table["language"].isin(["", "en"])]
    names = table["model"].astype(str)
    if "pretrained" in table.columns:
        tags = table["pretrained"].fillna("").astype(str)
        names = names.where(tags == "", names.str.replace("/", "-") + "--" + tags)
    count = table["n"] if "n" in table.columns else ""
    return pd.DataFrame({"model": names, "dataset": table["dataset"].astype(str), "acc1": table["acc1"], "n": count})


def _wide(table: pd.DataFrame, path: object) -> pd.DataFrame:
    _need(table, ["name", "pretrained"], path, "openclip")
    model = table["name"].astype(str).str.replace("/", "-") + "--" + table["pretrained"].astype(str)
    skipped = {"name", "pretrained", *NOT_DATASETS}
    columns = [name for name in table.columns if name not in skipped and not str(name).startswith("Average")]
    parts = [
        pd.DataFrame({"model": model, "dataset": str(column), "acc1": table[column], "n": ""}) for column in columns
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["model", "dataset", "acc1", "n"])


def read_table(path: str | os.PathLike[str], format: str = "own") -> pd.DataFrame:
    """Read a published table as rows of model, dataset, acc1 and n, under the table's own names.

    Formats: `own` (columns model, dataset, acc1, optionally n); `openclip` (wide: name, pretrained and a column for
    each dataset); `clip-benchmark`, `lovm`, `swab` (long: model, pretrained, dataset, acc1). A model with a pretrained
    tag is named `<model>--<tag>`. Rows of other tasks and languages, and empty cells, are left out.

    Raises
    ------
    VlmrankError : the file is not there or not of this format; a value is no accuracy from 0 to 1.
    """
    if format not in FORMATS:
        raise VlmrankError(f"{path}: the format {format!r} is none of {', '.join(FORMATS)}")
    table = _read(path)
    rows = _wide(table, path) if format == "openclip" else _long(table, path, format)
    for column in ("acc1", "n"):
        text = rows[column].map(lambda value: "" if pd.isna(value) or value in ("nan", "NaN") else str(value).strip())
        numbers = pd.to_numeric(text, errors="coerce")
        wrong = text[numbers.isna() & (text != "")]
        if len(wrong):
            row = rows.loc[wrong.index[0]]
            where = f"{path}, {row['model']} on {row['dataset']}"
            raise VlmrankError(f"{where}: {column} is {wrong.iloc[0]!r}, not a number")
        rows[column] = numbers
    rows = rows[rows["acc1"].notna()]
    outside = rows[(rows["acc1"] < 0) | (rows["acc1"] > 1)]
    if len(outside):
        row = outside.iloc[0]
        where = f"{path}, {row['model']} on {row['dataset']}"
        raise VlmrankError(f"{where}: acc1 is {row['acc1']:g}, outside 0..1. Divide by 100 if it is in per cent.")
    return rows.reset_index(drop=True)


def read_names(path: str | os.PathLike[str]) -> dict[tuple[str, str], str]:
    """Read a name map: a tab-separated file with the columns `kind` (model or dataset), `table` and `name`.

    Returns
    -------
    (kind, name in the table) -> name in the sheet.

    Raises
    ------
    VlmrankError : a column is missing, a kind is unknown, a cell is empty, or a name of a table is mapped twice.
    """
    path = Path(path)
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise VlmrankError(f"the name map {path} cannot be read: {error}") from error
    rows = [(n, line.split("\t")) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
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
    """Names of the sheet for a column of the table (None: no match), and what matched nothing."""
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
) -> Published:
    """Give the rows of a table the names of the sheets: equal names, or those of the name map, and nothing else.

    Two different values for one model and dataset are both dropped and listed.
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
    found = found.drop_duplicates(["model", "dataset"])
    if len(double):
        found = found[~pd.MultiIndex.from_frame(found[["model", "dataset"]]).isin(double.index)]
    return Published(
        found[COLUMNS].reset_index(drop=True),
        pd.DataFrame(lost_models + lost_datasets + lost_cells, columns=UNMATCHED),
    )


def read_tables(
    tables: Sequence[Mapping[str, str]],
    *,
    models: Sequence[str],
    datasets: Sequence[str],
    names: str | os.PathLike[str] | None = None,
) -> Published:
    """Read several tables and match them to the sheets; the first table that has a pair gives its value.

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
    parts = [
        match_table(
            read_table(table["path"], table.get("format", "own")),
            models=models,
            datasets=datasets,
            names=mapped,
            origin=Path(table["path"]).name,
        )
        for table in tables
    ]
    accuracy = [part.accuracy for part in parts if len(part.accuracy)]
    unmatched = [part.unmatched for part in parts if len(part.unmatched)]
    return Published(
        pd.concat(accuracy).drop_duplicates(["model", "dataset"], ignore_index=True)
        if accuracy
        else pd.DataFrame(columns=COLUMNS),
        pd.concat(unmatched, ignore_index=True) if unmatched else pd.DataFrame(columns=UNMATCHED),
    )
