"""Read and check the models sheet and the datasets sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from vlmrank.datasets.items import DatasetCells
from vlmrank.datasets.layout import on_disk
from vlmrank.datasets.prompts import CLIP_BENCHMARK
from vlmrank.errors import VlmrankError
from vlmrank.models.names import HUB, LOCAL
from vlmrank.text import nearest
from vlmrank.textfile import read_lines
from vlmrank.workflow.config import problems, with_defaults
from vlmrank.workflow.paths import normal_path

RESERVED = ".weights"  # ranking/{target}.weights.csv stands beside ranking/{target}.csv
CHECKPOINTS = (".safetensors", ".pt", ".pth", ".bin")


@dataclass(frozen=True)
class ModelRow:
    """One row of the models sheet; `line` is its line in the file."""

    model: str
    architecture: str
    pretrained: str = ""
    family: str = ""
    tokenizer: str = ""
    weights: str = ""
    line: int = 0

    @property
    def folder(self) -> str | None:
        """The folder of a `local-dir:` model, else None."""
        return self.architecture.removeprefix(LOCAL) if self.architecture.startswith(LOCAL) else None

    @property
    def checkpoint(self) -> str | None:
        """The checkpoint file if `pretrained` is the path of one, else None."""
        return self.pretrained if self.pretrained.endswith(CHECKPOINTS) else None

    def paths(self) -> list[str]:
        """Files and folders of the user that the row names."""
        return [path for path in (self.folder, self.checkpoint) if path]

    def values(self) -> dict[str, str]:
        """The cells."""
        return {name: value for name, value in asdict(self).items() if name != "line"}


@dataclass(frozen=True)
class DatasetRow(DatasetCells):
    """One row of the datasets sheet; `line` is its line in the file."""

    group: str = ""
    line: int = 0

    @property
    def class_file(self) -> str | None:
        """The file of class names if `classes` is one, else None."""
        return self.classes if self.classes and not self.classes.startswith(CLIP_BENCHMARK) else None

    @property
    def local(self) -> list[str]:
        """The columns that name files or folders of the user."""
        images = [name for name in ("path", "test") if not getattr(self, name).startswith(HUB)]
        return [*(images if self.kind != "torchvision" else ()), *(["classes"] if self.class_file else ())]

    def paths(self) -> list[str]:
        """Files and folders of the user that the row names."""
        images = (self.path, self.test) if self.kind != "torchvision" else ()
        return [path for path in (*images, self.class_file) if path]

    def values(self) -> dict[str, str]:
        """The cells that define the dataset; `group` only restricts its sources."""
        return {field.name: getattr(self, field.name) for field in fields(DatasetCells)}


def _read_sheet(path: str | Path, schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    path = Path(path)
    known = list(schema["properties"])
    lines = [(number, line) for number, line in enumerate(read_lines(path), 1) if line.strip() and line[0] != "#"]
    if not lines:
        raise VlmrankError(f"{path}: there is no row; the first line names the columns: {', '.join(known)}")
    header = [name.strip() for name in lines[0][1].rstrip("\t").split("\t")]
    wrong = _check_header(path, header, schema)
    if wrong:
        raise VlmrankError("\n".join(wrong))
    values = []
    for number, line in lines[1:]:
        row, told = _read_row(line, header, schema)
        wrong += [f"{path}, line {number}{text}" for text in told]
        values.append(with_defaults(row, schema) | {"line": number})
    name = schema["required"][0]
    lines_of: dict[str, dict[str, Any]] = {}
    for row in values:
        first = lines_of.setdefault(row[name].casefold(), row)
        if first is row:
            continue
        same = first[name] == row[name]
        why = "" if same else f", as {first[name]!r}: one file where a file system does not tell case"
        wrong.append(
            f"{path}, line {row['line']}, {name}: {row[name]!r} is on line {first['line']} already{why}. Rename one."
        )
    if not wrong and not values:
        wrong.append(f"{path}: there is a header but no row. Add at least one {name}.")
    if wrong:
        raise VlmrankError("\n".join(wrong))
    return values


def _check_header(path: Path, header: Sequence[str], schema: Mapping[str, Any]) -> list[str]:
    known = list(schema["properties"])
    if len(header) == 1:
        for separator, words in ((",", "commas"), (";", "semicolons"), (None, "spaces")):
            names = [name.strip(' "') for name in header[0].split(separator)]
            if len(names) > 1 and set(names) & set(known):
                return [f"{path}: the columns are separated by {words}. The sheet is tab-separated: put tabs between."]
    wrong = []
    for name in dict.fromkeys(header):
        if not name:
            wrong.append(
                f"{path}: column {header.index(name) + 1} of {len(header)} has no name. Take the extra tab away."
            )
        elif name not in known:
            hint = nearest(name, known) or f"Known columns: {', '.join(known)}."
            wrong.append(f"{path}: column {name!r}: there is no such column. {hint}")
        elif header.count(name) > 1:
            wrong.append(f"{path}: column {name!r}: is there twice.")
    wrong += [
        f"{path}: column {name!r}: is missing. {schema['properties'][name]['description']}"
        for name in schema["required"]
        if name not in header
    ]
    return wrong


def _read_row(line: str, header: Sequence[str], schema: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """The cells of a line, and its faults, each to be printed after `line <number>`."""
    row = line.split("\t")
    required = schema["required"]
    cells = {name: cell.strip() for name, cell in zip(header, row, strict=False)}
    present = {name: cell for name, cell in cells.items() if cell or name in required}
    present |= {name: "" for name in required if name not in present}
    surplus = [cell for cell in row[len(header) :] if cell.strip()]
    if surplus:
        return present, [f": {len(row)} cells under {len(header)} columns ({', '.join(header)})"]
    if len(row) == 1 and len(required) > 1 and len(line.split()) >= len(required):
        return present, [": there is no tab: the cells are separated by spaces. Put a tab between them."]
    told = [f", {' '.join(where)}: {text}" for where, text in problems(present, schema)]
    for name, cell in present.items():
        if len(cell) > 1 and cell[0] == cell[-1] == '"':
            told.append(f", {name}: {cell} is in quotation marks, which count as part of it here. Take them away.")
    return present, told


def read_models(path: str | Path, schema: Mapping[str, Any]) -> list[ModelRow]:
    """The rows of a models sheet, in order.

    Raises
    ------
    VlmrankError : unknown, missing or duplicate column; a value that the schema does not allow; two rows with one name.
    """
    rows = [ModelRow(**row) for row in _read_sheet(path, schema)]
    return [_place_model(row) for row in rows]


def _place_model(row: ModelRow) -> ModelRow:
    """The row with its paths normalised, spelled as on disk."""
    folder = {"architecture": LOCAL + on_disk(normal_path(row.folder))} if row.folder else {}
    checkpoint = {"pretrained": on_disk(normal_path(row.checkpoint))} if row.checkpoint else {}
    return replace(row, **folder, **checkpoint)


def _place_dataset(row: DatasetRow) -> DatasetRow:
    paths = {name: on_disk(normal_path(getattr(row, name))) for name in row.local}
    return replace(row, **paths)


def read_datasets(path: str | Path, schema: Mapping[str, Any], packed: Sequence[DatasetRow] = ()) -> list[DatasetRow]:
    """The rows of a datasets sheet, in order, then those of the sources of packs (`packed`) that it does not name.

    Raises
    ------
    VlmrankError : as for `read_models`, or there is no source to rank by.
    """
    rows = [_place_dataset(DatasetRow(**row)) for row in _read_sheet(path, schema)]
    own = {row.dataset.casefold() for row in rows}
    rows += [row for row in packed if row.dataset.casefold() not in own]
    for row in rows:
        if row.dataset.endswith(RESERVED):
            raise VlmrankError(
                f"{path}, line {row.line}, dataset: {row.dataset!r} ends in {RESERVED}, as a result file does: rename"
            )
    sources = any(row.role == "source" for row in rows)
    for row in rows:
        if sources and row.role == "target" and not sources_for(row, rows):
            raise VlmrankError(
                f"{path}, line {row.line}, group: every source is in the group {row.group!r} of the target "
                f"{row.dataset!r}, so there is nothing to rank it by. Add a source of another group, or empty the cell."
            )
    return rows


def sources_for(target: DatasetRow, rows: Sequence[DatasetRow]) -> list[str]:
    """Names of a target's sources: all rows of that role without the target itself and its siblings (`group`)."""
    return [
        row.dataset
        for row in rows
        if row.role == "source" and row.dataset != target.dataset and not (row.group and row.group == target.group)
    ]


def remarks(models: Sequence[ModelRow], datasets: Sequence[DatasetRow]) -> list[str]:
    """Warnings about the sheets: what is valid but may not be intended, one sentence each.

    Examples
    --------
    >>> remarks([ModelRow("a", "ViT-B-32")], [DatasetRow("d", "source", "images")])[0]
    'There is one model, a: nothing to choose from. Add models to the sheet.'
    """
    found = []
    if len(models) == 1:
        found.append(f"There is one model, {models[0].model}: nothing to choose from. Add models to the sheet.")
    if not any(row.role == "target" for row in datasets):
        found.append(
            "No dataset has the role target: no models are ranked, the methods are only compared on the sources."
        )
    if not any(row.role == "source" for row in datasets):
        found.append(
            "No dataset has the role source: the models are ranked by the agreement of their predictions on the target "
            "alone, which needs its class names, and nothing is known of how well that does."
        )
    first: dict[tuple[str, str], ModelRow] = {}
    for row in models:
        same = first.setdefault((row.architecture, row.pretrained), row)
        if same is not row:
            found.append(
                f"The models {same.model} (line {same.line}) and {row.model} (line {row.line}) have one architecture "
                "and one pretrained: the same model counts twice."
            )
    return found
