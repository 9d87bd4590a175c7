"""Draw one dataset's images and write its card."""

from dataclasses import fields

from vlmrank.datasets.draw import Draw
from vlmrank.datasets.items import DatasetCells
from vlmrank.datasets.prepare import prepare_dataset
from vlmrank.store import write_json
from vlmrank.workflow.job_log import announce, job


def main(snakemake) -> None:
    """Draw one dataset's images and write its card."""
    params, row = snakemake.params, snakemake.params.row
    draw = Draw(**{field.name: getattr(params, field.name) for field in fields(Draw)})
    card = prepare_dataset(DatasetCells(**row), draw, cache=snakemake.config["cache"])
    write_json(snakemake.output[0], card)
    drawn, further = len(card["images"]), len(card["predicted"])
    counts = f"{drawn + further} images to predict, {drawn} of them to attribute"
    told = "; ".join((counts, *card["notes"], *filter(None, [card["no_test"]])))
    announce(f"{row['dataset']}: {told if card['status'] == 'ok' else 'FAILED: ' + card['reason']}")


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
