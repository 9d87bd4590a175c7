"""`vlmrank rank`: from a folder of images to a model."""

from __future__ import annotations

import argparse
from typing import Any

from vlmrank.cli.terminal import count
from vlmrank.quickstart.rank import OUT, rank


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "rank",
        help="rank models for your own images: in seconds, then in minutes, then by the whole method",
        description="Rank models for a folder of images: at once by published accuracies, then by the predictions of a "
        "shortlist on the images, and with --sources by the whole method. Everything stands in the folder --out, where "
        "`snakemake` goes on.",
    )
    parser.add_argument("images", help="a folder of images, a list (CSV, Parquet) or tar files")
    parser.add_argument("--classes", help="a file with one class name per line (or YAML), or 'cat,dog,horse'")
    parser.add_argument(
        "--models", nargs="+", help="'<=500M', a models sheet, folders of models, names (default: OpenCLIP's registry)"
    )
    parser.add_argument("--sources", metavar="SHEET", help="datasets sheet with labelled sources: the whole method")
    parser.add_argument("--budget", help="of downloads, 20GB, or of time, 1h")
    parser.add_argument("--top", type=count, default=10, help="models on the shortlist (10; 0 for all)")
    parser.add_argument("--out", default=OUT, metavar="FOLDER", help=f"({OUT})")
    parser.add_argument("--published", action="store_true", help="stop after the published accuracies")
    parser.add_argument("--profile", metavar="NAME", help="run the shortlist by the workflow with this profile: slurm")
    parser.add_argument("--cores", default="all", help="of the workflow (all)")
    parser.add_argument("--cache", metavar="FOLDER", help="downloaded weights (that of the Hugging Face hub)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--seed", type=count, default=0, help="of the draw of the images (0)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Rank; exit status 1 if no model could be ranked."""
    found = rank(
        options.images,
        options.classes,
        options.models,
        sources=options.sources,
        budget=options.budget,
        out=options.out,
        top=options.top or None,
        cache=options.cache,
        device=options.device,
        seed=options.seed,
        cores=options.cores,
        profile=options.profile,
        published_only=options.published,
        say=lambda line: print(line, flush=True),
    )
    return 0 if found.best else 1
