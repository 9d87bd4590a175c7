"""Embed labelled images and captions with one model, for the peers that ask for them."""

from vlmrank.jobs.embed_peers import embed_for_peers
from vlmrank.jobs.pool import JobSettings
from vlmrank.store import read_json
from vlmrank.workflow.job_log import announce, job
from vlmrank.workflow.resources import given


def main(snakemake) -> None:
    """Embed labelled images and captions with one model, for the peers that ask for them."""
    settings = JobSettings.of(
        snakemake.config,
        code=snakemake.params.code,
        threads=snakemake.threads,
        given=given(snakemake.resources),
        say=announce,
    )
    params = snakemake.params
    embed_for_peers(
        read_json(snakemake.input.model),
        [read_json(path) for path in snakemake.input.datasets],
        snakemake.output,
        {"images": params.images, "seed": params.seed},
        settings,
    )


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
