"""What vlmrank makes of inputs: one table that the tests run over and that docs/inputs.md is written from.

python tests/input_cases.py > docs/inputs.md
"""

from __future__ import annotations

import sys

from accuracy_cases import MEASURED, TABLES
from config_cases import CONFIG
from image_cases import FOLDERS, LISTS, TARS
from input_table import CASES, outcome, says
from model_cases import IMAGES, MODELS
from sheet_cases import CLASSES, SHEETS

__all__ = ["CASES", "outcome", "page", "says"]
SECTIONS = (SHEETS, CLASSES, FOLDERS, LISTS, TARS, MEASURED, TABLES, CONFIG, MODELS, IMAGES)

HEAD = """# What you can give, and what vlmrank says

Every row here is a test: `tests/test_inputs.py` makes the input and compares what comes. This page is written by
`python tests/input_cases.py > docs/inputs.md`.

What you wrote yourself (configuration, sheets, class files, tables) stops the dry run, with file and line, before
anything is downloaded. What is found inside images, weights and folders is that model's or dataset's row, with the
reason; the others go on. In the messages, … stands for words that differ.

Some mistakes end Snakemake before it reads this workflow, so it speaks for itself:

| you give | Snakemake's last line | what to do |
|---|---|---|
"""
# Arguments, what Snakemake prints in the end, and what to do; tests/rules/test_workflow_errors.py runs them.
BEFORE_US = (
    (
        "--configfile nope.yaml",
        "No such file or directory: 'nope.yaml'",
        "the path begins at the working directory; a traceback comes before",
    ),
    ("--configfile broken.yaml", "Config file is not valid JSON or YAML.", "mend the file: spaces, and no tabs"),
    (
        "--profile slrum",
        "profile directory given (slrum), but no profile.yaml (or config.yaml) found.",
        "`--profile slurm`, in the folder of the clone (profiles/README.md)",
    ),
    (
        "--cores al",
        "Error parsing number of cores (--cores, -c): must be integer or 'all'.",
        "a number, or `all`, which is the default here (profiles/default)",
    ),
)


def page() -> str:
    """docs/inputs.md."""
    parts = [HEAD, *(f"| `{given}` | `{said}` | {help} |\n" for given, said, help in BEFORE_US)]
    for section in SECTIONS:
        rows = [found for found in CASES if found.section == section]
        parts.append(f"\n## {section}\n\n| you give | it is | what comes, or the message |\n|---|---|---|\n")
        for found in rows:
            words = found.says.replace("|", "\\|")
            parts.append(f"| {found.given.replace('|', chr(92) + '|')} | {found.verdict} | `` {words} `` |\n")
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
