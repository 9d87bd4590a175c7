"""Read a dataset's images from folders, lists, tar sets, torchvision or the hub into one list of items."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from vlmrank.datasets.items import Item, Source, source_of
from vlmrank.datasets.layout import (
    SYSTEM_FOLDERS,
    check_splits,
    classes_of_folders,
    counted,
    folder_classes,
    images_below,
    is_image_file,
    is_system_folder,
)
from vlmrank.datasets.lists import list_has_names, read_list
from vlmrank.datasets.prompts import same_text
from vlmrank.datasets.tars import HUB, read_tars, tars_have_names
from vlmrank.errors import VlmrankError

__all__ = ["HUB", "brings_names", "read_source"]


def read_source(
    kind: str,
    path: str,
    *,
    classes: Sequence[str] = (),
    cache: str | os.PathLike[str] | None = None,
    labels: bool = True,
) -> Source:
    """List the images of a source without decoding them.

    Parameters
    ----------
    kind : folder, csv, webdataset or torchvision.
    path : as in the datasets sheet.
    classes : known class names, into which labels are indices; if empty, the source's own are taken.
    cache : folder of downloads.
    labels : whether labels are needed; if not, class folders need not fit the class names.

    Raises
    ------
    VlmrankError : the source does not exist, has no image, or its labels do not fit the class names.
    """
    readers = {
        "folder": lambda: _read_folder(path, classes, labels),
        "csv": lambda: read_list(path, classes),
        "webdataset": lambda: read_tars(path, classes, cache),
        "torchvision": lambda: _read_torchvision(path, classes, cache),
    }
    if kind not in readers:
        raise VlmrankError(f"kind {kind!r} is none of {', '.join(readers)}")
    source = readers[kind]()
    if not source.items:
        seen = "; ".join(counted(source.left_out))
        raise VlmrankError(f"{path} holds no image{f': {seen}' if seen else ''}")
    return source


# --- folders ---------------------------------------------------------------------------------------------------------


def _read_folder(path: str, classes: Sequence[str], wanted: bool) -> Source:
    root = Path(path)
    if not root.is_dir():
        raise VlmrankError(f"the folder {path} {'is a file' if root.exists() else 'does not exist'}")
    entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    files = [entry.name for entry in entries if entry.is_file() and not entry.name.startswith(".")]
    flat = [name for name in files if is_image_file(name)]
    folders = [entry.name for entry in entries if entry.is_dir() and not is_system_folder(entry.name)]
    inside = {name: list(images_below(root / name)) for name in folders}
    left_out = {
        "files that are no images by their names": [name for name in files if not is_image_file(name)],
        "folders of the system": [entry.name for entry in entries if entry.is_dir() and entry.name in SYSTEM_FOLDERS],
        "folders without an image": [name for name, found in inside.items() if not found],
    }
    inside = {name: found for name, found in inside.items() if found}
    if flat and inside:
        raise VlmrankError(
            f"{path} holds both images ({flat[0]}) and folders with images ({next(iter(inside))}): put all images into "
            "class folders, or all into one folder"
        )
    if flat:
        return Source([Item(name, {"path": str(root / name)}) for name in flat], left_out=left_out)
    check_splits(path, list(inside))
    own = {} if classes else folder_classes(list(inside))
    if len(set(map(same_text, own.values()))) < len(own):
        raise VlmrankError(f"two class folders of {path} stand for one class name: {', '.join(sorted(inside)[:8])}")
    if wanted:
        labels = {name: list(own).index(name) for name in own} if own else _labels_of_folders(root, inside, classes)
    else:
        labels = dict.fromkeys(inside, -1)
    items = [
        Item(file.relative_to(root).as_posix(), {"path": str(file)}, labels[name])
        for name, found in inside.items()
        for file in found
    ]
    return Source(items, labelled=wanted and bool(items), classes=list(own.values()), left_out=left_out)


def _labels_of_folders(root: Path, folders: Iterable[str], names: Sequence[str]) -> dict[str, int]:
    found = classes_of_folders(list(folders), names)
    for name, label in found.items():
        if label is None:
            raise VlmrankError(
                f"the class folder {root / name} fits none of the {len(names)} class names ({', '.join(names[:6])}, "
                "...); folders are named <class> or <index>_<class>"
            )
    return found


# --- torchvision -----------------------------------------------------------------------------------------------------


def _read_torchvision(path: str, classes: Sequence[str], cache: str | os.PathLike[str] | None) -> Source:
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
    return source_of(items, classes=own)


def brings_names(kind: str, path: str) -> bool:
    """Whether a local source provides class names, by a quick look: no image is opened, no tree is walked.

    A source that cannot be accessed counts as providing some; its own job reports the fault.
    """
    try:
        if kind == "folder":
            entries = list(os.scandir(path))
            return sum(entry.is_dir() and not is_system_folder(entry.name) for entry in entries) > 1
        if kind == "csv":
            return list_has_names(path)
        return tars_have_names(path)
    except (OSError, VlmrankError):
        return True
