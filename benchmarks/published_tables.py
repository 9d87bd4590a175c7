"""Rebuild the published accuracies that vlmrank ships: `python benchmarks/published_tables.py openclip_results.csv`.

Writes scripts/vlmrank/data/published.csv from OpenCLIP's public table (scripts/vlmrank/data/README.md names the file,
its commit and its licence), under the names of OpenCLIP's registry (config/openclip/names.tsv).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vlmrank.accuracy.formats import parse_table
from vlmrank.accuracy.tables import read_names
from vlmrank.models.registry import list_entries
from vlmrank.store import atomic

ROOT = Path(__file__).resolve().parents[1]
NAMES = ROOT / "config" / "openclip" / "names.tsv"
TARGET = ROOT / "scripts" / "vlmrank" / "data" / "published.csv"


def main() -> None:
    """Write the table, best mean accuracy first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", help="docs/openclip_results.csv of OpenCLIP")
    parser.add_argument("--output", default=TARGET, type=Path)
    options = parser.parse_args()
    names, parsed = read_names(NAMES), parse_table(options.table, "openclip")
    rows = parsed.rows.assign(
        model=[names.get(("model", name), name) for name in parsed.rows["model"]],
        dataset=[names.get(("dataset", name), name) for name in parsed.rows["dataset"]],
    )
    double = rows[rows.duplicated(["model", "dataset"])]
    rows = rows.drop_duplicates(["model", "dataset"])
    known = {entry.model for entry in list_entries()}
    lost = sorted({*rows["model"]} - known)
    wide = rows[rows["model"].isin(known)].pivot(index="model", columns="dataset", values="acc1")
    wide = wide.loc[wide.mean(axis=1).sort_values(ascending=False, kind="stable").index]
    with atomic(options.output) as partial:
        wide.to_csv(partial, float_format="%.4f")
    print(f"{options.output}: {len(wide)} models, {wide.shape[1]} datasets")
    print(f"not in the installed OpenCLIP's registry: {', '.join(lost) or 'none'}")
    for model, part in double.groupby("model"):
        print(f"there twice, the first is taken: {model} ({len(part)} cells)")
    for kind, name, count, reason in parsed.left_out:
        print(f"left out: {kind} {name} ({count} cells): {reason}")


if __name__ == "__main__":
    main()
