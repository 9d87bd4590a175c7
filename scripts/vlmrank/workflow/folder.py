"""Find the workflow's files (Snakefile, rules, schemas, profiles), in the installed package or in a clone."""

from __future__ import annotations

from pathlib import Path

from vlmrank.errors import VlmrankError

PACKAGE = Path(__file__).resolve().parents[1]


def workflow_folder() -> Path:
    """The folder of the Snakefile: `vlmrank/_workflow` of a wheel (setup.py packs it), else the repository.

    Raises
    ------
    VlmrankError : neither is there.
    """
    for folder in (PACKAGE / "_workflow", PACKAGE.parents[1]):
        if (folder / "Snakefile").is_file() and (folder / "rules").is_dir():
            return folder
    raise VlmrankError(f"{PACKAGE}: the workflow is not there: install vlmrank anew (pip install --force-reinstall)")
