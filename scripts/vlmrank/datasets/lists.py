"""Read a list of images: CSV, TSV or Parquet with a column of paths and optionally one of labels."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlmrank.datasets.items import Item, Source, source_of
from vlmrank.datasets.layout import composed, on_disk
from vlmrank.errors import VlmrankError
from vlmrank.files import read_parquet
from vlmrank.text import nearest
from vlmrank.textfile import read_text

PATH_COLUMNS = ("path", "image", "file", "filename", "filepath", "image_path")
LABEL_COLUMNS = ("label", "class", "class_name", "target", "category")
INDEX_COLUMN = "class_index"


def _rows_of_list(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    if path.suffix.lower() in (".parquet", ".pq"):
        table = read_parquet(path)
        return table.column_names, table.to_pylist()
    text = read_text(path)
    first = text.split("\n", 1)[0]
    separator = max("\t,;", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        return list(reader.fieldnames or []), list(reader)
    except csv.Error as error:
        raise VlmrankError(f"{path}, after line {reader.line_num}: {error}") from error


def _column(names: Sequence[str], wanted: Sequence[str], path: object) -> str | None:
    plain = {name.strip().lower(): name for name in names if name}
    found = [plain[name] for name in wanted if name in plain]
    if len(names) > len(set(names)) and found and list(names).count(found[0]) > 1:
        raise VlmrankError(f"{path} has the column {found[0]!r} twice")
    return found[0] if found else None


def _label_text(value: object) -> str:
    """A cell as label text; a whole number that the table keeps as a float is written as an integer."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def read_list(path: str, classes: Sequence[str]) -> Source:
    """The images of a CSV, TSV or Parquet file; raises as `read_source`."""
    file = Path(path)
    if not file.is_file():
        raise VlmrankError(f"the list {path} does not exist")
    names, rows = _rows_of_list(file)
    where, what = _column(names, PATH_COLUMNS, path), _column(names, (*LABEL_COLUMNS, INDEX_COLUMN), path)
    if where is None:
        raise VlmrankError(
            f"{path} has no column of paths; it has {', '.join(map(str, names)) or 'none'}, known are "
            f"{', '.join(PATH_COLUMNS)} (and {', '.join((*LABEL_COLUMNS, INDEX_COLUMN))} for labels)"
        )
    for number, row in enumerate(rows, 1):
        if row.get(None):
            raise VlmrankError(f"{path}, row {number}: {len(names) + len(row[None])} cells under {len(names)} columns")
    values = [_label_text(row.get(what)) for row in rows] if what else [""] * len(rows)
    kind = what.strip().lower() if what else ""
    labels, own = column_labels(values, classes, path, by_index=kind == INDEX_COLUMN, by_name=kind == "class_name")
    first_image = next((row[where] for row in rows if isinstance(row.get(where), str)), "")
    composed_away = not (file.parent / first_image).exists()  # perhaps all exist in the other Unicode form
    if composed_away:
        _check_path(first_image, file)
    items, rows_of, repeated = [], {}, []
    for number, (row, label) in enumerate(zip(rows, labels, strict=True), 1):
        image = row.get(where)
        if not isinstance(image, str) or not image.strip():
            what_is = (
                "no path" if image is None or isinstance(image, str) else f"no path but {type(image).__name__} data"
            )
            raise VlmrankError(f"{path}, row {number}: there is {what_is} in the column {where}")
        image = image.strip()
        first = rows_of.setdefault(image, number)
        if labels[first - 1] != label:
            raise VlmrankError(
                f"{path}, row {number}: {image} is in row {first} already, with another label ({values[first - 1]!r}, "
                f"here {values[number - 1]!r}). Each image has one label: take one of the rows out."
            )
        if first == number:
            place = str(file.parent / image)
            items.append(Item(image, {"path": on_disk(place) if composed_away else place}, label))
        else:
            repeated.append(image)
    places = [f"row {number}" for number in rows_of.values()]
    return source_of(items, places=places, classes=own, left_out={"rows that repeat an image": repeated})


def _check_path(image: str, file: Path) -> None:
    """Report a fault of the first path that all paths of the list share."""
    if "://" in image:
        raise VlmrankError(f"{file}, row 1: {image} is an address; download the images and name the files")
    if "\\" in image and (file.parent / image.replace("\\", "/")).exists():
        raise VlmrankError(f"{file}, row 1: {image} is written with backslashes; write /")
    if Path(image).exists() and not Path(image).is_absolute():
        raise VlmrankError(
            f"{file}, row 1: {image} is in the working directory; paths in a list begin at the folder of the list"
        )


def column_labels(
    values: Sequence[str], classes: Sequence[str], path: object, *, by_index: bool = False, by_name: bool = False
) -> tuple[list[int], list[str]]:
    """Labels of a column of texts, -1 for an empty one, and the class names that the column provides.

    Either all texts are class names or all are indices; this is decided once per column.

    Parameters
    ----------
    values : a text for each row.
    classes : known class names; may be empty.
    path : the file, for messages.
    by_index, by_name : what the column is known to hold; by default what fits.

    Raises
    ------
    VlmrankError : a text is neither, or all texts fit both ways with different labels.

    Examples
    --------
    >>> column_labels(["0", "", "1"], ["cat", "dog"], "l.csv")
    ([0, -1, 1], [])
    >>> column_labels(["dog", "cat"], [], "l.csv")
    ([1, 0], ['cat', 'dog'])
    """
    filled = [value for value in values if value]
    digits = all(re.fullmatch(r"[0-9]+", value) for value in filled)
    own = sorted(set(filled)) if not classes and not by_index and (by_name or not digits) else []
    index = {composed(name): number for number, name in enumerate(classes or own)}
    named = all(composed(value) in index for value in filled)
    indexed = digits and not own and all(not classes or int(value) < len(classes) for value in filled)
    if by_index:
        named = False
    if by_name:
        indexed = False
    if named and indexed:
        other = next((value for value in filled if index[composed(value)] != int(value)), None)
        if other is not None:
            raise VlmrankError(
                f"{path}: every label is a class name and an index as well, and they differ: {other!r} names class "
                f"{index[composed(other)]} and is the index of {classes[int(other)]!r}. Call the column class_name or "
                f"{INDEX_COLUMN}."
            )
    if named:
        return [index[composed(value)] if value else -1 for value in values], own
    if indexed:
        return [int(value) if value else -1 for value in values], []
    as_index = by_index or (digits and not by_name)
    for number, value in enumerate(values, 1):
        is_index = re.fullmatch(r"[0-9]+", value) and (not classes or int(value) < len(classes))
        if value and not (is_index if as_index else composed(value) in index):
            what = f"no index of the {len(classes)} classes" if by_index else "none of the class names"
            if as_index and digits and int(value) == len(classes):
                what += "; indices begin at 0"
            raise VlmrankError(f"{path}, row {number}: the label {value!r} is {what}{_near(value, classes)}")
    raise AssertionError("unreachable: all labels fit")


def _near(value: str, classes: Sequence[str]) -> str:
    hint = nearest(value, classes)
    return f". {hint}" if hint else ""


def listed_images(path: str) -> list[str]:
    """Paths of the images in a list, for fingerprints; raises as `read_list`."""
    names, rows = _rows_of_list(Path(path))
    column = _column(names, PATH_COLUMNS, path)
    images = [row.get(column) for row in rows if column is not None]
    return [str(Path(path).parent / image) for image in images if isinstance(image, str)]


def list_has_names(path: str) -> bool:
    """Whether the labels of a list are class names."""
    names, rows = _rows_of_list(Path(path))
    column = _column(names, (*LABEL_COLUMNS, INDEX_COLUMN), path)
    values = [value for value in (_label_text(row.get(column)) for row in rows) if value] if column else []
    return column != INDEX_COLUMN and not all(re.fullmatch(r"[0-9]+", value) for value in values)
