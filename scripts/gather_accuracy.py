"""Put measured and published accuracies into one table."""

import pandas as pd

from vlmrank.accuracy.measured import judge
from vlmrank.accuracy.tables import CLASS_COLUMNS, read_classes, read_tables
from vlmrank.store import OK, read_json, write_csv
from vlmrank.workflow.job_log import job


def main(snakemake) -> None:
    """Put measured and published accuracies into one table."""
    params = snakemake.params
    rows, classes = [], []
    cards = dict(zip(params.measured, map(read_json, snakemake.input.datasets), strict=True))
    measured = ((model, dataset) for model in params.models for dataset in params.measured)
    for (model, dataset), path in zip(measured, snakemake.input.measured, strict=True):
        found = read_json(path)
        if judge(found, cards[dataset], max_lost=params.max_lost)[0] == OK and found["acc1"] is not None:
            rows.append((model, dataset, found["acc1"], found["n"], found.get("origin", "measured")))
            classes += [(model, dataset, name, acc, n) for name, (acc, n) in found["per_class"].items()]
    accuracy = pd.DataFrame(rows, columns=["model", "dataset", "acc1", "n", "origin"])
    names = snakemake.input.names[0] if snakemake.input.names else None
    sheets = {"models": params.models, "datasets": params.datasets, "names": names}
    published = read_tables(params.tables, **sheets)
    accuracy = pd.concat([accuracy, published.accuracy]).drop_duplicates(["model", "dataset"])
    write_csv(snakemake.output.accuracy, accuracy)
    tables = [read_classes(path, **sheets) for path in snakemake.input.per_class]
    per_class = [pd.DataFrame(classes, columns=CLASS_COLUMNS), *(found.accuracy for found in tables)]
    classes = pd.concat([part for part in per_class if len(part)] or per_class)
    write_csv(snakemake.output.per_class, classes.drop_duplicates(["model", "dataset", "class"]))
    unmatched = [part for part in (published.unmatched, *(found.unmatched for found in tables)) if len(part)]
    write_csv(snakemake.output.unmatched, pd.concat(unmatched) if unmatched else published.unmatched)


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
