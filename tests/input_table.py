"""The rows of the table in `input_cases.py`: one input and what comes of it, and what a user would write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vlmrank.errors import VlmrankError

ROOT = Path(__file__).parent.parent
TAKEN, SAID, REFUSED = "taken", "taken, and said", "refused"


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes
    ----------
    section : heading in the page.
    given : the input in words.
    verdict : taken, said or refused.
    says : what comes of it, or the message; `…` stands for words that differ.
    run : makes the input in a folder and returns what came of it; a VlmrankError is the message.
    """

    section: str
    given: str
    verdict: str
    says: str
    run: Callable[[Path], str]


CASES: list[Case] = []


def case(section: str, given: str, verdict: str, says: str) -> Callable[[Callable[[Path], str]], None]:
    """Put the function into the table."""

    def keep(run: Callable[[Path], str]) -> None:
        CASES.append(Case(section, given, verdict, says, run))

    return keep


def outcome(found: Case, folder: Path) -> str:
    """What vlmrank says; a bad input's message."""
    try:
        return found.run(folder)
    except VlmrankError as error:
        return str(error)


def says(text: str, expected: str) -> bool:
    """Whether the parts of `expected` between `…` are in the text in this order."""
    place = 0
    for part in expected.split("…"):
        place = text.find(part.strip(), place)
        if place < 0:
            return False
        place += len(part.strip())
    return True


def write(folder: Path, name: str, content: str | bytes) -> Path:
    """A file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def schema(name: str) -> dict:
    """A schema of the repository."""
    from vlmrank.workflow.config import read_schema

    return read_schema(ROOT / "schemas" / f"{name}.schema.yaml")


def models(folder: Path, text: str | bytes) -> str:
    """Read a models sheet."""
    from vlmrank.workflow.input_checks import check_inputs
    from vlmrank.workflow.sheets import read_models

    path = write(folder, "models.tsv", text)
    rows = read_models(path, schema("models"))
    check_inputs(rows, [], models_sheet=path)
    return "models " + ", ".join(row.model for row in rows)


def datasets(folder: Path, text: str | bytes) -> str:
    """Read a datasets sheet, whose paths are relative to the folder, and look at what it names."""
    from vlmrank.workflow.input_checks import check_inputs, folder_remarks
    from vlmrank.workflow.sheets import read_datasets

    text = text.replace("@", f"{folder}/") if isinstance(text, str) else text
    path = write(folder, "datasets.tsv", text)
    rows = read_datasets(path, schema("datasets"))
    check_inputs([], rows, datasets_sheet=path)
    return "; ".join(["datasets " + ", ".join(row.dataset for row in rows), *folder_remarks(rows, sheet=path)])


def classes(folder: Path, text: str | bytes, name: str = "classes.yaml") -> str:
    """Read a class file."""
    from vlmrank.datasets.prompts import read_prompts

    return "classes " + ", ".join(read_prompts(write(folder, name, text)).classes)


def dataset(path: Path, **row) -> str:
    """Prepare a dataset as the workflow does, and tell what came of it."""
    from dataset_rows import card

    if "classes" in row:
        row["classes"] = str(write(path.parent, "classes.txt", "\n".join(row["classes"])))
    found = card(path, **row)
    if found["status"] != "ok":
        return found["reason"]
    if found.get("no_test"):
        return found["no_test"]
    told = f"{len(found['images'])} images, classes {', '.join(found['classes']) or 'none'}"
    if found["test"]:
        told += ", labels " + ", ".join(f"{item['id']}={item['label']}" for item in found["test"])
    return told + "".join(f"; {note}" for note in found.get("notes", ()))


ROWS = "dataset\trole\tkind\tpath\ttest\tclasses\n"
