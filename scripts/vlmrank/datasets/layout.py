"""Folder layout: which folders are classes, which files to skip, Unicode forms of names."""

from __future__ import annotations

import glob
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vlmrank.datasets.decode import is_image_name
from vlmrank.errors import VlmrankError

# Folders left by archive tools, network drives and notebooks; names that start with a dot count too.
SYSTEM_FOLDERS = frozenset(
    (
        *("__MACOSX", "@eaDir", "#recycle", "#snapshot", "$RECYCLE.BIN", "System Volume Information", "lost+found"),
        *("__pycache__", "Thumbs"),
    )
)
# Files without a suffix that are not images.
PLAIN_FILES = frozenset(("readme", "license", "licence", "copying", "makefile", "citation", "icon\r", "changelog"))
SPLITS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing", "dev"))


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC), in which names are compared.

    Examples
    --------
    >>> len("e\\u0301"), len(composed("e\\u0301"))
    (2, 1)
    """
    return unicodedata.normalize("NFC", name)


def is_system_folder(name: str) -> bool:
    """Whether a folder is hidden or was left by a system, and so is not a class.

    Examples
    --------
    >>> is_system_folder("__MACOSX"), is_system_folder(".ipynb_checkpoints"), is_system_folder("cat")
    (True, True, False)
    """
    return name.startswith(".") or name in SYSTEM_FOLDERS


def on_disk(path: str) -> str:
    """The path as spelled on disk, if a part exists only in the other Unicode form (macOS writes NFD).

    A path that exists, or in neither form, is returned unchanged.
    """
    if not path or os.path.exists(path):  # noqa: PTH110
        return path
    place = Path(path)
    parent = on_disk(str(place.parent)) if str(place.parent) not in (path, ".") else str(place.parent)
    if not Path(parent).is_dir():
        return path
    same = [name for name in os.listdir(parent) if composed(name) == composed(place.name)]  # noqa: PTH208
    if len(same) != 1:
        return path
    return str(Path(parent) / same[0])


def _spaced(name: str) -> str:
    """A folder's name as a class name: underscores become spaces."""
    return " ".join(composed(name).replace("_", " ").split()).casefold()


def _plain(name: str) -> str:
    """The letters and digits of a name alone."""
    return re.sub(r"[\W_]+", " ", composed(name)).strip().casefold()


def _keys(name: str) -> tuple[str, str, str]:
    return composed(name), _spaced(name), _plain(name)


def class_of_folder(folder: str, classes: Sequence[str]) -> int | None:
    """Index of the class of a folder `<class>` or `<index>_<class>`, or None.

    Names are compared exactly, then with underscores as spaces and without case, then by letters and digits alone. A
    looser comparison counts only if it fits a single class, so that `a+` and `a-` stay apart.

    Examples
    --------
    >>> class_of_folder("001_polar bear", ["cat", "polar bear"]), class_of_folder("c++", ["C", "C++", "C#"])
    (1, 1)
    >>> class_of_folder("dog", ["cat", "polar bear"]) is None, class_of_folder("c_", ["C+", "C-"]) is None
    (True, True)

    Raises
    ------
    VlmrankError : the name fits one class and its index another.
    """
    return _class_of(folder, classes, [_keys(name) for name in classes])


def _class_of(folder: str, classes: Sequence[str], table: Sequence[tuple[str, str, str]]) -> int | None:
    by_name = _single(folder, table)
    if by_name is not None and folder == classes[by_name]:
        return by_name
    numbered = re.fullmatch(r"([0-9]+)_(.*)", composed(folder))
    by_index = int(numbered[1]) if numbered and int(numbered[1]) < len(classes) else None
    if by_index is not None and not any(a == b for a, b in zip(_keys(numbered[2]), table[by_index], strict=True)):
        by_index = None
    if by_name is not None and by_index is not None and by_name != by_index:
        raise VlmrankError(
            f"the folder {folder} is the class {classes[by_index]!r} by its number, {classes[by_name]!r} by its name. "
            "Rename it."
        )
    return by_name if by_name is not None else by_index


def _single(folder: str, table: Sequence[Sequence[str]]) -> int | None:
    """The single class that fits the folder's name by the strictest comparison with any match."""
    for level, key in enumerate(_keys(folder)):
        fits = [index for index, keys in enumerate(table) if keys[level] == key]
        if fits:
            return fits[0] if len(fits) == 1 or level == 0 else None
    return None


def classes_of_folders(folders: Sequence[str], classes: Sequence[str]) -> dict[str, int | None]:
    """`class_of_folder` for all class folders of a dataset; if all are numbers, they may be the indices.

    Raises
    ------
    VlmrankError : two folders stand for one class.
    """
    table = [_keys(name) for name in classes]
    found = {name: _class_of(name, classes, table) for name in folders}
    digits = all(re.fullmatch(r"[0-9]+", name) for name in folders)
    if digits and folders and all(index is None for index in found.values()):  # as ImageNet V2 has them
        found = {name: int(name) if int(name) < len(classes) else None for name in folders}
    first: dict[int, str] = {}
    for name, index in found.items():
        if index is not None and first.setdefault(index, name) != name:
            raise VlmrankError(
                f"the folders {first[index]} and {name} both stand for the class {classes[index]!r}. Put their images "
                "into one folder, or name the folders as the classes."
            )
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
    numbered = {name: re.fullmatch(r"([0-9]+)_(.+)", name) for name in folders}
    if all(numbered.values()) and len({int(match[1]) for match in numbered.values()}) == len(folders):
        names = {name: numbered[name][2] for name in sorted(folders, key=lambda name: int(numbered[name][1]))}
    else:
        names = {name: name for name in sorted(folders)}
    return {folder: composed(name).replace("_", " ").strip() or name for folder, name in names.items()}


def look_like_codes(names: Sequence[str]) -> bool:
    """Whether class names are identifiers that mean nothing to a text tower, such as WordNet's.

    Examples
    --------
    >>> look_like_codes(["n01440764", "n01443537"]), look_like_codes(["0", "1"]), look_like_codes(["C17", "cat"])
    (True, False, False)
    """
    return len(names) > 0 and all(re.fullmatch(r"[A-Za-z]{1,3}[-_ ]?[0-9]{3,}", name) for name in names)


def check_splits(path: str | os.PathLike[str], folders: Sequence[str]) -> None:
    """Refuse folders that are splits of a dataset, not classes.

    Raises
    ------
    VlmrankError : all of them are called train, val, test or the like.
    """
    if folders and all(name.casefold() in SPLITS for name in folders):
        best = next((name for name in folders if name.casefold() in ("test", "testing")), folders[0])
        raise VlmrankError(
            f"{path} holds the splits {', '.join(folders)}, not class folders. Name one of them: {Path(path) / best}"
        )


def counted(reasons: Mapping[str, Sequence[str]]) -> list[str]:
    """What was left out: one phrase per reason, with the number and the first names.

    Examples
    --------
    >>> counted({"hidden": ["a", "b", "c"], "empty": []})
    ['hidden: 3 (a, b, ...)']
    """
    return [
        f"{reason}: {len(names)} ({', '.join([*names[:2], *(['...'] if len(names) > 2 else [])])})"
        for reason, names in reasons.items()
        if names
    ]


def is_image_file(name: str) -> bool:
    """Whether a file counts as an image: by its suffix or, without one, unless it is a common text file."""
    return is_image_name(name) and name.casefold() not in PLAIN_FILES


def images_below(folder: Path) -> Iterator[Path]:
    """The image files below a folder, sorted; links are followed, system folders left out."""
    seen = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        facts = Path(parent).stat()
        if (facts.st_dev, facts.st_ino) in seen:  # links may form circles, or lead to one folder twice
            folders[:] = []
            continue
        seen.add((facts.st_dev, facts.st_ino))
        folders[:] = sorted(name for name in folders if not is_system_folder(name))
        yield from (Path(parent) / name for name in sorted(names) if is_image_file(name))


def any_image_below(folder: Path) -> bool:
    """Whether there is an image file below a folder."""
    return next(images_below(folder), None) is not None


def tar_files(pattern: str) -> list[str]:
    """Files of a tar pattern with braces `{000..012}` or wildcards, those that exist, in order.

    Examples
    --------
    >>> tar_files("nowhere/{00..02}.tar")
    []
    """
    patterns = [pattern]
    for found in re.finditer(r"\{(\d+)\.\.(\d+)\}", pattern):
        low, high = found[1], found[2]
        patterns = [
            part.replace(found[0], str(number).zfill(len(low)), 1)
            for part in patterns
            for number in range(int(low), int(high) + 1)
        ]
    return [name for part in patterns for name in sorted(glob.glob(part))]  # noqa: PTH207
