"""`vlmrank store`: list, check and clean up a shared result store."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from vlmrank.cli.terminal import read_config, table
from vlmrank.errors import VlmrankError
from vlmrank.store import ResultStore
from vlmrank.store.upkeep import check_store, delete_entries, find_leftovers, find_unused, holdings, used_by
from vlmrank.text import human_bytes, plural

MOST_LISTED = 20


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "store",
        help="check, size up or prune a store of results",
        description="Look after a store of results (`store:` in a configuration) that a group shares.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="read every entry in full and compare it with its checksum")
    size = actions.add_parser("size", help="entries and bytes by model and dataset")
    prune = actions.add_parser("prune", help="list, or delete, what none of the named configurations uses")
    for action in (check, size, prune):
        action.add_argument("--config", default="config.yaml", help="whose store it is (config.yaml)")
        action.add_argument("--store", metavar="FOLDER", help="the store itself")
    prune.add_argument(
        "--keep", action="append", required=True, metavar="CONFIG", help="what its results use is kept; repeatable"
    )
    prune.add_argument("--older-than", type=float, required=True, metavar="DAYS", help="since it was stored")
    prune.add_argument("--yes", action="store_true", help="delete; without it, entries are only listed")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run an action; exit status 1 if an entry is damaged."""
    store = ResultStore(options.store or _store_of(read_config(options.config)))
    if not store.root.is_dir():
        raise VlmrankError(f"{store.root}: there is no store; name one with --store, or a configuration with --config")
    if options.action == "check":
        return _check(store)
    if options.action == "size":
        return _size(store)
    return _prune(store, options)


def _store_of(config: Mapping[str, Any]) -> str:
    return config["store"] or f"{config['results']}/store"


def _check(store: ResultStore) -> int:
    wrong = count = 0
    for path, problem in check_store(store):
        count += 1
        if problem:
            wrong += 1
            print(f"{path}: {problem}")
    print(f"{store.root}: {plural(count, 'entry', 'entries')} read, {wrong} damaged")
    if wrong:
        print("What is damaged is dropped and computed again by the next run that needs it")
    return 1 if wrong else 0


def _size(store: ResultStore) -> int:
    found = holdings(store)
    rows = [(one.model, one.dataset, one.kind, str(one.entries), human_bytes(one.bytes)) for one in found]
    total = ("all", "", "", str(sum(one.entries for one in found)), human_bytes(sum(one.bytes for one in found)))
    print(table([("model", "dataset", "kind", "entries", "size"), *rows, total], right=(3, 4)))
    return 0


def _prune(store: ResultStore, options: argparse.Namespace) -> int:
    used: set[str] = set()
    for name in options.keep:
        used |= used_by(read_config(name)["results"])
    unused = find_unused(store, used, older_than_days=options.older_than)
    size = human_bytes(sum(path.stat().st_size for path in unused.own if path.exists()))
    for path in unused.own[:MOST_LISTED]:
        print(path)
    if len(unused.own) > MOST_LISTED:
        print(f"and {len(unused.own) - MOST_LISTED} more")
    print(f"{plural(len(unused.own), 'entry', 'entries')} of yours, {size}, that no named configuration uses")
    print(f"kept: {len(used)} that they use, {len(unused.recent)} younger, {len(unused.of_others)} of other users")
    halves = find_leftovers(store)
    if halves:
        half = human_bytes(sum(path.stat().st_size for path in halves if path.exists()))
        print(f"{plural(len(halves), 'file')} of yours, {half}, that processes which died left half written")
    if options.yes:
        print(f"deleted, {human_bytes(delete_entries([*unused.own, *halves]))} freed")
    elif unused.own or halves:
        print("Delete them with --yes")
    return 0
