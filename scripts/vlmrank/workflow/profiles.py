"""Check that the workflow profile of the command line exists, since Snakemake silently goes on without it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from vlmrank.errors import VlmrankError
from vlmrank.text import nearest

OPTION = "--workflow-profile"
FOLDER = Path("profiles")  # where Snakemake also looks


def check_workflow_profile(arguments: Sequence[str], root: str | Path = ".") -> None:
    """Refuse a `--workflow-profile` that Snakemake does not find and silently ignores.

    Parameters
    ----------
    arguments : of the command line.
    root : folder of the workflow.

    Raises
    ------
    VlmrankError : there is no such profile; names the existing ones.

    Examples
    --------
    >>> check_workflow_profile(["--cores", "1", "--workflow-profile", "none"])
    """
    found = [text.removeprefix(f"{OPTION}=") for text in arguments if text.startswith(f"{OPTION}=")]
    found += [text for option, text in pairwise(arguments) if option == OPTION]
    places = [Path(), FOLDER, Path(root) / FOLDER]
    for name in found:
        if name == "none" or any((place / name).exists() for place in places):
            continue
        known = sorted(path.name for path in (Path(root) / FOLDER).glob("*") if path.is_dir())
        hint = nearest(name, known) or f"There are {', '.join(known) or 'none'}."
        raise VlmrankError(
            f"{OPTION} {name}: there is no such file or folder, here or in {FOLDER}/, and Snakemake would go on "
            f"without it. {hint}"
        )
