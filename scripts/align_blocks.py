"""Align every dataset of one model with its blocks, and summarise its predictions."""

import numpy as np
import pandas as pd

from vlmrank.alignment import AlignmentError, align_blocks, block_prior
from vlmrank.predictions import prediction_statistics
from vlmrank.representation import represent
from vlmrank.store import Alignment, read_pair, write_alignment, write_csv
from vlmrank.workflow.job_log import announce, job
from vlmrank.workflow.objectives import TWIN


def main(snakemake) -> None:
    """Align every dataset of one model with its blocks, and summarise its predictions."""
    names, options = snakemake.params.datasets, snakemake.params.options
    model = snakemake.wildcards.model
    paths = dict(zip(names, snakemake.input.pairs, strict=True))
    pairs = {name: read_pair(path, of=(model, name)) for name, path in paths.items()}
    tasks = {name: represent(list(pair.blocks.values())) for name, pair in pairs.items() if pair.ok}
    objective = {name: str(pairs[name].attributes["objective"]) for name in tasks}
    priors = {kind: _prior(tasks, objective, kind, snakemake.params.sources, options) for kind in objective.values()}
    prior = next(iter(priors.values()), np.empty(0))
    importance, marginal_error = np.full((len(names), len(prior)), np.nan), np.full(len(names), np.nan)
    iterations, reasons = np.zeros(len(names), np.int64), [""] * len(names)
    for row, name in enumerate(names):
        if name not in tasks:
            continue
        try:
            own = priors[objective[name]]
            found = align_blocks(tasks[name].block_mass, own, epsilon=options["epsilon"], rho=float(options["rho"]))
        except AlignmentError as error:
            announce(f"{model} on {name}: FAILED: {error}")
            iterations[row], reasons[row] = -1, str(error)
            continue
        importance[row], marginal_error[row], iterations[row] = found.importance, found.marginal_error, found.iterations
    identities = [pair.attributes.get("identity", "") for pair in pairs.values()]
    found = Alignment(names, importance, prior, marginal_error, iterations, reasons, identities)
    write_alignment(snakemake.output.alignment, found)
    rows = [
        {
            "model": model,
            "dataset": name,
            **prediction_statistics(pair.logits),
            "n": len(pair.logits),
        }
        for name, pair in pairs.items()
        if pair.ok and pair.logits is not None and pair.logits.size
    ]
    columns = ["model", "dataset", "mutual_information", "confidence", "entropy", "n"]
    write_csv(snakemake.output.predictions, pd.DataFrame(rows, columns=columns))


def _prior(tasks, objective, kind: str, sources, options) -> np.ndarray:
    """The prior over blocks from the sources of one objective, or from all datasets of it where there is no source."""
    alike = {name: task for name, task in tasks.items() if objective[name] == kind}
    chosen = [task for name, task in alike.items() if name.removesuffix(TWIN) in sources] or list(alike.values())
    return block_prior(np.stack([task.block_profile for task in chosen]), depth=options["depth"])


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
