"""Measure one model's zero-shot accuracy on every dataset that has labelled images."""

from vlmrank.accuracy.measured import measure_accuracies
from vlmrank.store import read_json
from vlmrank.workflow.job_log import announce, job
from vlmrank.workflow.resources import given


def main(snakemake) -> None:
    """Measure one model's zero-shot accuracy on every dataset that has labelled images."""
    config = snakemake.config
    measure_accuracies(
        read_json(snakemake.input.model),
        [read_json(path) for path in snakemake.input.datasets],
        snakemake.output,
        options=snakemake.params.options,
        device=config["conductance"]["device"],
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
