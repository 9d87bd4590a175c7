"""Measure one model's zero-shot accuracy on every dataset that has labelled images."""

from vlmrank.jobs.measure_accuracy import measure_accuracies
from vlmrank.jobs.pool import JobSettings
from vlmrank.store import read_json
from vlmrank.workflow.job_log import announce, job
from vlmrank.workflow.resources import given


def main(snakemake) -> None:
    """Measure one model's zero-shot accuracy on every dataset that has labelled images."""
    settings = JobSettings.of(
        snakemake.config,
        code=snakemake.params.code,
        threads=snakemake.threads,
        given=given(snakemake.resources),
        say=announce,
        packs=snakemake.input.packs,
    )
    measure_accuracies(
        read_json(snakemake.input.model),
        [read_json(path) for path in snakemake.input.datasets],
        snakemake.output,
        settings,
    )


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
