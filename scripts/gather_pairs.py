"""List every pair of every stage with its status, and what failed as a whole."""

import pandas as pd

from vlmrank.accuracy.measured import judge
from vlmrank.errors import LEFT_OUT, RUN_AGAIN
from vlmrank.evaluation.peer_features import read_features
from vlmrank.store import FAILED, read_alignment, read_json, read_pair, write_csv
from vlmrank.workflow.job_log import job
from vlmrank.workflow.objectives import TWIN


def main(snakemake) -> None:
    """List every pair of every stage with its status, and what failed as a whole."""
    models, datasets = snakemake.params.models, snakemake.params.datasets
    rows = []
    cards = dict(zip(datasets, map(read_json, snakemake.input.datasets), strict=True))
    for stage, names, paths in (
        ("fetch", models, snakemake.input.models),
        ("prepare", datasets, snakemake.input.datasets),
    ):
        for name, path in zip(names, paths, strict=True):
            card = read_json(path)
            if card["status"] == FAILED:
                rows.append((stage, *((name, "") if stage == "fetch" else ("", name)), FAILED, card["reason"], 0.0))
            elif card.get("notes"):
                rows.append(
                    (
                        stage,
                        "",
                        name,
                        card["status"],
                        LEFT_OUT + "; ".join(note.removeprefix(LEFT_OUT) for note in card["notes"]),
                        0.0,
                    )
                )
    pairs = ((model, dataset) for model in models for dataset in snakemake.params.computed)
    for (model, dataset), path in zip(pairs, snakemake.input.pairs, strict=True):
        pair = read_pair(path, blocks=False, of=(model, dataset))
        found = pair.attributes
        told = {
            one["id"]
            for one in cards[dataset.removesuffix(TWIN)].get("failed_images") or []
            if RUN_AGAIN not in one["reason"]
        }
        lost = "; ".join(f"image {name}: {why}" for name, why in pair.failed_images.items() if name not in told)
        reason = found["reason"] if found["status"] == FAILED else LEFT_OUT + lost if lost else ""
        rows.append(("conductance", model, dataset, found["status"], reason, found["seconds"]))
    for model, path in zip(models, snakemake.input.alignment, strict=True):
        alignment = read_alignment(path)
        for dataset, reason in zip(alignment.datasets, alignment.reasons, strict=True):
            if reason:
                rows.append(("alignment", model, dataset, FAILED, reason, 0.0))
    measured = ((model, dataset) for model in models for dataset in snakemake.params.measured)
    for (model, dataset), path in zip(measured, snakemake.input.accuracy, strict=True):
        found = read_json(path)
        status, reason = judge(found, cards[dataset], max_lost=snakemake.params.max_lost)
        rows.append(("accuracy", model, dataset, status, reason, found.get("seconds") or 0.0))
    pairs = ((model, dataset) for model in models for dataset in datasets)
    for (model, dataset), path in zip(pairs, snakemake.input.peers, strict=False):
        features = read_features(path)
        found = features.attributes
        lost = "; ".join(f"image {name}: {reason}" for name, reason in features.failed_images.items())
        reason = found["reason"] or (LEFT_OUT + lost if lost else "")
        rows.append(("peers", model, dataset, found["status"], reason, found["seconds"]))
    columns = ["stage", "model", "dataset", "status", "reason", "seconds"]
    write_csv(snakemake.output[0], pd.DataFrame(rows, columns=columns))


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
