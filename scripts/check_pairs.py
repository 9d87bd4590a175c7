"""Fail if any pair failed, so that the exit status of the run says so."""

from vlmrank.errors import VlmrankError
from vlmrank.store import atomic
from vlmrank.workflow.job_log import job
from vlmrank.workflow.outcome import outcome


def main(snakemake) -> None:
    """Fail if any pair failed, so that the exit status of the run says so."""
    found = outcome(snakemake.input.pairs)
    if found.lines:
        raise VlmrankError(f"{found.failed} of {found.pairs} pairs failed; the last lines of this run name them")
    with atomic(snakemake.output[0]) as partial:
        partial.write_text(f"all {found.pairs} pairs succeeded\n", encoding="utf-8")


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
