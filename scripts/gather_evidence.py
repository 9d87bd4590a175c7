"""Gather from one model's pairs what the compared methods look at."""

from vlmrank.evidence import gather_evidence, write_evidence
from vlmrank.runlog import job
from vlmrank.store import read_pair


def main(snakemake) -> None:
    """Gather from one model's pairs what the compared methods look at."""
    params = snakemake.params
    evidence = gather_evidence(
        dict(zip(params.datasets, map(read_pair, snakemake.input.pairs), strict=True)),
        sources=params.sources,
        alignment={**params.alignment, "rho": float(params.alignment["rho"])},
        divergence=params.divergence,
        images=params.images,
        draws=params.draws,
        seed=params.seed,
    )
    write_evidence(snakemake.output[0], evidence)


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
