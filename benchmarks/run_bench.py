"""Run the whole bench: the main run, then each setting of the conductance on a part of the zoo.

    python benchmarks/run_bench.py --bench FOLDER [--main-only] [--cores 2] [--dry-run]

FOLDER holds the packed bench; its `unpack.py` writes models and links into benchzoo/, which git ignores. Without
--bench, benchzoo/ has to be there. A run that was stopped goes on where it was. At the end the main table is printed
and everything is written to results/bench/bench.json, from which `write_results.py` makes the page.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "config/bench.yaml"
# Each differs from `base` in what it names; K is 16 in all of them.
PARTS = {
    "base": {},
    "objective=embedding": {"objective": "embedding"},
    "baseline=mean": {"baseline": "mean"},
    "baseline=blur": {"baseline": "blur"},
    "points=4": {"points": 4},
    "points=16": {"points": 16},
}


def command(cores: int, *, results: Path, part: dict[str, object] | None) -> list[str]:
    """The snakemake call of one run; `part` is None for the main run, else one more configuration file is read."""
    call = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--configfile", CONFIG]
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


def unpack(bench: Path, folder: Path) -> None:
    """Let the bench unpack itself into a folder; what is there already stays.

    Raises
    ------
    SystemExit : there is no bench, or the folder holds something else.
    """
    script = bench / "unpack.py"
    if not script.is_file():
        sys.exit(f"{script} is not there: --bench takes the folder of the packed bench")
    if (folder / "datasets").is_dir() and (folder / "datasets").resolve() != (bench / "datasets").resolve():
        sys.exit(f"{folder}/ holds another bench: move it away, or leave out --bench to run that one")
    subprocess.run([sys.executable, str(script), str(folder)], check=True)


def main() -> int:
    """Run everything in order; stops at the first run that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, help="folder of the packed bench")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--main-only", action="store_true", help="leave out the settings of the conductance")
    arguments = parser.parse_args()
    bench = arguments.bench and arguments.bench.resolve()
    os.chdir(ROOT)
    if bench is not None:
        unpack(bench, Path("benchzoo"))
    if not Path("benchzoo").exists():
        sys.exit("benchzoo/ is not here: give the folder of the packed bench with --bench")
    runs = {"": None} if arguments.main_only else {"": None, **PARTS}
    for name, part in runs.items():
        call = command(arguments.cores, results=Path(f"results/bench-{name}"), part=part)
        done = subprocess.run([*call, *(["--dry-run", "--quiet"] if arguments.dry_run else [])], check=False)
        if done.returncode:
            return done.returncode
    if arguments.dry_run:
        return 0
    return subprocess.run([sys.executable, str(Path(__file__).with_name("bench_report.py"))], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
