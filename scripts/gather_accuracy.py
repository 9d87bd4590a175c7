"""Put measured and published accuracies into one table."""

import pandas as pd

from vlmrank.accuracy.tables import read_tables
from vlmrank.store import OK, read_csv, read_json, write_csv
from vlmrank.workflow.job_log import job


def main(snakemake) -> None:
    """Put measured and published accuracies into one table."""
    params = snakemake.params
    rows, classes = [], []
    measured = ((model, dataset) for model in params.models for dataset in params.measured)
    for (model, dataset), path in zip(measured, snakemake.input.measured, strict=True):
        found = read_json(path)
        if found["status"] == OK and found["n"]:
            rows.append((model, dataset, found["acc1"], found["n"], "measured"))
            classes += [(model, dataset, name, acc, n) for name, (acc, n) in found["per_class"].items()]
    accuracy = pd.DataFrame(rows, columns=["model", "dataset", "acc1", "n", "origin"])
    names = snakemake.input.names[0] if snakemake.input.names else None
    published = read_tables(params.tables, models=params.models, datasets=params.datasets, names=names)
    accuracy = pd.concat([accuracy, published.accuracy]).drop_duplicates(["model", "dataset"])
    write_csv(snakemake.output.accuracy, accuracy)
    columns = ["model", "dataset", "class", "acc1", "n"]
    per_class = [pd.DataFrame(classes, columns=columns)]
    for path in snakemake.input.per_class:
        table = read_csv(path)[columns]
        per_class.append(table[table["model"].isin(params.models) & table["dataset"].isin(params.datasets)])
    classes = pd.concat([part for part in per_class if len(part)] or per_class)
    write_csv(snakemake.output.per_class, classes.drop_duplicates(["model", "dataset", "class"]))
    write_csv(snakemake.output.unmatched, published.unmatched)


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
