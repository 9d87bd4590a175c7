"""What the checksums of result files cost: the time to hash every file as often as a run does, over the run's own time.

A pair is sealed once and compared when it is stored, when it is taken, and by each gather that reads it; READS counts
them generously. The run's time is the sum over its jobs as Snakemake measured them (`<results>/benchmarks`).

    python benchmarks/checksums.py [results]
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

from vlmrank.store.cache import read_entry
from vlmrank.store.hdf5 import END, _sha256

READS = 8  # seal, store, take, alignment, divergence, evidence, pairs, report


def seconds_of_jobs(results: Path) -> float:
    """Sum of the seconds of all jobs."""
    total = 0.0
    for path in results.glob("benchmarks/*/*.tsv"):
        with path.open(encoding="utf-8") as file:
            total += sum(float(row["s"]) for row in csv.DictReader(file, delimiter="\t"))
    return total


def main() -> None:
    """Print seconds, bytes and the share."""
    results = Path(sys.argv[1] if len(sys.argv) > 1 else "results")
    files = [path for kind in ("h5", "json") for path in results.rglob(f"*.{kind}") if "store" not in path.parts]
    started = time.perf_counter()
    for path in files:
        if path.suffix == ".h5":
            _sha256(path, END)
        else:
            read_entry(path)
    once, run = time.perf_counter() - started, seconds_of_jobs(results)
    size = sum(path.stat().st_size for path in files)
    print(f"{len(files)} files, {size / 1e6:.1f} MB: {once:.3f} s to hash once, {READS * once:.2f} s for {READS} times")
    print(f"{run:.0f} s of jobs: {100 * READS * once / run:.2f} %")


if __name__ == "__main__":
    main()
