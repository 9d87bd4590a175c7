"""Check before a run that the files and folders in the sheets exist and are consistent."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vlmrank.datasets.layout import any_image_below, classes_of_folders, is_system_folder, tar_files
from vlmrank.datasets.lists import read_list
from vlmrank.datasets.prompts import CLIP_BENCHMARK, read_prompts
from vlmrank.errors import VlmrankError
from vlmrank.models.names import HUB, LOCAL
from vlmrank.models.registry_names import name_fault
from vlmrank.text import nearest
from vlmrank.workflow.sheets import CHECKPOINTS, DatasetRow, ModelRow

REPOSITORY = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
OTHER_WEIGHTS = (".npz", ".npy", ".ckpt", ".pkl", ".h5", ".onnx", ".gguf")
PACKED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip")
CLASS_FILES = (".yaml", ".yml", ".txt")


def check_inputs(
    models: Sequence[ModelRow],
    datasets: Sequence[DatasetRow],
    *,
    models_sheet: str | Path = "models sheet",
    datasets_sheet: str | Path = "datasets sheet",
    made: Callable[[str], bool] = lambda path: False,
) -> None:
    """Check that the files and folders in the rows exist and are consistent.

    Parameters
    ----------
    models, datasets : rows of the sheets.
    models_sheet, datasets_sheet : their files, for the messages.
    made : whether the workflow itself will make a path, which may then be missing.

    Raises
    ------
    VlmrankError : one line per problem.
    """
    wrong = []
    for row in models:
        wrong += [f"{models_sheet}, line {row.line}, {text}" for text in _looked_at(_check_model, row, made)]
    for row in datasets:
        wrong += [f"{datasets_sheet}, line {row.line}, {text}" for text in _looked_at(_check_dataset, row, made)]
    if wrong:
        raise VlmrankError("\n".join(wrong))


def _looked_at(check: Callable[..., list[str]], row: Any, made: Callable[[str], bool]) -> list[str]:
    """The findings of a check; a path that cannot be accessed is a finding too."""
    try:
        return check(row, made)
    except OSError as error:
        return [f"path: {error.filename} cannot be looked at ({error.strerror})"]


def _check_model(row: ModelRow, made: Callable[[str], bool]) -> list[str]:
    if row.folder is not None and not made(row.folder):
        folder = Path(row.folder)
        if not folder.is_dir():
            return [f"architecture: the folder {folder} of {row.model} does not exist. {_look(folder)}"]
        if not (folder / "open_clip_config.json").is_file():
            return [
                f"architecture: {folder} holds no open_clip_config.json, so it is no OpenCLIP model. Save the model as "
                "OpenCLIP's push_to_hf_hub does, or give an architecture by name and the checkpoint as pretrained."
            ]
    if row.checkpoint and not made(row.checkpoint) and not Path(row.checkpoint).is_file():
        return [f"pretrained: the checkpoint {row.checkpoint} does not exist. {_look(Path(row.checkpoint))}"]
    if row.architecture.startswith(HUB) and not re.fullmatch(REPOSITORY, row.architecture.removeprefix(HUB)):
        return [f"architecture: {row.architecture} is no repository of the hub; write {LOCAL}folder for a folder."]
    if row.folder is not None or row.architecture.startswith(HUB):
        return []
    if Path(row.pretrained).is_dir() and row.pretrained:
        return [f"pretrained: {row.pretrained} is a folder: write {LOCAL}{row.pretrained} as architecture instead."]
    if not row.checkpoint and Path(row.pretrained).suffix in OTHER_WEIGHTS:
        return [f"pretrained: {row.pretrained} is refused: weights are read from {', '.join(CHECKPOINTS)} files only."]
    fault = name_fault(row.architecture, None if row.checkpoint else row.pretrained)
    return [fault] if fault else []


def _check_dataset(row: DatasetRow, made: Callable[[str], bool]) -> list[str]:
    wrong = []
    for column in ("path", "test"):
        value = getattr(row, column)
        if not value or row.kind == "torchvision" or value.startswith(HUB) or made(value):
            continue
        path = Path(value)
        if row.kind == "folder" and not path.is_dir():
            what = "is a file, not a folder" if path.exists() else "does not exist"
            wrong.append(f"{column}: the folder {path} of {row.dataset} {what}. {_look(path)}")
        elif row.kind == "csv" and not path.is_file():
            wrong.append(f"{column}: the list {path} of {row.dataset} does not exist. {_look(path)}")
        elif row.kind == "webdataset" and not path.is_dir():
            files = tar_files(value)
            packed = next((name for name in files if Path(name).suffix.lower() in PACKED), None)
            if not files:
                wrong.append(f"{column}: no tar file fits {value} of {row.dataset}. {_look(path)}")
            elif packed:
                wrong.append(f"{column}: {packed} of {row.dataset} is compressed; images are read in place: unpack it.")
    if wrong:
        return wrong
    classes: Sequence[str] = ()
    if row.class_file is not None and not made(row.class_file):
        classes, wrong = _read_classes(row, Path(row.class_file))
    return wrong or _check_lists(row, classes, made)


def _read_classes(row: DatasetRow, path: Path) -> tuple[Sequence[str], list[str]]:
    """The class names of a class file, and what is wrong with it."""
    if path.suffix not in CLASS_FILES:
        return (), [
            f"classes: {path} of {row.dataset} is no class sheet. Give a YAML file (classes, templates), a text file "
            f"with one class a line, {CLIP_BENCHMARK}<dataset>, or nothing."
        ]
    if not path.is_file():
        return (), [f"classes: the file {path} of {row.dataset} does not exist. {_look(path)}"]
    try:
        return read_prompts(path).classes, []
    except VlmrankError as error:
        return (), [f"classes: {error}"]


def _check_lists(row: DatasetRow, classes: Sequence[str], made: Callable[[str], bool]) -> list[str]:
    """Faults of the image lists of a row; the images themselves are checked when they are prepared."""
    if row.kind != "csv":
        return []
    for column in ("path", "test"):
        value = getattr(row, column)
        if not value or made(value):
            continue
        try:
            classes = read_list(value, classes).classes or classes
        except VlmrankError as error:
            return [f"{column}: {error}"]
    return []


def folder_remarks(
    datasets: Sequence[DatasetRow], *, sheet: str | Path, made: Callable[[str], bool] = lambda path: False
) -> list[str]:
    """One sentence per dataset whose class folders do not match its class file; its own job will refuse it.

    Parameters
    ----------
    datasets : rows of the sheet, which `check_inputs` has accepted.
    sheet : its file, for the messages.
    made : whether the workflow itself will make a path.
    """
    found = []
    for row in datasets:
        if row.kind != "folder" or row.class_file is None or made(row.class_file):
            continue
        classes = read_prompts(row.class_file).classes
        for column in ("path", "test") if row.role == "source" else ("test",):
            value = getattr(row, column)
            if value and not made(value):
                told = _misfit(Path(value), classes, Path(row.class_file))
                then = "is left out" if row.role == "source" else "is ranked without these labels"
                found += [f"{sheet}, line {row.line}, {column}: {told} Until then {row.dataset} {then}."] * bool(told)
    return found


def _misfit(path: Path, classes: Sequence[str], file: Path) -> str:
    folders = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not is_system_folder(entry.name))
    try:
        found = classes_of_folders(folders, classes)
    except VlmrankError as error:
        return f"{path}, with {file}: {error}"
    strange = [name for name in folders if found[name] is None and any_image_below(path / name)]
    if not strange:
        return ""
    bare = re.sub(r"^[0-9]+_", "", strange[0])
    hint = nearest(bare, classes) or f"The file has {', '.join(classes[:8])}."
    more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
    return (
        f"the class folder {path / strange[0]}{more} fits no class of {file} (folders are named <class> or "
        f"<index>_<class>). {hint} Rename the folder or correct the file."
    )


def _look(path: Path) -> str:
    parent = path.parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if path.parent.is_dir():
        hint = nearest(path.name, [entry.name for entry in parent.iterdir()])
        if hint:
            return hint
    where = "the working directory" if str(parent) == "." else "the folder"
    return f"Correct the path ({where} {parent.resolve()} is there)."
