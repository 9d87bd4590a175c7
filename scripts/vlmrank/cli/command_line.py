"""The command `vlmrank`: models to choose from, a sheet to check, and the size of a run before it starts."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from vlmrank import __version__
from vlmrank.cli import store
from vlmrank.errors import VlmrankError
from vlmrank.store import atomic
from vlmrank.text import rank_interval
from vlmrank.workflow.config import check_config, read_schema
from vlmrank.workflow.run_size import ModelSize, human_bytes, run_size
from vlmrank.workflow.sheets import read_datasets, read_models

SUFFIXES = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}
CACHE = "resources/weights"


def limits(text: str) -> tuple[float | None, float | None]:
    """Read `100M-1B`, `224-`, `224` or `-500M` as (least, most).

    Examples
    --------
    >>> limits("100M-1B"), limits("-500M"), limits("224-"), limits("224")
    ((100000000.0, 1000000000.0), (None, 500000000.0), (224.0, None), (224.0, 224.0))
    """
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)([KMGB]?))?(-)?(?:(\d+(?:\.\d+)?)([KMGB]?))?", text.strip().upper())
    if match is None or not (match[1] or match[4]) or (match[1] and match[4] and not match[3]):
        raise argparse.ArgumentTypeError(f"{text!r}: write a number, or a range such as 100M-1B, 0-500M or 224-")
    low = float(match[1]) * SUFFIXES[match[2]] if match[1] else None
    high = float(match[4]) * SUFFIXES[match[5]] if match[4] else None
    if not match[3]:
        high = low
    if low is not None and high is not None and low > high:
        raise argparse.ArgumentTypeError(f"{text!r}: the range is empty")
    return low, high


def _schema(name: str) -> dict[str, Any]:
    for folder in (Path("schemas"), Path(__file__).resolve().parents[3] / "schemas"):
        if (folder / f"{name}.schema.yaml").is_file():
            return read_schema(folder / f"{name}.schema.yaml")
    raise VlmrankError(f"schemas/{name}.schema.yaml is not here: run `vlmrank` in the folder of the repository")


def _table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _millions(value: int | None) -> str:
    return "?" if value is None else f"{value / 1e6:.1f} M"


# --- vlmrank models --------------------------------------------------------------------------------------------------


def _published(path: str | None, layout: str, names: str | None) -> frozenset[str] | None:
    if not path:
        return None
    from vlmrank.accuracy.tables import read_names, read_table

    mapped = read_names(names) if names else {}
    return frozenset(mapped.get(("model", name), name) for name in read_table(path, layout)["model"].unique())


def list_models(options: argparse.Namespace) -> int:
    """Print the weights that pass the filters, and write them as a sheet where asked for."""
    from vlmrank.models.registry import Filters, list_entries, select, sheet_of

    filters = Filters(
        families=options.family,
        data=options.data,
        parameters=options.parameters,
        image_size=options.image_size,
        pattern=options.name,
        published=_published(options.published, options.format, options.names),
        mismatched=options.mismatched,
    )
    entries = select(list_entries(), filters)
    if not entries:
        raise VlmrankError("no weight of OpenCLIP's registry passes all these filters; leave one out")
    header = ("model", "family", "trained on", "image", "parameters", "of the image tower", "GFLOPs/image", "download")
    rows = [
        (
            entry.model,
            entry.family,
            entry.data,
            str(entry.image_size),
            _millions(entry.parameters),
            _millions(entry.image_parameters),
            "?" if entry.gflops is None else f"{entry.gflops:.1f}",
            "?" if entry.bytes is None else human_bytes(entry.bytes),
        )
        for entry in entries
    ]
    known = [entry.bytes for entry in entries if entry.bytes]
    total = f"{len(entries)} weights, about {human_bytes(sum(known))} to download"
    unknown = f" (and {len(entries) - len(known)} of unknown size)" if len(known) < len(entries) else ""
    if options.output == "-":
        print(sheet_of(entries), end="")
        return 0
    print(_table([header, *rows], right=(3, 4, 5, 6, 7)))
    print(f"{total}{unknown}")
    if options.output:
        with atomic(options.output) as partial:
            partial.write_text(sheet_of(entries), encoding="utf-8")
        print(f"{options.output}: written, {len(entries)} rows")
    return 0


def check_models(options: argparse.Namespace) -> int:
    """Say of every row of a sheet what is cached, what would be downloaded and what is wrong (exit status 1)."""
    from vlmrank.workflow.downloads import check_row

    sheet = read_models(options.check, _schema("models"))
    found = [check_row(row, cache=options.cache, online=options.online) for row in sheet]
    rows = [
        (one.model, one.state, "" if one.state == "wrong" else human_bytes(one.bytes) if one.bytes else "?")
        for one in found
    ]
    print(_table([("model", "state", "size"), *rows], right=(2,)))
    for row, one in zip(sheet, found, strict=True):
        for note in one.notes:
            print(f"{options.check}, line {row.line}, {row.model}: {note}")
    ahead = [one for one in found if one.state == "to download"]
    size = sum(one.bytes or 0 for one in ahead)
    unknown = sum(one.bytes is None for one in ahead)
    free = _free(options.cache)
    here = len(found) - len(ahead) - sum(one.state == "wrong" for one in found)
    more = f", {unknown} of unknown size" if unknown else ""
    print(f"{here} here, {len(ahead)} to download (about {human_bytes(size)}{more}) into {options.cache}: {free}")
    wrong = sum(one.state == "wrong" for one in found)
    if wrong:
        print(f"{wrong} of {len(found)} rows are wrong; the workflow would go on without them")
    return 1 if wrong else 0


def _free(folder: str) -> str:
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    return f"{human_bytes(shutil.disk_usage(place).free)} free there"


# --- vlmrank size ----------------------------------------------------------------------------------------------------


def _read_config(path: str) -> dict[str, Any]:
    try:
        given = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise VlmrankError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    return check_config(given, _schema("config"), files=[path])


def show_size(options: argparse.Namespace) -> int:
    """Print jobs, downloads, GPU hours and disk of a configuration, with the formulas."""
    from vlmrank.models.registry import architectures
    from vlmrank.workflow.objectives import twins

    config = _read_config(options.config)
    models = read_models(config["models"], _schema("models"))
    datasets = read_datasets(config["datasets"], _schema("datasets"))
    again = twins(datasets, config["conductance"]["objective"])
    sizes = architectures()
    known = [sizes.get(row.architecture) or {} for row in models]
    figures = run_size(
        [ModelSize(**{field.name: row.get(field.name) for field in fields(ModelSize)}) for row in known],
        datasets=len(datasets),
        targets=sum(row.role == "target" for row in datasets),
        twins=len(again),
        config=config,
        tflops=options.tflops,
        measured_images=options.measured_images if config["accuracy"]["measure"] else 0,
    )
    sources = sum(row.role == "source" for row in datasets)
    twice = f", {len(again)} of them computed a second time without class names" if again else ""
    print(f"{options.config}: {len(models)} models, {len(datasets)} datasets ({sources} sources){twice}")
    print(_table([("what", "how much"), *((figure.what, figure.text) for figure in figures)]))
    if options.formulas:
        print(*(f"{figure.what} = {figure.formula}" for figure in figures), sep="\n")
    unknown = [row.model for row, size in zip(models, known, strict=True) if size.get("parameters") is None]
    if unknown:
        print(f"{len(unknown)} models are not in the table of sizes (the median is taken): {unknown[0]}, ...")
    return 0


# --- vlmrank published -----------------------------------------------------------------------------------------------


def rank_published(options: argparse.Namespace) -> int:
    """Rank, evaluate and report on published accuracies alone."""
    from vlmrank.accuracy.formats import parse_table
    from vlmrank.accuracy.tables import match_table, read_names
    from vlmrank.published.evaluate import METHOD, evaluate_published, summary_table
    from vlmrank.report.build import build_report

    names = read_names(options.names) if options.names else {}
    table = parse_table(options.table, options.format)
    rows = table.rows
    known = {
        kind: sorted({names.get((kind, name), name) for name in rows[kind].unique()}) for kind in ("model", "dataset")
    }
    origin = Path(options.table).name
    known = {"models": known["model"], "datasets": known["dataset"], "names": names, "origin": origin}
    found = match_table(rows, **known, left_out=table.left_out)
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
    build_report(options.results, page, config=settings, method="average_rank")
    models, datasets = found.accuracy["model"].nunique(), found.accuracy["dataset"].nunique()
    print(f"{options.table}: {models} models, {datasets} datasets, {len(found.accuracy)} accuracies; method: {METHOD}")
    print(_table(summary_table(run, options.reference), right=range(1, 8)))
    for target, ranking in run.rankings.items():
        best = ranking.iloc[0]
        sure = rank_interval(best["rank_low"], best["rank_high"], int(ranking["rank"].notna().sum()))
        print(f"{target}: take {best['model']}" + (f" ({sure})" if sure else ""))
    print(f"{len(run.left_out)} methods need more than accuracies: {', '.join(run.left_out)}")
    print(f"report: {Path(options.results) / 'report.html'}")
    return 0


# --- the command -----------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vlmrank", description=__doc__)
    parser.add_argument("--version", action="version", version=f"vlmrank {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    models = commands.add_parser(
        "models",
        help="list OpenCLIP's weights with their sizes, write them as a sheet, or check a sheet",
        description="List the weights of OpenCLIP's registry, or check a models sheet without loading a model.",
    )
    models.add_argument("--family", action="append", default=[], metavar="NAME", help="ViT, SigLIP, ResNet, ...")
    models.add_argument("--data", action="append", default=[], metavar="NAME", help="LAION-2B, DataComp, OpenAI, ...")
    models.add_argument("--parameters", type=limits, default=(None, None), metavar="RANGE", help="100M-1B, 0-500M, 1B-")
    models.add_argument("--image-size", type=limits, default=(None, None), metavar="RANGE", help="224, 224-336, ...")
    models.add_argument("--name", default="", metavar="REGEX", help="searched in <architecture>--<tag>")
    models.add_argument("--published", metavar="TABLE", help="only weights that this table of accuracies has")
    models.add_argument(
        "--format", default="openclip", help="its format: openclip (default), clip-benchmark, lovm, ..."
    )
    models.add_argument("--names", metavar="MAP", help="name map for the table")
    models.add_argument("--mismatched", action="store_true", help="also weights under an activation that is not theirs")
    models.add_argument("--output", "-o", metavar="SHEET", help="write a models sheet (- prints it)")
    models.add_argument("--check", metavar="SHEET", help="look at this sheet instead: cached, to download, wrong")
    models.add_argument("--cache", default=CACHE, metavar="FOLDER", help=f"downloaded weights (default {CACHE})")
    models.add_argument("--online", action="store_true", help="with --check: ask the hub for exact sizes")
    size = commands.add_parser(
        "size",
        help="jobs, downloads, GPU hours and disk of a configuration",
        description="Say how large a run is before it starts.",
    )
    size.add_argument("config", help="configuration file")
    size.add_argument("--tflops", type=float, default=15.0, help="1e12 operations a second that the GPU reaches (15)")
    size.add_argument("--measured-images", type=int, default=0, help="labelled images whose accuracy is measured")
    size.add_argument("--formulas", action="store_true", help="also print the formula behind each figure")
    published = commands.add_parser(
        "published",
        help="rank, evaluate and report on a published table of accuracies alone",
        description="Baselines only: leave-one-dataset-out evaluation and report from a table, without any image.",
    )
    published.add_argument("table", help="table of accuracies")
    published.add_argument("--format", default="own", help="own (default), openclip, clip-benchmark, lovm or swab")
    published.add_argument("--names", metavar="MAP", help="name map for the table")
    published.add_argument("--target", action="append", default=[], metavar="DATASET", help="rank the models for it")
    published.add_argument("--reference", metavar="DATASET", help="also rank by the accuracy on this one (imagenet1k)")
    published.add_argument("--results", default="results/published", metavar="FOLDER", help="(results/published)")
    published.add_argument("--seed", type=int, default=0, help="of the intervals (0)")
    store.add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; what the user gave wrong is one message on stderr and exit status 2."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "size":
            return show_size(options)
        if options.command == "published":
            return rank_published(options)
        if options.command == "store":
            return store.run(options, _read_config, _table)
        return check_models(options) if options.check else list_models(options)
    except VlmrankError as error:
        print(f"vlmrank {options.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
