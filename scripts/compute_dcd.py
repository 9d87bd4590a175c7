"""Compute the directional divergences between all datasets of one model."""

import numpy as np

from vlmrank.divergence import directional_conductance_divergence, of_one_objective
from vlmrank.representation import represent
from vlmrank.store import DamagedFile, Divergences, read_alignment, read_pair, write_dcd
from vlmrank.workflow.job_log import job
from vlmrank.workflow.objectives import TWIN


def main(snakemake) -> None:
    """Compute the directional divergences between all datasets of one model."""
    alignment = read_alignment(snakemake.input.alignment)
    usable = np.isfinite(alignment.importance).all(axis=1) & (alignment.importance.shape[1] > 0)
    pairs = []
    for name, path, identity in zip(alignment.datasets, snakemake.input.pairs, alignment.identities, strict=True):
        pairs.append(read_pair(path, of=(snakemake.wildcards.model, name)))
        if pairs[-1].attributes.get("identity", "") != identity:
            raise DamagedFile(snakemake.input.alignment, f"not of the pair that {path} holds")
    tasks = [represent(list(pair.blocks.values())) if fit else None for pair, fit in zip(pairs, usable, strict=True)]
    found = directional_conductance_divergence(tasks, alignment.importance, **snakemake.params.options)
    objectives = [str(pair.attributes["objective"]) if pair.ok else "" for pair in pairs]
    dcd, per_image = of_one_objective(found.dcd, found.per_image, alignment.datasets, objectives, twin=TWIN)
    datasets = [name for name in alignment.datasets if not name.endswith(TWIN)]
    write_dcd(snakemake.output[0], Divergences(datasets, dcd, per_image))


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
