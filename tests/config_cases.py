"""What vlmrank makes of configurations: rows of the table in `input_cases.py`."""

from __future__ import annotations

from pathlib import Path

from dataset_rows import put
from input_table import (
    REFUSED,
    SAID,
    TAKEN,
    case,
    schema,
    write,
)

CONFIG = "Configuration and profile"


def configure(folder: Path, text: str) -> str:
    """Read a configuration file as the workflow does."""
    import yaml

    from vlmrank.workflow.config import check_config
    from vlmrank.workflow.paths import normal_paths

    path = write(folder, "my.yaml", text)
    return f"results in {normal_paths(check_config(yaml.safe_load(text), schema('config'), files=[path]))['results']}"


def partitions(folder: Path, runtime: str) -> str:
    """Check a partitions.yaml."""
    from vlmrank.workflow.partitions import check_partitions

    path = write(folder, "partitions.yaml", f"partitions:\n  gpu:\n    max_runtime: {runtime}\n    max_gpu: 1\n")
    return f"{check_partitions(path) or 'taken'}"


@case(
    CONFIG, "An unknown key", REFUSED, "my.yaml: images.per_datset: there is no such key. Did you mean 'per_dataset'?"
)
def _(folder):
    return configure(folder, "images: {per_datset: 8}\n")


@case(CONFIG, "A key twice in a block", REFUSED, "my.yaml, line 3: the key seed is on line 1 already")
def _(folder):
    return configure(folder, "seed: 1\nresults: x\nseed: 2\n")


@case(
    CONFIG,
    "A value of another type (`no`, `1e3`, a date for a text)",
    REFUSED,
    "results: found 2026-11-25, allowed is a text",
)
def _(folder):
    return configure(folder, "results: 2026-11-25\n")


@case(CONFIG, "`{}` or `<>` in a path", REFUSED, "results: 'a{b}' holds '{' '}', which no path here can have")
def _(folder):
    return configure(folder, "results: 'a{b}'\n")


@case(CONFIG, "partitions.yaml: 1-00:00:00, 0-04:00:00, 240, 4h", TAKEN, "taken taken taken taken")
def _(folder):
    return " ".join(partitions(folder, time) for time in ("1-00:00:00", "0-04:00:00", "240", "4h"))


@case(
    CONFIG,
    "partitions.yaml: 30:00",
    REFUSED,
    "line 3: partition gpu: max_runtime is '30:00', which is read in two ways; write days-hours:minutes:seconds",
)
def _(folder):
    return partitions(folder, "30:00")


@case(CONFIG, "partitions.yaml: 4:00:00 without quotes", REFUSED, "max_runtime is '4:00:00', which is read in two ways")
def _(folder):
    return partitions(folder, "4:00:00")


@case(
    CONFIG,
    "partitions.yaml: infinite",
    REFUSED,
    "max_runtime is 'infinite'; leave the line out where there is no limit",
)
def _(folder):
    return partitions(folder, "infinite")


@case(
    CONFIG,
    "A `--workflow-profile` that is not there, which Snakemake passes over in silence",
    REFUSED,
    "--workflow-profile slrum: there is no such file or folder … Did you mean 'slurm'?",
)
def _(folder):
    from vlmrank.workflow.profiles import check_workflow_profile

    (folder / "profiles/slurm").mkdir(parents=True)
    check_workflow_profile(["-n", "--workflow-profile=none", "--workflow-profile", str(folder)])
    check_workflow_profile(["-n", "--workflow-profile", "slurm"], folder)
    check_workflow_profile(["-n", "--workflow-profile", "slrum"], folder)


def remarked(models: list[tuple[str, str]], roles: list[str]) -> str:
    """What is said of sheets that hold no mistake."""
    from vlmrank.workflow.sheets import DatasetRow, ModelRow, remarks

    rows = [DatasetRow(f"d{number}", role, "images") for number, role in enumerate(roles)]
    return " ".join(remarks([ModelRow(*model, line=number) for number, model in enumerate(models, 2)], rows))


@case(CONFIG, "A single model", SAID, "There is one model, a: nothing to choose from.")
def _(folder):
    return remarked([("a", "ViT-B-32")], ["source", "target"])


@case(CONFIG, "No target", SAID, "No dataset has the role target: no models are ranked")
def _(folder):
    return remarked([("a", "ViT-B-32"), ("b", "RN50")], ["source"])


@case(
    CONFIG,
    "One model under two names",
    SAID,
    "The models a (line 2) and b (line 3) have one architecture and one pretrained",
)
def _(folder):
    return remarked([("a", "ViT-B-32"), ("b", "ViT-B-32")], ["source", "target"])


def targets(folder: Path, *paths: str) -> str:
    """Look whether a target can be used."""
    from vlmrank.datasets.prepare import check_targets
    from vlmrank.workflow.sheets import DatasetRow

    rows = [DatasetRow(f"d{number}", "target", str(folder / path), line=number) for number, path in enumerate(paths, 2)]
    return str(check_targets(rows) or "one can be used")


@case(
    CONFIG,
    "Targets of which none has a readable image",
    REFUSED,
    "no target can be used, so that nothing would be ranked: … d2 (line 2): none of … d3 (line 3): … holds no image",
)
def _(folder):
    write(folder, "a/photo.jpg", b"\0\0\0\x18ftypheic\0\0\0\0")
    (folder / "b").mkdir()
    return targets(folder, "a", "b").replace("\n", " ")


@case(CONFIG, "Targets of which one can be used", TAKEN, "one can be used")
def _(folder):
    put(folder / "b", "a.png")
    (folder / "a").mkdir()
    return targets(folder, "a", "b")
