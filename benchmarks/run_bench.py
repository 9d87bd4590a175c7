"""Run the whole bench and write its page: the main run, then each setting of the conductance on a part of the zoo.

PYTHONPATH=scripts python benchmarks/run_bench.py [--cores 2] [--dry-run] [--main-only]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import yaml

CONFIG = "config/bench.yaml"
# Each differs from `base` in what it names; K is 16 in all of them.
PARTS = {
    "base": {},
    "objective=embedding": {"objective": "embedding"},
    "baseline=mean": {"baseline": "mean"},
    "baseline=blur": {"baseline": "blur"},
    "points=8": {"points": 8},
    "points=32": {"points": 32},
}


def command(cores: int, *, results: Path, part: dict[str, object] | None) -> list[str]:
    """The snakemake call of one run; `part` is None for the main run, else one more configuration file is read."""
    call = ["snakemake", "--cores", str(cores), "--configfile", CONFIG]
    if part is None:
        return call
    changed = {
        "models": "config/bench/models_part.tsv",
        "results": str(results),
        "store": "results/bench/store",
        "images": {"per_dataset": 16},
        "evaluation": {"draws": 1, "labelled": 0, "encoder": "zoo", "methods": "default"},
        "conductance": part,
    }
    results.mkdir(parents=True, exist_ok=True)
    config = results / "config.yaml"
    config.write_text(yaml.safe_dump(changed), encoding="utf-8")
    return [*call, str(config), "--until", "evaluate_methods"]


def main() -> int:
    """Run everything in order; stops at the first run that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--main-only", action="store_true")
    arguments = parser.parse_args()
    if not Path("benchzoo").exists():
        sys.exit("benchzoo/ is not here: unpack the bench into it first")
    runs = {"": None} if arguments.main_only else {"": None, **PARTS}
    for name, part in runs.items():
        call = command(arguments.cores, results=Path(f"results/bench-{name}"), part=part)
        done = subprocess.run([*call, *(["--dry-run", "--quiet"] if arguments.dry_run else [])], check=False)
        if done.returncode:
            return done.returncode
    if arguments.dry_run:
        return 0
    return subprocess.run([sys.executable, str(Path(__file__).with_name("write_results.py"))], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
