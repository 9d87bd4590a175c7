"""Download one published table."""

from pathlib import Path

from vlmrank.models.download import url_file
from vlmrank.workflow.job_log import announce, job


def main(snakemake) -> None:
    """Download one published table."""
    path = url_file(snakemake.params.url, cache=Path(snakemake.output[0]).parent)
    announce(f"{path.name}: {path.stat().st_size} bytes from {snakemake.params.url}")


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
