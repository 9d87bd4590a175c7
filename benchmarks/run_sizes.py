"""Print how large runs of 10, 100 and 300 models are, as docs/cluster.md holds it: nothing is run or downloaded.

40 datasets, one of them the target, with accuracy measured on 5,000 labelled images of each source; the models are
spread evenly over OpenCLIP's architectures by their size.

    python benchmarks/run_sizes.py
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from vlmrank.models.registry import architectures
from vlmrank.workflow.config import read_schema, with_defaults
from vlmrank.workflow.run_size import DatasetCounts, ModelSize, run_size

ROOT = Path(__file__).resolve().parent.parent
DATASETS, TARGETS, LABELLED = 40, 1, 5000


def table() -> str:
    """The table in Markdown."""
    config = with_defaults({}, read_schema(ROOT / "schemas/config.schema.yaml"))
    known = sorted((row for row in architectures().values() if row["parameters"]), key=lambda row: row["parameters"])
    lines = [
        "| models | Snakemake jobs | of them on a GPU | `sbatch` calls | downloads | GPU hours | results on disk |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for count in (10, 100, 300):
        rows = [known[(2 * number + 1) * len(known) // (2 * count)] for number in range(count)]
        models = [ModelSize(**{field.name: row[field.name] for field in fields(ModelSize)}) for row in rows]
        sources = DATASETS - TARGETS
        counts = DatasetCounts(DATASETS, TARGETS, measured=sources, measured_images=LABELLED * sources)
        jobs, download, hours, disk = run_size(models, counts, config=config)
        cells = [count, f"{jobs.value:,}", 2 * count, 3 * count + 2, download.text, f"{hours.value:.0f}", disk.text]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
