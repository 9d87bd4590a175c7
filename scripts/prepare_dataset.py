"""Draw one dataset's images and write its card."""

from vlmrank.datasets.prepare import prepare_dataset
from vlmrank.store import write_json
from vlmrank.workflow.job_log import announce, job


def main(snakemake) -> None:
    """Draw one dataset's images and write its card."""
    params, row = snakemake.params, snakemake.params.row
    draw = {name: getattr(params, name) for name in ("images", "seed", "stratified", "max_lost")}
    card = prepare_dataset(**row, **draw, cache=snakemake.config["cache"])
    write_json(snakemake.output[0], card)
    told = "; ".join((f"{len(card['images'])} images", *card["notes"], *filter(None, [card["no_test"]])))
    announce(f"{row['dataset']}: {told if card['status'] == 'ok' else 'FAILED: ' + card['reason']}")


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
