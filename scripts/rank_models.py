"""Rank all models for one target."""

import numpy as np
import pandas as pd

from vlmrank.by_image import mean_by_image, place_by_image, stack_by_image
from vlmrank.predictions import align_logits, committee_agreement, common_images
from vlmrank.ranking import NO_ACCURACY, aggregate_ranks, ranking_table
from vlmrank.store import FAILED, read_csv, read_dcd, read_json, read_pair, read_pair_attributes, write_csv
from vlmrank.workflow.job_log import announce, job
from vlmrank.workflow.outcome import recommendation


def main(snakemake) -> None:
    """Rank all models for one target."""
    models, options = snakemake.params.models, snakemake.params.options
    sources = sorted(snakemake.params.sources)  # the order in the sheet decides nothing, not even a bootstrap draw
    target = snakemake.wildcards.target
    found = [read_dcd(path) for path in snakemake.input.dcd]
    order = [[list(one.datasets).index(name) for name in sources] for one in found]
    column = [list(one.datasets).index(target) for one in found]
    dcd = np.stack([one.dcd[rows, at] for one, rows, at in zip(found, order, column, strict=True)])
    table = read_csv(snakemake.input.accuracy).pivot(index="model", columns="dataset", values="acc1")
    accuracy = table.reindex(index=models, columns=sources).to_numpy(np.float64)
    weighting = {"kappa": options["kappa"], "shrink": options["shrink"]}
    pairs = [read_pair(path, of=(model, target)) for model, path in zip(models, snakemake.input.pairs, strict=True)]
    shares = [one.per_image[rows, at] for one, rows, at in zip(found, order, column, strict=True)]
    per_image, images = stack_by_image(shares, [pair.image_id for pair in pairs])
    logits = align_logits([pair.logits for pair in pairs], [pair.predicted_id for pair in pairs])
    agreement = committee_agreement(logits, aggregate_ranks(accuracy, dcd, **weighting).score)
    predicted = common_images([pair.logits for pair in pairs], [pair.predicted_id for pair in pairs])
    if set(predicted) <= set(images):  # the bootstrap then draws them together
        agreement = place_by_image(agreement, predicted, images)
    extra = agreement if np.isfinite(agreement).any() else None
    result = aggregate_ranks(
        accuracy,
        dcd,
        **weighting,
        per_image=per_image if per_image.shape[2] else None,
        bootstrap=options["bootstrap"],
        seed=snakemake.params.seed,
        extra=extra,
        fuse=options["fuse"],
        by="fused" if options["score"] == "fused" and extra is not None else "score",
    )
    files = (snakemake.input.models, snakemake.input.pairs)
    reasons = [_reason(*paths, known) for *paths, known in zip(*files, accuracy, strict=True)]
    ranking = ranking_table(result, models, reasons)
    ranking["fused"] = result.fused[ranking.index]
    ranking["agreement"] = mean_by_image(agreement)[ranking.index]
    write_csv(snakemake.output.ranking, ranking)
    weights = pd.DataFrame(
        {
            "model": np.repeat(models, len(sources)),
            "source": np.tile(sources, len(models)),
            "dcd": dcd.ravel(),
            "weight": result.weights.ravel(),
        }
    )
    write_csv(snakemake.output.weights, weights)
    announce(recommendation(snakemake.output.ranking, target))


def _reason(card_path: str, pair_path: str, accuracy: np.ndarray) -> str:
    """Why a model has no rank."""
    card, pair = read_json(card_path), read_pair_attributes(pair_path)
    for found in (card, pair):
        if found["status"] == FAILED:
            return found["reason"]
    if not np.isfinite(accuracy).any():
        return NO_ACCURACY
    return "no source could be compared with the target"


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
