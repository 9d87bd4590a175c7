"""`vlmrank label`: write a page to label the images that best tell the top models apart."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vlmrank.cli.terminal import count, read_config
from vlmrank.errors import VlmrankError
from vlmrank.text import nearest, plural


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "label",
        help="label the few images of a target that tell its best models apart",
        description="Write a page that shows the images of ranking/TARGET.to_label.csv and saves their labels.",
    )
    parser.add_argument("target", help="a target that is ranked")
    parser.add_argument("--config", default="config.yaml", metavar="FILE", help="of the run (config.yaml)")
    parser.add_argument("--out", metavar="FILE", help="the page (RESULTS/ranking/TARGET.label.html)")
    parser.add_argument("--side", type=count, default=384, help="largest side of a picture in pixels (384)")
    parser.set_defaults(run=write_page)


def write_page(options: argparse.Namespace) -> int:
    """Write the page and say how to go on."""
    from vlmrank.report.label_page import label_page
    from vlmrank.store import atomic, read_csv, read_json

    config = read_config(options.config)
    results = Path(config["results"])
    ranked = sorted(path.name.removesuffix(".to_label.csv") for path in (results / "ranking").glob("*.to_label.csv"))
    if options.target not in ranked:
        there = f"Ranked are: {', '.join(ranked)}." if ranked else "Run the workflow first."
        hint = nearest(options.target, ranked)
        raise VlmrankError(
            f"{results / 'ranking'} has no list of images for {options.target!r}. {there} {hint}".rstrip()
        )
    facts = read_json(results / "ranking" / f"{options.target}.answer.json")
    rows = read_csv(results / "ranking" / f"{options.target}.to_label.csv").astype(str)
    saved_as = Path(config["labels"]) / f"{options.target}.csv"
    if not (rows["label"] == "").any():
        print(f"{options.target}: {facts['to_label_reason']}")
        return 0
    card = read_json(results / "datasets" / f"{options.target}.json")
    models = [one["model"] for one in facts["near_ties"]]
    out = Path(options.out or results / "ranking" / f"{options.target}.label.html")
    out.parent.mkdir(parents=True, exist_ok=True)
    page = label_page(card, rows, models=models, saved_as=str(saved_as), side=max(options.side, 32))
    with atomic(out) as partial:
        Path(partial).write_text(page, encoding="utf-8")
    asked = plural(int((rows["label"] == "").sum()), "image")
    print(f"{asked} to label, which tell {plural(len(models), 'model')} apart: open {out}")
    print(f"Save the labels there and move the file to {saved_as}.")
    print("Then run the workflow again: only the ranking and the report are made anew.")
    return 0
