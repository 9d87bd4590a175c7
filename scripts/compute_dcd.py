"""Compute the directional divergences between all datasets of one model."""

import numpy as np

from vlmrank.divergence import directional_conductance_divergence
from vlmrank.representation import represent
from vlmrank.store import Divergences, read_alignment, read_pair, write_dcd
from vlmrank.workflow.job_log import job


def main(snakemake) -> None:
    """Compute the directional divergences between all datasets of one model."""
    alignment = read_alignment(snakemake.input.alignment)
    usable = np.isfinite(alignment.importance).all(axis=1) & (alignment.importance.shape[1] > 0)
    tasks = [
        represent(list(read_pair(path).blocks.values())) if row_usable else None
        for path, row_usable in zip(snakemake.input.pairs, usable, strict=True)
    ]
    found = directional_conductance_divergence(tasks, alignment.importance, **snakemake.params.options)
    write_dcd(snakemake.output[0], Divergences(alignment.datasets, found.dcd, found.per_image))


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
