"""Embed labelled images and captions with one model, for the peers that ask for them."""

from vlmrank.evaluation.peer_features import embed_for_peers, write_features
from vlmrank.store import read_json
from vlmrank.workflow.job_log import announce, job


def main(snakemake) -> None:
    """Embed labelled images and captions with one model, for the peers that ask for them."""
    params = snakemake.params
    features = embed_for_peers(
        read_json(snakemake.input.model),
        [read_json(path) for path in snakemake.input.datasets],
        images=params.images,
        seed=params.seed,
        cache=snakemake.config["cache"],
        device=snakemake.config["conductance"]["device"],
        threads=snakemake.threads,
        say=announce,
    )
    write_features(snakemake.output[0], features)


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
