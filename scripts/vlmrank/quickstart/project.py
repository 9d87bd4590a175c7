"""Write sheets and configuration into a folder as a user would, so that `snakemake` can continue there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import yaml

from vlmrank.errors import VlmrankError
from vlmrank.models.names import HUB, LOCAL
from vlmrank.store import atomic
from vlmrank.workflow.folder import workflow_folder
from vlmrank.workflow.sheets import DatasetRow, ModelRow

MARK = "# Written by `vlmrank rank`, which writes it anew while this line is here."
SNAKEFILE = f"""{MARK}
# `snakemake` in this folder runs the installed workflow on the sheets beside this file.
from vlmrank.workflow.folder import workflow_folder


include: str(workflow_folder() / "Snakefile")


rule everything:
    default_target: True
    input:
        rules.all.input,
"""


def default_cache() -> str:
    """The folder that the Hugging Face hub keeps its files in, so that no weight is downloaded twice."""
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    return os.environ.get("HF_HUB_CACHE") or str(Path(home) / "hub")


def write_project(
    folder: Path,
    target: DatasetRow,
    classes: str | Sequence[str],
    models: Sequence[ModelRow],
    *,
    sources: Sequence[DatasetRow] = (),
    settings: dict[str, object] | None = None,
    profile: str | None = None,
) -> DatasetRow:
    """Write models.tsv, datasets.tsv, config.yaml, Snakefile and the profile; return the target's row as written.

    Parameters
    ----------
    folder : created if missing.
    target : row of the user's images.
    classes : a file of class names, or names, which are written to classes.txt.
    models : rows of the models to compute.
    sources : rows of datasets of known accuracy.
    settings : keys of the configuration that differ from their defaults.
    profile : name of a profile of the workflow to copy as well.

    Raises
    ------
    VlmrankError : a file of that name exists that vlmrank did not write; there is no such profile.
    """
    for name in ("Snakefile", "config.yaml", "models.tsv", "datasets.tsv"):
        _refuse_foreign(folder / name)
    folder.mkdir(parents=True, exist_ok=True)
    if not isinstance(classes, str):
        if classes:
            _write(folder / "classes.txt", "\n".join(classes) + "\n")
        classes = "classes.txt" if classes else ""
    row = replace(target, classes=classes)
    _write(folder / "models.tsv", _sheet([_placed(one) for one in models]))
    _write(folder / "datasets.tsv", _sheet([*sources, row]))
    config = {"models": "models.tsv", "datasets": "datasets.tsv", "demo": {"build": False}, **(settings or {})}
    _write(folder / "config.yaml", f"{MARK}\n{yaml.safe_dump(config, sort_keys=False)}")
    _write(folder / "Snakefile", SNAKEFILE)
    _copy_profile("default", folder / "profiles" / "default")
    if profile:
        _copy_profile(profile, folder / profile)
    return row


def _refuse_foreign(path: Path) -> None:
    if path.exists() and MARK not in path.read_text(encoding="utf-8", errors="replace").splitlines()[:1]:
        raise VlmrankError(f"{path} is there already and was not written by `vlmrank rank`: choose another --out")


def _write(path: Path, text: str) -> None:
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _placed(row: ModelRow) -> ModelRow:
    """The row with absolute paths, since the sheet is in another folder."""
    folder = {"architecture": f"{LOCAL}{Path(row.folder).absolute()}"} if row.folder is not None else {}
    checkpoint = {"pretrained": str(Path(row.checkpoint).absolute())} if row.checkpoint is not None else {}
    return replace(row, **folder, **checkpoint)


def placed_dataset(row: DatasetRow) -> DatasetRow:
    """The same for a dataset; names of torchvision and of the hub stay."""
    local = [name for name in row.local if getattr(row, name) and not getattr(row, name).startswith(HUB)]
    return replace(row, **{name: str(Path(getattr(row, name)).absolute()) for name in local})


def _sheet(rows: Sequence[ModelRow | DatasetRow]) -> str:
    """The rows as a sheet, without the columns that are empty everywhere."""
    names = [field.name for field in fields(rows[0]) if field.name != "line"]
    names = [name for name in names if any(getattr(row, name) for row in rows)]
    lines = ["\t".join(names)]
    for row in rows:
        cells = [str(getattr(row, name)) for name in names]
        strange = next((cell for cell in cells if "\t" in cell or "\n" in cell), None)
        if strange is not None:
            raise VlmrankError(f"{strange!r} holds a tab or a line break, which no sheet can: rename it")
        lines.append("\t".join(cells))
    return "\n".join([MARK, *lines, ""])


def _copy_profile(name: str, place: Path) -> None:
    """Copy a profile of the workflow; existing files are kept."""
    source = workflow_folder() / "profiles" / name
    if not source.is_dir():
        raise VlmrankError(f"profile: there is no profile {name!r}; there are default and slurm")
    place.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        if path.is_file() and not (place / path.name).exists():
            shutil.copyfile(path, place / path.name)
