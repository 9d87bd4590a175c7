"""Gather from one model's pairs what the compared methods look at."""

from vlmrank.evaluation.class_similarity import read_relations
from vlmrank.evaluation.evidence import write_evidence
from vlmrank.evaluation.gather import Draws, add_peers, gather_evidence
from vlmrank.evaluation.peer_features import read_features
from vlmrank.store import read_alignment, read_dcd, read_pair
from vlmrank.workflow.job_log import job


def main(snakemake) -> None:
    """Gather from one model's pairs what the compared methods look at."""
    params = snakemake.params
    evidence = gather_evidence(
        {
            name: read_pair(path, of=(snakemake.wildcards.model, name))
            for name, path in zip(params.datasets, snakemake.input.pairs, strict=True)
        },
        Draws(params.images, params.draws, params.seed, params.variants, params.variant_draws),
        sources=params.sources,
        alignment=params.alignment,
        divergence=params.divergence,
        known=(read_alignment(snakemake.input.alignment), read_dcd(snakemake.input.dcd)),
    )
    if snakemake.input.peers:
        evidence = add_peers(
            evidence,
            dict(zip(params.datasets, map(read_features, snakemake.input.peers), strict=True)),
            read_relations(snakemake.input.classes),
            images=params.labelled_images,
            groups=params.groups,
            seed=params.seed,
        )
    write_evidence(snakemake.output[0], evidence)


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
