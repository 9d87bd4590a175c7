"""Write the report."""

from pathlib import Path

from vlmrank.report.build import build_report
from vlmrank.workflow.job_log import job


def main(snakemake) -> None:
    """Write the report."""
    params, page = snakemake.params, Path(snakemake.output.page)
    build_report(
        page.parent,
        page,
        models=params.models,
        datasets=params.datasets,
        config=params.settings,
        title=params.settings["report"]["title"],
        thumbnails=params.settings["report"]["thumbnails"],
        method=params.settings["ranking"]["score"],
        benchmarks=page.parent / "benchmarks",
        figures=page.parent / "figures",
    )


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
