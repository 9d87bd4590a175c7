"""Write the report."""

from pathlib import Path

from vlmrank.report.build import PageOptions, build_report
from vlmrank.workflow.job_log import job


def main(snakemake) -> None:
    """Write the report."""
    params, page = snakemake.params, Path(snakemake.output.page)
    settings = params.settings
    shown = PageOptions(
        config=settings,
        title=settings["report"]["title"],
        thumbnails=settings["report"]["thumbnails"],
        method=settings["ranking"]["score"],
    )
    build_report(
        page.parent,
        page,
        page=shown,
        models=params.models,
        datasets=params.datasets,
        benchmarks=page.parent / "benchmarks",
        figures=page.parent / "figures",
    )


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
