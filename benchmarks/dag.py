"""Dry-run many models on many datasets, and an empty workflow with the same jobs: what the workflow itself costs.

Everything is made up in a temporary folder: sheets, empty weight files, one-pixel images. Both dry runs are timed in
turn, three times, and the least of each counts, by the processor's time and by the clock; others on the machine disturb
the first less. Memory is the most that the head process held.

    python benchmarks/dag.py [--models 300] [--datasets 40] [--finished] [--tree OTHER_CHECKOUT]

With `--finished` all result files are there and nothing is to be done; with `--tree` another checkout is timed as well.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml
from PIL import Image

from vlmrank.store import Pair, write_pair

FIGURES = ("processor", "clock", "megabytes")
ROOT = Path(__file__).resolve().parent.parent

# The same jobs with the same numbers of inputs and outputs, and nothing else.
EMPTY = """
MODELS, DATASETS = {models}, {datasets}
localrules: fetch_model, prepare_dataset, gather_accuracy, gather_pairs, check_pairs
rule all:
    input: "complete.txt"
rule fetch_model:
    output: "models/{{model}}.json"
    shell: "touch {{output}}"
rule prepare_dataset:
    output: "datasets/{{dataset}}.json"
    shell: "touch {{output}}"
rule compute_conductance:
    input: "models/{{model}}.json", expand("datasets/{{dataset}}.json", dataset=DATASETS)
    output: expand("conductance/{{{{model}}}}/{{dataset}}.h5", dataset=DATASETS)
    shell: "touch {{output}}"
rule measure_accuracy:
    input: "models/{{model}}.json", expand("datasets/{{dataset}}.json", dataset=DATASETS)
    output: expand("accuracy/{{{{model}}}}/{{dataset}}.json", dataset=DATASETS)
    shell: "touch {{output}}"
rule align_blocks:
    input: expand("conductance/{{{{model}}}}/{{dataset}}.h5", dataset=DATASETS)
    output: "alignment/{{model}}.h5", "predictions/{{model}}.csv"
    shell: "touch {{output}}"
rule compute_dcd:
    input: expand("conductance/{{{{model}}}}/{{dataset}}.h5", dataset=DATASETS), "alignment/{{model}}.h5"
    output: "dcd/{{model}}.h5"
    shell: "touch {{output}}"
rule gather_evidence:
    input: expand("conductance/{{{{model}}}}/{{dataset}}.h5", dataset=DATASETS)
    output: "evidence/{{model}}.h5"
    shell: "touch {{output}}"
rule gather_accuracy:
    input: expand("accuracy/{{model}}/{{dataset}}.json", model=MODELS, dataset=DATASETS)
    output: "accuracy.csv"
    shell: "touch {{output}}"
rule relate_classes:
    input: expand("datasets/{{dataset}}.json", dataset=DATASETS)
    output: "classes.h5"
    shell: "touch {{output}}"
rule evaluate_methods:
    input: expand("evidence/{{model}}.h5", model=MODELS), "accuracy.csv", "classes.h5"
    output: "metrics.csv"
    shell: "touch {{output}}"
rule rank_models:
    input: expand("dcd/{{model}}.h5", model=MODELS), "accuracy.csv"
    output: "ranking.csv"
    shell: "touch {{output}}"
rule gather_pairs:
    input:
        expand("conductance/{{model}}/{{dataset}}.h5", model=MODELS, dataset=DATASETS),
        expand("accuracy/{{model}}/{{dataset}}.json", model=MODELS, dataset=DATASETS),
        expand("alignment/{{model}}.h5", model=MODELS),
    output: "pairs.csv"
    shell: "touch {{output}}"
rule build_report:
    input: "pairs.csv", "metrics.csv", "ranking.csv"
    output: "report.html"
    shell: "touch {{output}}"
rule check_pairs:
    input: "report.html"
    output: "complete.txt"
    shell: "touch {{output}}"
"""


def make_up(folder: Path, models: int, datasets: int) -> None:
    """Write the sheets, models and images of a run that is never computed."""
    rows = ["model\tarchitecture"]
    for number in range(models):
        name = f"Arch-{number // 10}--tag-{number}"
        weights = folder / "zoo" / name / "open_clip_model.safetensors"
        weights.parent.mkdir(parents=True)
        weights.touch()
        (weights.parent / "open_clip_config.json").write_text('{"model_cfg": {}}')
        rows.append(f"{name}\tlocal-dir:zoo/{name}")
    (folder / "models.tsv").write_text("\n".join(rows) + "\n")
    rows = ["dataset\trole\tkind\tpath"]
    for number in range(datasets):
        image = folder / "images" / f"d{number}" / "thing" / "0.png"
        image.parent.mkdir(parents=True)
        Image.new("RGB", (1, 1)).save(image)
        rows.append(f"d{number}\t{'source' if number else 'target'}\tfolder\timages/d{number}")
    (folder / "datasets.tsv").write_text("\n".join(rows) + "\n")
    config = {"models": "models.tsv", "datasets": "datasets.tsv", "demo": {"build": False}}
    (folder / "own.yaml").write_text(yaml.safe_dump(config))


@dataclass(frozen=True)
class Cost:
    """What a dry run takes: seconds of the processor and of the clock, megabytes, and the number of its jobs."""

    processor: float
    clock: float
    megabytes: float
    jobs: int


def snakemake(folder: Path, *arguments: str) -> tuple[str, Cost]:
    """Run Snakemake without a profile; what it printed, and what it cost."""
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--workflow-profile", "none", *arguments]
    with (folder / "printed.txt").open("w+") as printed:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=printed, stderr=printed)
        _, status, usage = os.wait4(process.pid, 0)
        clock = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        text = printed.read()
    if process.returncode:
        raise SystemExit(text)
    jobs = re.search(r"^ *total +(\d+)", text, re.M)
    return text, Cost(usage.ru_utime + usage.ru_stime, clock, usage.ru_maxrss / 1000, int(jobs[1]) if jobs else 0)


def dry_run(folder: Path, *arguments: str) -> Cost:
    """Cost of a dry run."""
    return snakemake(folder, "-n", "--quiet", "rules", *arguments)[1]


# What comes after what, by folder.
ORDER = {"models": 1, "datasets": 1, "conductance": 2, "accuracy": 2, "alignment": 3, "predictions": 3}


def finish(folder: Path, *arguments: str) -> None:
    """Write every output of the workflow, each later than what it is made of."""
    table, _ = snakemake(folder, "--summary", *arguments)
    names = [line.split("\t")[0] for line in table.splitlines() if line.count("\t") == 5][1:]
    sealed = folder / "sealed.h5"
    write_pair(sealed, Pair(attributes={"status": "ok"}))
    for name in names:
        path = folder / name
        top = name.split("/")[1] if name.count("/") > 1 else ""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".h5":
            shutil.copy(sealed, path)
        else:
            path.write_text("{}" if path.suffix == ".json" else "stage,model,dataset,status,reason\n")
        moment = 2e9 + (ORDER.get(top, 5) if top else 6)
        os.utime(path, (moment, moment))


def main() -> None:
    """Print the costs of the dry runs and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=300)
    parser.add_argument("--datasets", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--finished", action="store_true", help="with all result files there")
    parser.add_argument("--tree", type=Path, help="another checkout to time as well")
    arguments = parser.parse_args()
    trees = {"workflow": ROOT} | ({"other": arguments.tree.resolve()} if arguments.tree else {})
    with tempfile.TemporaryDirectory() as folder:
        runs = {"empty": (Path(folder) / "empty", ())}
        for name, tree in trees.items():
            runs[name] = Path(folder) / name, ("--snakefile", str(tree / "Snakefile"), "--configfile", "own.yaml")
        for name, (place, options) in runs.items():
            place.mkdir()
            if name == "empty":
                names = (
                    [f"m{number}" for number in range(arguments.models)],
                    [f"d{n}" for n in range(arguments.datasets)],
                )
                (place / "Snakefile").write_text(EMPTY.format(models=names[0], datasets=names[1]))
            else:
                make_up(place, arguments.models, arguments.datasets)
            if arguments.finished:
                finish(place, *options)
        costs = {name: [] for name in runs}
        for _ in range(arguments.repeats):
            for name, (place, options) in runs.items():
                costs[name].append(dry_run(place, *options))
    print(f"models\t{arguments.models}\ndatasets\t{arguments.datasets}")
    print("\tjobs\tprocessor s\tclock s\tMB")
    best = {name: [min(getattr(cost, what) for cost in found) for what in FIGURES] for name, found in costs.items()}
    for name, (processor, clock, megabytes) in best.items():
        print(f"{name}\t{costs[name][0].jobs}\t{processor:.1f}\t{clock:.1f}\t{megabytes:.0f}")
    for name in best.keys() - {"workflow"}:
        ratios = [ours / theirs for ours, theirs in zip(best["workflow"], best[name], strict=True)]
        print(f"workflow / {name}\t\t" + "\t".join(f"{ratio:.2f}" for ratio in ratios))


if __name__ == "__main__":
    main()
