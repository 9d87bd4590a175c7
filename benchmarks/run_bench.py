"""Run the whole bench and write its page: the main run, then each setting of the conductance on a part of the zoo.

    python benchmarks/run_bench.py --bench FOLDER [--main-only] [--cores 2] [--dry-run]

FOLDER holds the packed bench; its `unpack.py` writes models and links into benchzoo/, which git ignores. Without
--bench, benchzoo/ has to be there. A run that was stopped goes on where it was. At the end the main table is printed
and written to results/bench/main_table.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from vlmrank.evaluation.evaluate import summarise
from vlmrank.store import read_csv

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "config/bench.yaml"
RESULTS = Path("results/bench")
ENDS = {"": "mean", "_low": "ci_low", "_high": "ci_high"}
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


def main_table(results: Path, splits: dict[str, Sequence[str]]) -> list[dict[str, object]]:
    """One row a method and split, best on the report tasks first: NDCG@5 and regret@1 with their intervals."""
    metrics = read_csv(results / "evaluation" / "metrics.csv")
    titles = read_csv(results / "evaluation" / "methods.csv").set_index("method")["title"]
    domains = pd.read_csv("config/bench/datasets.tsv", sep="\t").set_index("dataset")["domain"].to_dict()
    rows = []
    for split, targets in splits.items():
        found = summarise(metrics, targets=targets, domains=domains).set_index(["method", "metric"])
        for method in dict.fromkeys(metrics["method"]):
            values = {"method": method, "title": titles[method], "split": split}
            for metric in ("ndcg_at_5", "regret_at_1"):
                row = found.loc[(method, metric)]
                values |= {f"{metric}{end}": float(row[name]) for end, name in ENDS.items()}
            rows.append(values)
    best = {row["method"]: row["ndcg_at_5"] for row in rows if row["split"] == "report"}
    return sorted(rows, key=lambda row: (-best.get(row["method"], 0.0), row["method"], row["split"]))


def print_table(rows: Sequence[dict[str, object]]) -> None:
    """NDCG@5 and regret@1 on both splits, one line a method."""
    print(f"{'method':58s} {'split':8s} {'NDCG@5':>22s} {'regret@1':>22s}")
    for row in rows:
        cells = [f"{row[m]:.3f} [{row[m + '_low']:.3f}, {row[m + '_high']:.3f}]" for m in ("ndcg_at_5", "regret_at_1")]
        print(f"{str(row['title'])[:58]:58s} {row['split']:8s} {cells[0]:>22s} {cells[1]:>22s}")


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
    rows = main_table(RESULTS, yaml.safe_load(Path("config/bench/splits.yaml").read_text(encoding="utf-8")))
    (RESULTS / "main_table.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print_table(rows)
    print(f"written to {RESULTS / 'main_table.json'}")
    if arguments.main_only:
        return 0
    return subprocess.run([sys.executable, str(Path(__file__).with_name("write_results.py"))], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
