"""Where a dataset's images come from: folders, lists, tar sets, torchvision. Everything becomes one list of items."""

from __future__ import annotations

import csv
import io
import os
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlmrank.datasets.decode import IMAGE_SUFFIXES, is_image_name
from vlmrank.errors import VlmrankError
from vlmrank.files import MOST_TAR, MOST_TAR_HEADER, CappedReader, open_regular, read_parquet, read_text
from vlmrank.workflow.sheets import class_of_folder, tar_files

HUB = "hf-hub:"
TAR_IMAGES = {"webp", "png", "jpg", "jpeg"}
PATH_COLUMNS = ("path", "image", "file", "filename", "filepath", "image_path")
LABEL_COLUMNS = ("label", "class", "class_name", "target", "category")


@dataclass(frozen=True)
class Item:
    """One image of a source.

    Attributes
    ----------
    id : unique within the source, and the same wherever the source lies on disk.
    place : what `read_image` needs: `path` (and `offset`, `size`, or `torchvision`, `index`).
    label : index into the class names, -1 where unknown.
    """

    id: str
    place: Mapping[str, Any]
    label: int = -1


@dataclass(frozen=True)
class Source:
    """All images of one source, in a fixed order.

    Attributes
    ----------
    items : the images.
    labelled : whether every image has a label.
    classes : names that the source itself brings, in the order of the labels; may be empty.
    templates : that the source itself brings.
    """

    items: Sequence[Item]
    labelled: bool = False
    classes: Sequence[str] = field(default_factory=list)
    templates: Sequence[str] = field(default_factory=list)


def read_source(
    kind: str, path: str, *, classes: Sequence[str] = (), cache: str | os.PathLike[str] | None = None
) -> Source:
    """List the images of a source without decoding them.

    Parameters
    ----------
    kind : folder, csv, webdataset or torchvision.
    path : as in the datasets sheet.
    classes : known class names; labels are indices into them. Where there are none, the source's own are taken.
    cache : folder of downloads.

    Raises
    ------
    VlmrankError : the source is not there, has no image, or its labels do not fit the class names.
    """
    readers = {"folder": _read_folder, "csv": _read_list, "webdataset": _read_tars, "torchvision": _read_torchvision}
    if kind not in readers:
        raise VlmrankError(f"kind {kind!r} is none of {', '.join(readers)}")
    source = readers[kind](path, list(classes), cache)
    if not source.items:
        raise VlmrankError(f"{path} holds no image")
    return source


# --- folders ---------------------------------------------------------------------------------------------------------


def _images_below(folder: Path) -> list[Path]:
    found, seen = [], set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        facts = Path(parent).stat()
        if (facts.st_dev, facts.st_ino) in seen:  # links may lead in circles, or twice to one folder
            folders[:] = []
            continue
        seen.add((facts.st_dev, facts.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(parent) / name for name in sorted(files) if is_image_name(name)]
    return found


def folder_classes(folders: Sequence[str]) -> dict[str, str]:
    """Class names of class folders: folder -> name, in the order of the labels.

    Folders that all read `<index>_<class>` are in the order of the index, others in the order of their names;
    underscores are spaces.

    Examples
    --------
    >>> folder_classes(["1_polar_bear", "0_cat"]), folder_classes(["tiger_cat", "7up"])
    ({'0_cat': 'cat', '1_polar_bear': 'polar bear'}, {'7up': '7up', 'tiger_cat': 'tiger cat'})
    """
    numbered = {name: re.fullmatch(r"(\d+)_(.+)", name) for name in folders}
    if all(numbered.values()) and len({int(match[1]) for match in numbered.values()}) == len(folders):
        names = {name: numbered[name][2] for name in sorted(folders, key=lambda name: int(numbered[name][1]))}
    else:
        names = {name: name for name in sorted(folders)}
    return {folder: name.replace("_", " ").strip() or name for folder, name in names.items()}


def _read_folder(path: str, classes: list[str], _cache: object) -> Source:
    root = Path(path)
    if not root.is_dir():
        raise VlmrankError(f"the folder {path} {'is a file' if root.exists() else 'does not exist'}")
    entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    flat = [entry.name for entry in entries if entry.is_file() and is_image_name(entry.name)]
    folders = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    inside = {name: _images_below(root / name) for name in folders}
    inside = {name: found for name, found in inside.items() if found or class_of_folder(name, classes) is not None}
    if flat and any(inside.values()):
        raise VlmrankError(
            f"{path} holds both images ({flat[0]}) and folders with images ({next(iter(inside))}): put all images into "
            "class folders, or all into one folder"
        )
    if flat:
        return Source([Item(name, {"path": str(root / name)}) for name in flat])
    own = {} if classes else folder_classes(list(inside))
    names = classes or list(own.values())
    if len(set(own.values())) < len(own):
        raise VlmrankError(f"two class folders of {path} stand for one class name: {', '.join(sorted(inside)[:8])}")
    items = []
    for name, found in inside.items():
        label = list(own).index(name) if own else class_of_folder(name, names)
        if label is None:
            raise VlmrankError(
                f"the class folder {root / name} fits none of the {len(names)} class names ({', '.join(names[:6])}, "
                "...); folders are named <class> or <index>_<class>"
            )
        items += [Item(file.relative_to(root).as_posix(), {"path": str(file)}, label) for file in found]
    return Source(items, labelled=bool(items), classes=list(own.values()))


# --- lists -----------------------------------------------------------------------------------------------------------


def _rows_of_list(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    if path.suffix.lower() in (".parquet", ".pq"):
        table = read_parquet(path)
        return table.column_names, table.to_pylist()
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise VlmrankError(f"{path} cannot be read as text in UTF-8 ({error})") from error
    first = text.split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in first else ",", strict=True)
    try:
        return list(reader.fieldnames or []), list(reader)
    except csv.Error as error:
        raise VlmrankError(f"{path}, after line {reader.line_num}: {error}") from error


def _column(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    plain = {name.strip().lower(): name for name in names if name}
    return next((plain[name] for name in wanted if name in plain), None)


def _read_list(path: str, classes: list[str], _cache: object) -> Source:
    file = Path(path)
    if not file.is_file():
        raise VlmrankError(f"the list {path} does not exist")
    names, rows = _rows_of_list(file)
    where, what = _column(names, PATH_COLUMNS), _column(names, LABEL_COLUMNS)
    if where is None:
        raise VlmrankError(
            f"{path} has no column of paths; it has {', '.join(map(str, names)) or 'none'}, known are "
            f"{', '.join(PATH_COLUMNS)} (and {', '.join(LABEL_COLUMNS)} for labels)"
        )
    values = [str(row.get(what) if row.get(what) is not None else "").strip() for row in rows] if what else []
    labelled = bool(values) and all(values)
    own: list[str] = []
    if any(values) and not classes and not all(re.fullmatch(r"\d+", value) for value in values if value):
        own = sorted({value for value in values if value})
    index = {name: number for number, name in enumerate(classes or own)}
    items, seen = [], set()
    for number, row in enumerate(rows):
        image = row.get(where)
        if not isinstance(image, str) or not image:
            raise VlmrankError(f"{path}, row {number + 1}: there is no path in the column {where}")
        label = -1
        if values and values[number]:
            label = index.get(values[number], -1)
            if label < 0 and re.fullmatch(r"\d+", values[number]) and (not index or int(values[number]) < len(index)):
                label = int(values[number])
            if label < 0:
                raise VlmrankError(f"{path}, row {number + 1}: the label {values[number]!r} is none of the class names")
        name = image if image not in seen else f"{image} (row {number + 1})"
        seen.add(image)
        items.append(Item(name, {"path": str(file.parent / image)}, label))
    return Source(items, labelled=labelled, classes=own)


# --- tar sets --------------------------------------------------------------------------------------------------------


def _tar_set(path: str) -> tuple[list[str], Path]:
    """Tar files of a clip-benchmark folder, one of its splits, or a pattern; and the folder with the class names."""
    place = Path(path)
    if place.is_dir():
        split = place / "test" if (place / "test").is_dir() and not list(place.glob("*.tar")) else place
        files = sorted(split.glob("*.tar"), key=lambda file: (len(file.name), file.name))
        count = split / "nshards.txt"
        if count.is_file() and count.read_text().strip().isdigit() and int(count.read_text()) > len(files):
            raise VlmrankError(f"{split}: {count.read_text().strip()} tar files by nshards.txt, but {len(files)} there")
        return [str(file) for file in files], split.parent
    if place.is_file():
        return [path], place.parent.parent
    return tar_files(path), place.parent.parent


def _lines(file: Path) -> list[str]:
    return [line.strip() for line in read_text(file).splitlines()] if file.is_file() else []


def _read_tars(path: str, classes: list[str], cache: str | os.PathLike[str] | None) -> Source:
    if path.startswith(HUB):
        from vlmrank.models.hub import fetch_tar_set

        files, meta = fetch_tar_set(path.removeprefix(HUB), cache)
    else:
        files, meta = _tar_set(path)
    if not files:
        raise VlmrankError(f"no tar file fits {path}")
    if _lines(meta / "dataset_type.txt") not in ([], ["classification"]):
        raise VlmrankError(f"{path} is a {_lines(meta / 'dataset_type.txt')[0]} dataset; only classification is read")
    items, labels = [], []
    for number, file in enumerate(files):
        found = _tar_members(file, prefix=f"{Path(file).name}/" if len(files) > 1 else "")
        items += found
        labels += [item.label for item in found]
        if len({item.id for item in found}) < len(found):
            raise VlmrankError(f"tar file {number} ({file}) holds one sample twice")
    own = _lines(meta / "classnames.txt")
    size = len(classes) or len(own)
    if size and max(labels, default=-1) >= size:
        raise VlmrankError(f"{path} has the label {max(labels)}, but there are only {size} class names")
    templates = [line for line in _lines(meta / "zeroshot_classification_templates.txt") if line]
    return Source(items, labelled=bool(labels) and min(labels) >= 0, classes=own, templates=templates)


def _tar_members(file: str, *, prefix: str) -> list[Item]:
    images: dict[str, dict[str, Any]] = {}
    labels: dict[str, int] = {}
    try:
        with (
            open_regular(file, most=MOST_TAR) as raw,
            tarfile.open(fileobj=CappedReader(raw, MOST_TAR_HEADER, file), mode="r:") as tar,
        ):
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                stem, _, suffix = name.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                if not member.isfile() or member.issparse() or not stem:
                    continue
                if suffix.lower() in TAR_IMAGES or f".{suffix.lower()}" in IMAGE_SUFFIXES:
                    images[key] = {"path": file, "offset": member.offset_data, "size": member.size}
                elif suffix == "cls" and member.size < 64:
                    text = tar.extractfile(member).read().decode("ascii", "replace").strip()
                    labels[key] = int(text) if re.fullmatch(r"\d+", text) else -1
    except (tarfile.TarError, OSError) as error:
        raise VlmrankError(f"{file} is not a plain tar file that can be read to its end ({error})") from error
    return [Item(prefix + key, place, labels.get(key, -1)) for key, place in images.items()]


# --- torchvision -----------------------------------------------------------------------------------------------------


def _read_torchvision(path: str, classes: list[str], cache: str | os.PathLike[str] | None) -> Source:
    from vlmrank.datasets.torchvision import open_torchvision, torchvision_classes, torchvision_labels

    root = str(Path(cache or "resources/weights") / "torchvision")
    dataset = open_torchvision(path, root, download=True)
    labels = torchvision_labels(dataset)
    own = torchvision_classes(dataset)
    size = len(classes) or len(own)
    if size and max(labels, default=-1) >= size:
        raise VlmrankError(f"torchvision's {path} has the label {max(labels)}, but there are only {size} class names")
    items = [
        Item(f"{index:06d}", {"path": root, "torchvision": path, "index": index}, label)
        for index, label in enumerate(labels)
    ]
    return Source(items, labelled=bool(labels) and min(labels) >= 0, classes=own)
