"""Make the pair files of one model and a chunk of datasets."""

from vlmrank.jobs.compute_conductance import compute_conductance
from vlmrank.jobs.pool import JobSettings
from vlmrank.store import read_json
from vlmrank.workflow.job_log import announce, job
from vlmrank.workflow.objectives import cards_for
from vlmrank.workflow.resources import given


def main(snakemake) -> None:
    """Make the pair files of one model and a chunk of datasets."""
    settings = JobSettings.of(
        snakemake.config,
        code=snakemake.params.code,
        threads=snakemake.threads,
        given=given(snakemake.resources),
        say=announce,
        packs=snakemake.input.packs,
    )
    compute_conductance(
        read_json(snakemake.input.model),
        cards_for([read_json(path) for path in snakemake.input.datasets], snakemake.params.datasets),
        snakemake.output,
        snakemake.params.options,
        settings,
        batch=snakemake.config["conductance"]["batch"],
    )


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
