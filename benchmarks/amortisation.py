"""What starting processes and loading models costs: the workflow's conductance stage over one process that loops.

Both compute the same pairs of the bench (benchzoo/ at the repository's root) on one core, one after the other, each
into an empty result store. A third number is the same with one process per pair, for one model.

    python benchmarks/amortisation.py [--models 3] [--datasets 21] [--images 64]

64 images are what config/bench.yaml takes; with fewer, starting a process weighs more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def some(sheet: Path, count: int, folder: Path) -> list[str]:
    """Copy a sheet's header and `count` rows spread over it; return the names in the first column."""
    header, *rows = sheet.read_text().splitlines()
    chosen = [rows[i * len(rows) // count] for i in range(min(count, len(rows)))]
    (folder / sheet.name).write_text("\n".join([header, *chosen]) + "\n")
    return [row.split("\t")[0] for row in chosen]


def snakemake(folder: Path, *targets: str) -> float:
    """Seconds of a run of the workflow up to some rules."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--configfile", "own.yaml"]
    options = ["--cores", "1", "--workflow-profile", "none", "--quiet", "all", "--until", *targets]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, *options], cwd=folder, env={**os.environ, **THREADS}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - started


def loop(folder: Path, models: list[str], datasets: list[str]) -> float:
    """Seconds of one process that computes all pairs, imports and loads included."""
    code = f"""
import sys
sys.path.insert(0, {str(ROOT / "scripts")!r})
import torch
torch.set_num_threads(1)
from vlmrank.jobs.compute_conductance import compute_conductance
from vlmrank.jobs.pool import JobSettings
from vlmrank.workflow.config import check_config, read_schema
from vlmrank.store.identities import FREE_OPTIONS
from vlmrank.store import read_json
import yaml
config = check_config(yaml.safe_load(open("own.yaml")), read_schema({str(ROOT / "schemas/config.schema.yaml")!r}))
section = config["conductance"]
cards = [read_json(f"results/datasets/{{name}}.json") for name in {datasets!r}]
for model in {models!r}:
    compute_conductance(
        read_json(f"results/models/{{model}}.json"), cards, [f"loop/{{model}}/{{name}}.h5" for name in {datasets!r}],
        {{k: v for k, v in section.items() if k not in FREE_OPTIONS}},
        JobSettings("loop/store", "loop", device=section["device"]), batch=section["batch"],
    )
"""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, **THREADS},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - started


def main() -> None:
    """Print the seconds of each way and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=3)
    parser.add_argument("--datasets", type=int, default=21)
    parser.add_argument("--images", type=int, default=64)
    arguments = parser.parse_args()
    bench = Path(os.environ.get("VLMRANK_BENCHZOO", ROOT / "benchzoo")).resolve()
    if not bench.is_dir():
        raise SystemExit(f"{bench} is not there: the bench has to be unpacked first")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "benchzoo").symlink_to(bench)
        models = some(ROOT / "config/bench/models.tsv", arguments.models, folder)
        datasets = some(ROOT / "config/bench/datasets.tsv", arguments.datasets, folder)
        config = {
            "models": "models.tsv",
            "datasets": "datasets.tsv",
            "demo": {"build": False},
            "images": {"per_dataset": arguments.images},
            "accuracy": {"measure": False},
            "conductance": {"device": "cpu"},
        }
        (folder / "own.yaml").write_text(yaml.safe_dump(config))
        snakemake(folder, "fetch_model", "prepare_dataset")
        one_process = loop(folder, models, datasets)
        workflow = snakemake(folder, "compute_conductance")
        pairs = len(models) * len(datasets)

        (folder / "models.tsv").write_text("\n".join((folder / "models.tsv").read_text().splitlines()[:2]) + "\n")
        config["conductance"] |= {"datasets_per_job": 1}
        config |= {"results": "single"}
        (folder / "own.yaml").write_text(yaml.safe_dump(config))
        snakemake(folder, "fetch_model", "prepare_dataset")
        rules = ["compute_conductance", *(f"compute_conductance_{n}" for n in range(1, len(datasets)))]
        single = snakemake(folder, *rules)
    print(f"pairs\t{len(models)} models x {len(datasets)} datasets, {arguments.images} images each")
    loop_pair = one_process / pairs
    for what, seconds, count in (
        ("one process in a loop", one_process, pairs),
        ("the workflow, a process per model", workflow, pairs),
        ("a process per pair, one model", single, len(datasets)),
    ):
        print(f"{what}\t{seconds:.1f} s\t{seconds / count:.2f} s per pair\t{seconds / count / loop_pair:.2f}")


if __name__ == "__main__":
    main()
