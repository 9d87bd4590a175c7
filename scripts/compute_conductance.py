"""Make the pair files of one model and a chunk of datasets."""

from vlmrank.jobs.compute_conductance import compute_conductance
from vlmrank.store import read_json
from vlmrank.workflow.job_log import announce, job
from vlmrank.workflow.resources import given


def main(snakemake) -> None:
    """Make the pair files of one model and a chunk of datasets."""
    config = snakemake.config
    compute_conductance(
        read_json(snakemake.input.model),
        [read_json(path) for path in snakemake.input.datasets],
        snakemake.output,
        options=snakemake.params.options,
        free={name: config["conductance"][name] for name in ("device", "batch")},
        code=snakemake.params.code,
        store=config["store"] or f"{config['results']}/store",
        cache=config["cache"],
        threads=snakemake.threads,
        given=given(snakemake.resources),
        say=announce,
    )


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
