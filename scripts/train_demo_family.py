"""Train one tower family of the demo's zoo."""

from pathlib import Path

import torch

from vlmrank.demo.train import train_family
from vlmrank.workflow.job_log import announce, job


def main(snakemake) -> None:
    """Train one tower family of the demo's zoo, as many variants as the output names, one line per model."""
    torch.set_num_threads(snakemake.threads)
    train_family(
        snakemake.params.family,
        Path(snakemake.output.weights[0]).parent.parent,
        variants=len(snakemake.output.weights),
        effort=snakemake.params.effort,
        say=announce,
    )


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
