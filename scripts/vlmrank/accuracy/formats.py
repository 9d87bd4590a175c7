"""Read published accuracy tables of several formats into rows of model, dataset, acc1 and n."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from vlmrank.errors import VlmrankError
from vlmrank.files import read_parquet
from vlmrank.text import nearest
from vlmrank.textfile import read_text

FORMATS = ("own", "openclip", "clip-benchmark", "lovm", "swab")
MODEL, DATASET = "model", "dataset"
NOT_DATASETS = ("params (M)", "FLOPs (B)")  # of OpenCLIP's table, beside its averages
# Datasets in benchmarks that are not classification with one label per image.
OTHER_TASKS = re.compile(r"flickr\d*k?|mscoco.*|.*captions.*|.*retrieval.*|winogavil|.*multilabel.*|sugarcrepe.*")
ZERO_MODELS, ZERO_SHARE = 3, 0.1  # exact zeros of this many models and this share mean a failed run


@dataclass(frozen=True)
class Table:
    """A published table under its own names.

    Attributes
    ----------
    rows : columns model, dataset, acc1 (0..1), n (nan: unknown); the index is the line in the file.
    left_out : (kind, name, number of rows, reason) of what was left out.
    """

    rows: pd.DataFrame
    left_out: Sequence[tuple[str, str, int, str]] = field(default_factory=list)


def read_cells(path: str | os.PathLike[str]) -> pd.DataFrame:
    """The raw cells of a CSV, TSV or Parquet file; the index is the line (Parquet: the row, from 1).

    The separator (comma, tab or semicolon) is that of the header. Empty cells at the end of a row are ignored.

    Raises
    ------
    VlmrankError : not readable, a duplicate column, a row with more or fewer cells than the header, an open quote.
    """
    path = Path(path)
    if not os.path.lexists(path):
        raise VlmrankError(f"the table {path} does not exist")
    if path.suffix.lower() in (".parquet", ".pq"):
        try:
            table = read_parquet(path).to_pandas()
        except OSError as error:
            raise VlmrankError(f"the table {path} cannot be read: {error.strerror}") from error
        return table.set_axis(range(1, len(table) + 1), axis=0)
    text = read_text(path)
    separator = max("\t,;", key=text.split("\n", 1)[0].count)
    reader, rows, lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), [], []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise VlmrankError(f"the table {path} cannot be read: line {reader.line_num}: {error}") from error
    if not rows:
        raise VlmrankError(f"the table {path} cannot be read: it is empty")
    header = [name.strip() for name in rows[0]]
    while header and not header[-1]:
        header.pop()
    double = next((name for name in header if header.count(name) > 1), None)
    if double is not None:
        raise VlmrankError(f"{path}: the column {double!r} is there twice")
    for line, row in zip(lines[1:], rows[1:], strict=True):
        if any(cell.strip() for cell in row[len(header) :]) or len(row) < len(header):
            found = f"{len(row)} cells under {len(header)} columns"
            raise VlmrankError(f"{path}, line {line}: {found}; quote a cell that holds a separator")
    cells = [row[: len(header)] for row in rows[1:]]
    return pd.DataFrame(cells, columns=header, index=lines[1:], dtype=object)


def need_columns(table: pd.DataFrame, columns: Iterable[str], path: object, kind: str) -> None:
    """Raise a VlmrankError where a column is missing."""
    missing = [name for name in columns if name not in table.columns]
    if missing:
        hint = nearest(missing[0], map(str, table.columns))
        raise VlmrankError(
            f"{path} is not a table of the format {kind}: it has no column {', '.join(missing)} (it has "
            f"{', '.join(map(str, table.columns[:12]))}). {hint}".rstrip()
        )


def texts(cells: pd.Series) -> pd.Series:
    """Cells as stripped text; markers of missing values become empty."""
    return cells.map(lambda value: "" if pd.isna(value) or value in ("nan", "NaN") else str(value).strip())


def numbers(cells: pd.Series, where: pd.Series, path: object, column: str) -> pd.Series:
    """Cells as numbers, nan where empty.

    Raises
    ------
    VlmrankError : a cell is not a number; with its line.
    """
    text = texts(cells)
    found = pd.to_numeric(text, errors="coerce")
    wrong = text[found.isna() & (text != "")]
    if len(wrong):
        value = wrong.iloc[0]
        comma = (
            ". Write a decimal point and nothing between thousands." if re.fullmatch(r"[\d.]+(,\d+)+", value) else ""
        )
        place = where.loc[[wrong.index[0]]].iloc[0]
        raise VlmrankError(f"{path}, line {wrong.index[0]}, {place}: {column} is {value!r}, not a number{comma}")
    return found


def shares(cells: pd.Series, where: pd.Series, path: object) -> pd.Series:
    """Accuracies from 0 to 1; raises as `numbers`, and where one is outside."""
    found = numbers(cells, where, path, "acc1")
    outside = found[(found < 0) | (found > 1)]
    if len(outside):
        place = where.loc[[outside.index[0]]].iloc[0]
        raise VlmrankError(
            f"{path}, line {outside.index[0]}, {place}: acc1 is {outside.iloc[0]:g}, outside 0..1. Divide by 100 if it "
            "is in per cent."
        )
    return found


def _plain(text: object) -> str:
    return re.sub(r"[^a-z0-9]", "", str(text).lower())


def _filter(table: pd.DataFrame, keep: pd.Series, kind: str, column: str, reason: str, left: list) -> pd.DataFrame:
    """The rows to keep; the others are counted by their value in the column."""
    keep = keep.astype(bool)  # an empty one is of no type
    for value, count in texts(table[column])[~keep].value_counts(sort=False).items():
        left.append((kind, value or "(empty)", int(count), reason))
    return table[keep]


def _long(table: pd.DataFrame, path: object, kind: str) -> Table:
    need_columns(table, ["dataset", "model", "acc1"], path, kind)
    if kind != "own":
        need_columns(table, ["pretrained"], path, kind)
    left: list[tuple[str, str, int, str]] = []
    if "task" in table.columns:
        keep = texts(table["task"]).map(_plain).isin(["zeroshotclassification", ""])
        table = _filter(table, keep, "task", "task", "another task than zero-shot classification", left)
    if "language" in table.columns:
        keep = texts(table["language"]).str.lower().isin(["", "en", "eng", "english"])
        table = _filter(table, keep, "language", "language", "another language than English", left)
    keep = texts(table["dataset"]).map(lambda name: not is_other_task(name))
    table = _filter(table, keep, DATASET, "dataset", "its task is not classification with one label per image", left)
    names = texts(table["model"])
    if "pretrained" in table.columns:
        tags = texts(table["pretrained"])
        names = names.where(tags == "", names.str.replace("/", "-") + "--" + tags)
    count = table["n"] if "n" in table.columns else ""
    rows = {"model": names, "dataset": texts(table["dataset"]), "acc1": table["acc1"], "n": count}
    return Table(pd.DataFrame(rows, index=table.index), left)


def is_other_task(dataset: str) -> bool:
    """Whether a data set is for retrieval or has several labels an image, by its name.

    >>> is_other_task("mscoco_captions"), is_other_task("cifar10")
    (True, False)
    """
    return OTHER_TASKS.fullmatch(dataset.lower().rpartition("/")[2].replace(" ", "_")) is not None


def _wide(table: pd.DataFrame, path: object) -> Table:
    need_columns(table, ["name", "pretrained"], path, "openclip")
    model = texts(table["name"]).str.replace("/", "-") + "--" + texts(table["pretrained"])
    skipped = {"name", "pretrained", *NOT_DATASETS}
    columns = [name for name in table.columns if name not in skipped and not str(name).startswith("Average")]
    parts, left = [pd.DataFrame(columns=["model", "dataset", "acc1", "n"])], []
    for column in columns:
        filled = texts(table[column])[lambda cells: cells != ""]
        value = pd.to_numeric(filled, errors="coerce")
        fits = int(((value >= 0) & (value <= 1)).sum())
        if is_other_task(str(column)):
            left.append((DATASET, str(column), len(filled), "its task is not classification with one label per image"))
        elif 2 * fits < len(filled):
            left.append(("column", str(column), len(filled), "most of its cells are no accuracies from 0 to 1"))
        else:
            rows = {"model": model, "dataset": str(column), "acc1": table[column], "n": ""}
            parts.append(pd.DataFrame(rows, index=table.index))
    return Table(pd.concat(parts) if len(parts) > 1 else parts[0], left)


def parse_table(path: str | os.PathLike[str], format: str = "own", *, datasets: Collection[str] | None = None) -> Table:
    """Read a published table as rows of model, dataset, acc1 and n, under the table's own names.

    Formats: `own` (columns model, dataset, acc1, optionally n); `openclip` (wide: name, pretrained and a column for
    each dataset); `clip-benchmark`, `lovm`, `swab` (long: model, pretrained, dataset, acc1). A model with a pretrained
    tag is named `<model>--<tag>`. Rows of other tasks and languages, columns that hold no accuracies and exact zeros
    of several models on one dataset are left out and counted; empty cells are left out.

    Parameters
    ----------
    datasets : the table's names of the wanted datasets, whose values are checked; None for all.

    Raises
    ------
    VlmrankError : the file does not exist or is not of this format; no row is left; a value is not an accuracy from 0
        to 1.
    """
    if format not in FORMATS:
        raise VlmrankError(f"{path}: the format {format!r} is none of {', '.join(FORMATS)}")
    cells = read_cells(path)
    found = _wide(cells, path) if format == "openclip" else _long(cells, path, format)
    rows, left = found.rows, list(found.left_out)
    if len(cells) and rows.empty:
        reasons = "; ".join(f"{kind} {name!r}: {reason}" for kind, name, _, reason in left[:3])
        raise VlmrankError(f"{path}: no row is left of {len(cells)}: {reasons}")
    for name in (MODEL, DATASET):
        empty = rows.index[rows[name] == ""]
        if len(empty):
            raise VlmrankError(f"{path}, line {empty[0]}: the {name} has no name")
    asked = rows if datasets is None else rows[rows["dataset"].isin(set(datasets))]
    for _, part in asked.groupby("dataset", sort=False):
        where = part["model"] + " on " + part["dataset"]
        shares(part["acc1"], where, path)
        numbers(part["n"], where, path, "n")
    rows = rows.assign(
        acc1=pd.to_numeric(texts(rows["acc1"]), errors="coerce"), n=pd.to_numeric(texts(rows["n"]), errors="coerce")
    )
    rows = rows[rows["acc1"].notna()]
    return _without_zeros(rows, left)


def _without_zeros(rows: pd.DataFrame, left: list[tuple[str, str, int, str]]) -> Table:
    """Treat exact zeros of several models on one dataset as unknown, and report other repeated values."""
    dropped = pd.Series(False, index=range(len(rows)))
    rows = rows.reset_index(drop=True)
    for dataset, values in rows.groupby("dataset", sort=False)["acc1"]:
        counts = values.value_counts()
        zeros = int(counts.get(0.0, 0))
        if zeros >= ZERO_MODELS and zeros >= ZERO_SHARE * len(values):
            dropped[values.index[values == 0]] = True
            why = f"exactly 0 for {zeros} of {len(values)} models, as where a benchmark failed: taken as unknown"
            left.append((DATASET, dataset, zeros, why))
        counts = counts.drop(0.0, errors="ignore")
        if len(counts) and counts.iloc[0] >= 2 * ZERO_MODELS and counts.iloc[0] >= len(values) / 2:
            why = f"{counts.index[0]:g} for {counts.iloc[0]} of {len(values)} models: is it a measurement? It is taken"
            left.append((DATASET, dataset, int(counts.iloc[0]), why))
    return Table(rows[~dropped].reset_index(drop=True), left)


def read_table(path: str | os.PathLike[str], format: str = "own") -> pd.DataFrame:
    """The rows of `parse_table`."""
    return parse_table(path, format).rows


def read_class_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table of accuracies per class: columns model, dataset, class, acc1 and n, the first three as text.

    Raises
    ------
    VlmrankError : as `read_cells`; a column is missing; a value is not an accuracy from 0 to 1, or not a number of
        images.
    """
    cells = read_cells(path)
    need_columns(cells, ["model", "dataset", "class", "acc1", "n"], path, "accuracies a class")
    rows = pd.DataFrame({name: texts(cells[name]) for name in ("model", "dataset", "class")})
    where = rows["model"] + " on " + rows["class"] + " of " + rows["dataset"]
    rows["acc1"] = shares(cells["acc1"], where, path)
    rows["n"] = numbers(cells["n"], where, path, "n")
    return rows[rows["acc1"].notna()]
