"""Fingerprint of all files that a row of a sheet refers to, so that a change in any is detected.

Snakemake only looks at a folder's modification time, which does not change when a file is overwritten or a subfolder is
edited. Once per run, the head process takes a fingerprint of each row without reading a file; it is a parameter of the
rule that prepares the row. A change that it misses (other content, same size and time) is refused by the job that reads
the file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from vlmrank.datasets.layout import on_disk, tar_files
from vlmrank.datasets.prompts import CLIP_BENCHMARK
from vlmrank.errors import VlmrankError
from vlmrank.workflow.sheets import HUB, DatasetRow, ModelRow

DEEPEST = 16  # nesting depth; a link may lead back up
BESIDE_TARS = ("classnames.txt", "zeroshot_classification_templates.txt", "dataset_type.txt")


def fingerprint(row: ModelRow | DatasetRow, *, made: Callable[[str], bool] = lambda path: False) -> str:
    """16 hexadecimal digits that differ if a file of the row differs in name, size or modification time.

    Parameters
    ----------
    row : of either sheet.
    made : whether the workflow itself makes a path; such paths are left out, since Snakemake watches them.
    """
    digest = hashlib.sha256()
    for path in places_of(row):
        if not made(path):
            for name, size, changed in files_below(path):
                digest.update(f"{path}\0{name}\0{size}\0{changed}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def places_of(row: ModelRow | DatasetRow) -> Iterator[str]:
    """Local files and folders that are read for a row, without the cache of downloads."""
    if isinstance(row, ModelRow):
        yield from row.paths()
        return
    if row.class_file:
        yield row.class_file
    elif row.classes.startswith(CLIP_BENCHMARK):
        yield from _clip_benchmark_files()
    for path in filter(None, (row.path, row.test)):
        if row.kind == "torchvision" or path.startswith(HUB):
            continue
        yield path
        if row.kind == "csv":
            yield from _listed(path)
        elif row.kind == "webdataset":
            files = tar_files(path)
            yield from files
            above = {folder for file in [path, *files] for folder in list(Path(file).parents)[:2]}
            yield from sorted(str(folder / name) for folder in above for name in BESIDE_TARS)


def files_below(path: str | os.PathLike[str]) -> Iterator[tuple[str, int, int]]:
    """Name, size and mtime (ns) of a file, or of all files below a folder; -1 for what is missing.

    Names are relative to `path` and sorted; hidden files, which nothing reads, are left out.
    """
    path = on_disk(os.fspath(path))
    try:
        facts = os.stat(path)  # noqa: PTH116 (a Path for each of 50,000 files takes longer than the look at it)
    except OSError:
        yield "", -1, -1
        return
    if os.path.isdir(path):  # noqa: PTH112
        yield from _below(path, "", DEEPEST)
    else:
        yield "", facts.st_size, facts.st_mtime_ns


def _below(folder: str, prefix: str, deeper: int) -> Iterator[tuple[str, int, int]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        yield prefix, -1, -1
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        try:
            if entry.is_dir():
                if deeper:
                    yield from _below(entry.path, f"{prefix}{entry.name}/", deeper - 1)
                continue
            facts = entry.stat()
        except OSError:  # a broken link
            yield f"{prefix}{entry.name}", -1, -1
        else:
            yield f"{prefix}{entry.name}", facts.st_size, facts.st_mtime_ns


def _listed(path: str) -> Iterable[str]:
    from vlmrank.datasets.lists import listed_images  # imports Pillow and pyarrow, which other kinds do not need

    try:
        return listed_images(path)
    except VlmrankError:
        return ()  # the job that reads the list reports the fault


def _clip_benchmark_files() -> list[str]:
    spec = importlib.util.find_spec("clip_benchmark")
    folders = spec.submodule_search_locations if spec else None
    names = ("en_classnames.json", "en_zeroshot_classification_templates.json")
    return [str(Path(folder) / "datasets" / name) for folder in folders or () for name in names]
