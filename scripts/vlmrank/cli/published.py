"""`vlmrank published`: rank, evaluate and report from published accuracies alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vlmrank.cli.terminal import count, table
from vlmrank.text import rank_interval


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "published",
        help="rank, evaluate and report on a published table of accuracies alone",
        description="Baselines only: leave-one-dataset-out evaluation and report from a table, without any image.",
    )
    parser.add_argument("table", help="table of accuracies")
    parser.add_argument("--format", default="own", help="own (default), openclip, clip-benchmark, lovm or swab")
    parser.add_argument("--names", metavar="MAP", help="name map for the table")
    parser.add_argument("--target", action="append", default=[], metavar="DATASET", help="rank the models for it")
    parser.add_argument("--reference", metavar="DATASET", help="also rank by the accuracy on this one (imagenet1k)")
    parser.add_argument("--results", default="results/published", metavar="FOLDER", help="(results/published)")
    parser.add_argument("--seed", type=count, default=0, help="of the intervals (0)")
    parser.set_defaults(run=rank_published)


def rank_published(options: argparse.Namespace) -> int:
    """Rank, evaluate and report on published accuracies alone."""
    from vlmrank.accuracy.formats import parse_table
    from vlmrank.accuracy.tables import match_table, read_names
    from vlmrank.published.evaluate import METHOD, evaluate_published, summary_table
    from vlmrank.report.build import PageOptions, build_report

    names = read_names(options.names) if options.names else {}
    parsed = parse_table(options.table, options.format)
    rows = parsed.rows
    known = {
        kind: sorted({names.get((kind, name), name) for name in rows[kind].unique()}) for kind in ("model", "dataset")
    }
    origin = Path(options.table).name
    known = {"models": known["model"], "datasets": known["dataset"], "names": names, "origin": origin}
    found = match_table(rows, **known, left_out=parsed.left_out)
    run = evaluate_published(
        found.accuracy,
        options.results,
        unmatched=found.unmatched,
        targets=options.target,
        reference=options.reference,
        seed=options.seed,
    )
    settings = {"method": METHOD, "table": origin, "format": options.format, "seed": options.seed}
    page = Path(options.results) / "report.html"
    build_report(options.results, page, page=PageOptions(settings, method="average_rank"))
    models, datasets = found.accuracy["model"].nunique(), found.accuracy["dataset"].nunique()
    print(f"{options.table}: {models} models, {datasets} datasets, {len(found.accuracy)} accuracies; method: {METHOD}")
    print(table(summary_table(run, options.reference), right=range(1, 8)))
    for target, ranking in run.rankings.items():
        best = ranking.iloc[0]
        sure = rank_interval(best["rank_low"], best["rank_high"], int(ranking["rank"].notna().sum()))
        print(f"{target}: take {best['model']}" + (f" ({sure})" if sure else ""))
    print(f"{len(run.left_out)} methods need more than accuracies: {', '.join(run.left_out)}")
    print(f"report: {Path(options.results) / 'report.html'}")
    return 0
