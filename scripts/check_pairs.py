"""Fail if any pair failed, so that the exit status of the run says so."""

from pathlib import Path

from vlmrank.errors import VlmrankError
from vlmrank.runlog import failed_pairs, job
from vlmrank.store import atomic


def main(snakemake) -> None:
    """Fail if any pair failed, so that the exit status of the run says so."""
    failed = failed_pairs(Path(snakemake.input.pairs).parent)
    if failed:
        raise VlmrankError("\n".join([f"{len(failed)} failed, see {snakemake.input.report}", *failed]))
    with atomic(snakemake.output[0]) as partial:
        partial.write_text("every pair succeeded\n", encoding="utf-8")


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
