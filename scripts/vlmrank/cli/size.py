"""`vlmrank size`: estimate jobs, downloads, GPU hours and disk before a run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from vlmrank.accuracy.tables import local_tables
from vlmrank.cli.terminal import count, positive, read_config, schema, table
from vlmrank.demo import FAMILIES, model_names
from vlmrank.store.packs import PACKED_KIND
from vlmrank.workflow.run_size import DatasetCounts, ModelSize, run_size
from vlmrank.workflow.sheets import DatasetRow, ModelRow, read_datasets, read_models

DEMO_PLACE = "resources/demo/"  # files that the workflow makes itself


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "size",
        help="jobs, downloads, GPU hours and disk of a configuration",
        description="Say how large a run is before it starts.",
    )
    parser.add_argument("config", help="configuration file")
    parser.add_argument("--tflops", type=positive, default=15.0, help="sustained GPU throughput, TFLOP/s (15)")
    parser.add_argument("--measured-images", type=count, default=0, help="labelled images whose accuracy is measured")
    parser.add_argument("--formulas", action="store_true", help="also print the formula behind each figure")
    parser.set_defaults(run=show_size)


def show_size(options: argparse.Namespace) -> int:
    """Print jobs, downloads, GPU hours and disk of a configuration, with the formulas."""
    from vlmrank.models.registry import architectures
    from vlmrank.workflow.objectives import twins

    config = read_config(options.config)
    models = read_models(config["models"], schema("models"))
    datasets = read_datasets(config["datasets"], schema("datasets"))
    again = twins(datasets, config["conductance"]["objective"])
    sizes = architectures()
    known = [sizes.get(row.architecture) or {} for row in models]
    figures = run_size(
        [ModelSize(**{field.name: row.get(field.name) for field in fields(ModelSize)}) for row in known],
        DatasetCounts(
            datasets=len(datasets),
            targets=sum(row.role == "target" for row in datasets),
            twins=len(again),
            measured=_measured(datasets, config),
            measured_images=options.measured_images if config["accuracy"]["measure"] else 0,
            tables=len(local_tables(config["accuracy"]["tables"], f"{config['cache']}/tables")[1]),
            demo=_demo_jobs(models, datasets, config["demo"]),
        ),
        config=config,
        tflops=options.tflops,
    )
    sources = sum(row.role == "source" for row in datasets)
    twice = f", {len(again)} of them computed a second time without class names" if again else ""
    print(f"{options.config}: {len(models)} models, {len(datasets)} datasets ({sources} sources){twice}")
    print(table([("what", "how much"), *((figure.what, figure.text) for figure in figures)]))
    if options.formulas:
        print(*(f"{figure.what} = {figure.formula}" for figure in figures), sep="\n")
    unknown = [row.model for row, size in zip(models, known, strict=True) if size.get("parameters") is None]
    if unknown:
        print(f"{len(unknown)} models are not in the table of sizes (the median is taken): {unknown[0]}, ...")
    return 0


def _measured(datasets: Sequence[DatasetRow], config: Mapping[str, Any]) -> int:
    """Number of datasets whose accuracy is measured."""
    asked = config["accuracy"]["measure"]
    return sum(row.kind == PACKED_KIND or (asked and (row.role == "source" or bool(row.test))) for row in datasets)


def _demo_jobs(models: Sequence[ModelRow], datasets: Sequence[DatasetRow], demo: Mapping[str, Any]) -> int:
    """Number of jobs that draw the demo's tasks and train its models, if the sheets name them."""
    if not demo["build"]:
        return 0
    folders = {Path(row.folder or "").name for row in models if (row.folder or "").startswith(DEMO_PLACE)}
    families = sum(bool(folders & set(model_names(family, demo["variants"]))) for family in FAMILIES)
    return families + any(row.path.startswith(DEMO_PLACE) for row in datasets)
