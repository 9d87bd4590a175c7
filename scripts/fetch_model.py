"""Find or download one model's weights and write its card."""

from vlmrank.models.card import fetch_model
from vlmrank.store import write_json
from vlmrank.workflow.job_log import announce, job


def main(snakemake) -> None:
    """Find or download one model's weights and write its card."""
    row = snakemake.params.row
    card = fetch_model(
        row["model"],
        row["architecture"],
        row["pretrained"] or None,
        cache=snakemake.config["cache"],
        family=row["family"] or None,
        tokenizer=row["tokenizer"],
        average=row["weights"] == "ema",
    )
    write_json(snakemake.output[0], card)
    announce(f"{row['model']}: {'ready' if card['status'] == 'ok' else 'FAILED: ' + card['reason']}")


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
