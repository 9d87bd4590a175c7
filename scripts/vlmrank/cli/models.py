"""`vlmrank models`: list available weights, and check what a models sheet would download."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from vlmrank.cli.terminal import schema, table
from vlmrank.errors import VlmrankError
from vlmrank.models.registry import read_limits
from vlmrank.store import atomic
from vlmrank.text import human_bytes
from vlmrank.workflow.sheets import read_models

CACHE = "resources/weights"


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "models",
        help="list OpenCLIP's weights with their sizes, write them as a sheet, or check a sheet",
        description="List the weights of OpenCLIP's registry, or check a models sheet without loading a model.",
    )
    parser.add_argument("--family", action="append", default=[], metavar="NAME", help="ViT, SigLIP, ResNet, ...")
    parser.add_argument("--data", action="append", default=[], metavar="NAME", help="LAION-2B, DataComp, OpenAI, ...")
    parser.add_argument("--parameters", type=limits, default=(None, None), metavar="RANGE", help="100M-1B, 0-500M, 1B-")
    parser.add_argument("--image-size", type=limits, default=(None, None), metavar="RANGE", help="224, 224-336, ...")
    parser.add_argument("--name", default="", metavar="REGEX", help="searched in <architecture>--<tag>")
    parser.add_argument("--published", metavar="TABLE", help="only weights that this table of accuracies has")
    parser.add_argument(
        "--format", default="openclip", help="its format: openclip (default), clip-benchmark, lovm, ..."
    )
    parser.add_argument("--names", metavar="MAP", help="name map for the table")
    parser.add_argument("--mismatched", action="store_true", help="include weights with a mismatched activation")
    parser.add_argument("--output", "-o", metavar="SHEET", help="write a models sheet (- prints it)")
    parser.add_argument("--check", metavar="SHEET", help="look at this sheet instead: cached, to download, wrong")
    parser.add_argument("--cache", default=CACHE, metavar="FOLDER", help=f"downloaded weights (default {CACHE})")
    parser.add_argument("--online", action="store_true", help="with --check: ask the hub for exact sizes")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """List the registry, or check a sheet."""
    return check_models(options) if options.check else list_models(options)


def limits(text: str) -> tuple[float | None, float | None]:
    """`vlmrank.models.registry.read_limits` for an argument."""
    try:
        return read_limits(text)
    except VlmrankError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def millions(value: int | None) -> str:
    return "?" if value is None else f"{value / 1e6:.1f} M"


def _published(path: str | None, layout: str, names: str | None) -> frozenset[str] | None:
    if not path:
        return None
    from vlmrank.accuracy.tables import read_names, read_table

    mapped = read_names(names) if names else {}
    return frozenset(mapped.get(("model", name), name) for name in read_table(path, layout)["model"].unique())


def list_models(options: argparse.Namespace) -> int:
    """Print the weights that pass the filters, and write them as a sheet if requested."""
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
            millions(entry.parameters),
            millions(entry.image_parameters),
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
    print(table([header, *rows], right=(3, 4, 5, 6, 7)))
    print(f"{total}{unknown}")
    if options.output:
        with atomic(options.output) as partial:
            partial.write_text(sheet_of(entries), encoding="utf-8")
        print(f"{options.output}: written, {len(entries)} rows")
    return 0


def check_models(options: argparse.Namespace) -> int:
    """Print for every row of a sheet what is cached, what would be downloaded and what is wrong (exit status 1)."""
    from vlmrank.workflow.downloads import check_row

    sheet = read_models(options.check, schema("models"))
    found = [check_row(row, cache=options.cache, online=options.online) for row in sheet]
    rows = [
        (one.model, one.state, "" if one.state == "wrong" else human_bytes(one.bytes) if one.bytes else "?")
        for one in found
    ]
    print(table([("model", "state", "size"), *rows], right=(2,)))
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
