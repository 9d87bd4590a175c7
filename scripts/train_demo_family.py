"""Train one tower family of the demo's zoo."""

from pathlib import Path

import torch

from vlmrank.demo.train import train_family


def main(snakemake) -> None:
    """Train the trunk and the variants that the output names; one log line a model."""
    torch.set_num_threads(snakemake.threads)
    folder = Path(snakemake.output.weights[0]).parent.parent
    with Path(snakemake.log[0]).open("w", encoding="utf-8") as log:
        train_family(
            snakemake.params.family,
            folder,
            variants=len(snakemake.output.weights),
            effort=snakemake.params.effort,
            say=lambda line: print(line, file=log, flush=True),
        )


if __name__ == "__main__":
    main(snakemake)  # noqa: F821
