"""Read tar sets in clip-benchmark's layout: samples whose members share a key, class names beside the tars."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlmrank.datasets.decode import IMAGE_SUFFIXES
from vlmrank.datasets.items import Item, Source, source_of
from vlmrank.datasets.layout import tar_files
from vlmrank.errors import VlmrankError
from vlmrank.files import MOST_TAR, MOST_TAR_HEADER, CappedReader, open_regular
from vlmrank.models.names import HUB
from vlmrank.textfile import read_lines

TAR_IMAGES = {"webp", "png", "jpg", "jpeg"}
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}


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
    """Lines of a text file beside the tars, without empty ones at the end; empty if there is no file."""
    lines = [line.strip() for line in read_lines(file)] if file.is_file() else []
    while lines and not lines[-1]:
        lines.pop()
    if "" in lines:
        raise VlmrankError(f"{file}, line {lines.index('') + 1} is empty; the classes after it would be one too far")
    return lines


def read_tars(path: str, classes: Sequence[str], cache: str | os.PathLike[str] | None) -> Source:
    """The samples of tar files; raises as `read_source`."""
    if path.startswith(HUB):
        from vlmrank.models.hub import fetch_tar_set

        files, meta = fetch_tar_set(path.removeprefix(HUB), cache)
    else:
        files, meta = _tar_set(path)
    files = list(dict.fromkeys(files))
    if not files:
        raise VlmrankError(f"no tar file fits {path}")
    if _lines(meta / "dataset_type.txt") not in ([], ["classification"]):
        raise VlmrankError(f"{path} is a {_lines(meta / 'dataset_type.txt')[0]} dataset; only classification is read")
    items: list[Item] = []
    left_out: dict[str, list[str]] = {}
    for prefix, file in zip(_prefixes(files), files, strict=True):
        found, skipped = _tar_members(file, prefix=prefix)
        items += found
        for reason, names in skipped.items():
            left_out.setdefault(reason, []).extend(names)
    own = _lines(meta / "classnames.txt")
    size, most = len(classes) or len(own), max((item.label for item in items), default=-1)
    if size and most >= size:
        raise VlmrankError(f"{path} has the label {most}, but there are only {size} class names")
    templates = _lines(meta / "zeroshot_classification_templates.txt")
    return source_of(items, classes=own, templates=templates, left_out=left_out)


def _prefixes(files: Sequence[str]) -> list[str]:
    """Prefixes that distinguish the members of several tars: each file's path below their common folder."""
    if len(files) < 2:
        return [""] * len(files)
    common = os.path.commonpath([str(Path(file).parent) for file in files])
    return [f"{Path(file).relative_to(common).as_posix() if common else file}/" for file in files]


def _packed(file: str) -> str:
    """The compression of a file, empty if there is none."""
    try:
        with Path(file).open("rb") as content:
            start = content.read(6)
    except OSError:
        return ""
    return next((name for mark, name in PACKED.items() if start.startswith(mark)), "")


def _tar_members(file: str, *, prefix: str) -> tuple[list[Item], dict[str, list[str]]]:
    """The samples of a tar file, and reason -> the members that are not samples."""
    images: dict[str, dict[str, Any]] = {}
    labels: dict[str, int] = {}
    dotted, wordy = [], []
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
                    if key in images:
                        raise VlmrankError(f"{file} holds the sample {key} twice; give each image a key of its own")
                    images[key] = {"path": file, "offset": member.offset_data, "size": member.size}
                elif suffix == "cls" and member.size < 64:
                    text = tar.extractfile(member).read().decode("ascii", "replace").strip()
                    labels[key] = int(text) if re.fullmatch(r"[0-9]+", text) else -1
                    wordy += [member.name] if labels[key] < 0 else []
                elif Path(name).suffix.lower() in IMAGE_SUFFIXES:
                    dotted.append(member.name)
    except (tarfile.TarError, OSError) as error:
        packed = _packed(file)
        if packed:
            raise VlmrankError(
                f"{file} is compressed with {packed}; images are read from where they lie in a plain tar: unpack it"
            ) from error
        raise VlmrankError(f"{file} is not a plain tar file that can be read to its end ({error})") from error
    left_out = {
        "images whose name has a second dot (a sample's name ends at the first)": dotted,
        ".cls members that are no index": wordy,
    }
    return [Item(prefix + key, place, labels.get(key, -1)) for key, place in images.items()], left_out


def tars_have_names(path: str) -> bool:
    """Whether class names lie beside the tars."""
    files, meta = _tar_set(path)
    return bool(files) and (meta / "classnames.txt").is_file()
