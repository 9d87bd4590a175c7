"""`vlmrank pack`: write source packs, so that others can rank without the source images."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from vlmrank.cli.terminal import read_config, schema
from vlmrank.errors import OK, VlmrankError
from vlmrank.store import read_csv, read_json, read_pair_attributes
from vlmrank.store.identities import MODEL_FACTS, TEXT_PACKAGES, deciding_options, pair_identity, versions
from vlmrank.store.packs import NAMES, SUFFIX, Pack, packed_card, write_pack
from vlmrank.text import human_bytes, plural
from vlmrank.workflow.objectives import without_names
from vlmrank.workflow.paths import normal_paths
from vlmrank.workflow.sheets import read_datasets

FACTS = (*MODEL_FACTS, "parameters")


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "pack",
        help="write source packs of finished results",
        description="Write a pack of each model: what a new target needs of the sources, without images or weights. "
        "Name the packs, or their folder, under `packs:` in another configuration.",
    )
    parser.add_argument("--config", default="config.yaml", help="whose results are packed (config.yaml)")
    parser.add_argument("--out", default="packs", metavar="FOLDER", help="where the packs go (packs)")
    parser.add_argument("--model", action="append", metavar="NAME", help="only this model; repeatable")
    parser.set_defaults(run=run)


@dataclass
class Results:
    """The finished results of a configuration that packs need."""

    config: Mapping[str, Any]
    groups: Mapping[str, str]
    sources: Mapping[str, Mapping[str, Any]]  # cards
    accuracy: pd.DataFrame
    classes: pd.DataFrame
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder = Path(self.config["results"])


def run(options: argparse.Namespace) -> int:
    """Write the packs; exit status 1 if a model has no pair to pack."""
    found = read_results(normal_paths(read_config(options.config)))
    cards = sorted((found.folder / "models").glob("*.json"))
    names = [path.stem for path in cards]
    unknown = sorted(set(options.model or ()) - set(names))
    if unknown or not names:
        raise VlmrankError(f"{found.folder}/models has no {', '.join(unknown) or 'model'}; run the workflow first")
    empty = 0
    for name in options.model or names:
        pack, pairs, skipped = pack_of(found, name)
        for line in skipped:
            print(f"{name}: left out: {line}")
        if not pairs:
            print(f"{name}: no pack: there is no finished pair on a source")
            empty += 1
            continue
        write_pack(Path(options.out) / f"{name}{SUFFIX}", pack, pairs)
        size = human_bytes((Path(options.out) / f"{name}{SUFFIX}").stat().st_size)
        print(f"{Path(options.out) / name}{SUFFIX}: {plural(len(pack.datasets), 'source')}, {size}")
    return 1 if empty else 0


def read_results(config: Mapping[str, Any]) -> Results:
    """Read what the packs of all models have in common."""
    folder = Path(config["results"])
    rows = read_datasets(config["datasets"], schema("datasets"))
    cards = {}
    for row in rows:
        path = folder / "datasets" / f"{row.dataset}.json"
        if row.role == "source" and path.exists():
            card = read_json(path)
            if card["status"] == OK and card["classes"] and not card.get("packed"):
                cards[row.dataset] = card
    tables = [folder / "accuracy.csv", folder / "accuracy_per_class.csv"]
    missing = [str(path) for path in tables if not path.exists()]
    if missing or not cards:
        raise VlmrankError(
            f"{folder} has no {missing[0] if missing else 'prepared source with class names'}; run the workflow first"
        )
    groups = {row.dataset: row.group for row in rows if row.group and row.dataset in cards}
    return Results(config, groups, cards, *map(read_csv, tables))


def pack_of(found: Results, model: str) -> tuple[Pack, dict[str, Path], list[str]]:
    """One model's pack, its pairs by identity, and one line per pair that is left out."""
    card = read_json(found.folder / "models" / f"{model}.json")
    options, code = deciding_options(found.config["conductance"]), ""
    datasets, pairs, skipped = {}, {}, []
    for source, dataset in found.sources.items():
        for one in (dataset, without_names(dataset)):
            path = found.folder / "conductance" / model / f"{one['dataset']}.h5"
            if not path.exists():
                if one is dataset:
                    skipped.append(f"{source}: not computed yet")
                continue
            attributes = read_pair_attributes(path)
            code = attributes["code"]
            if attributes["status"] != OK:
                skipped.append(f"{source}: {attributes['reason']}")
            elif attributes["identity"] != pair_identity(card, one, options, code):
                skipped.append(f"{source}: computed with other settings, versions or images than those of today")
            else:
                pairs[attributes["identity"]] = path
                datasets[source] = packed_card(dataset)
    names = {name: card.get(name) for name in (*NAMES, *FACTS)}
    if card["source"] in ("local-dir", "file"):  # a path on this machine
        names |= {"architecture": "", "pretrained": ""}
    settings = {"options": options, "code": code, "versions": versions(TEXT_PACKAGES)}
    groups = {name: group for name, group in found.groups.items() if name in datasets}
    accuracy = {name: known for name in datasets if (known := _accuracy(found, model, name))}
    return Pack(Path(), names, settings, datasets, groups, accuracy), pairs, skipped


def _accuracy(found: Results, model: str, source: str) -> dict[str, Any] | None:
    """acc1, n and per_class of a model on a source; None if unknown."""
    rows = found.accuracy.query("model == @model and dataset == @source")
    if rows.empty:
        return None
    classes = found.classes.query("model == @model and dataset == @source")
    per_class = {row["class"]: [row["acc1"], row["n"]] for _, row in classes.iterrows()}
    acc1, n = rows["acc1"].iloc[0], rows["n"].iloc[0]
    origin = rows["origin"].iloc[0]
    return {"acc1": float(acc1), "n": None if pd.isna(n) else int(n), "per_class": per_class, "origin": origin}
