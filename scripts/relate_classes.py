"""Measure how near the class names of all datasets are to each other."""

from vlmrank.evaluation.class_similarity import relate_by_sentences, relate_by_zoo, write_relations
from vlmrank.store import read_json
from vlmrank.workflow.job_log import job


def main(snakemake) -> None:
    """Measure how near the class names of all datasets are to each other."""
    cards = [read_json(path) for path in snakemake.input.datasets]
    if snakemake.params.encoder == "minilm":
        relations = relate_by_sentences(cards)
    else:
        files, size = list(snakemake.input.pairs), len(cards)
        relations = relate_by_zoo(cards, [files[start : start + size] for start in range(0, len(files), size)])
    write_relations(snakemake.output[0], relations)


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
