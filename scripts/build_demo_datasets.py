"""Draw the demo's image tasks as ordinary image folders."""

from pathlib import Path

from vlmrank.demo.tasks import write_dataset
from vlmrank.workflow.job_log import announce, job


def main(snakemake) -> None:
    """Draw the demo's image tasks, one folder for each dataset.yaml of the output."""
    folders = [Path(sheet).parent for sheet in snakemake.output.sheets]
    for folder in folders:
        write_dataset(folder.name, folder)
    announce(f"{len(folders)} image tasks drawn in {folders[0].parent}")


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
