"""Dry-run many models on many datasets, and an empty workflow with the same jobs: what the workflow itself costs.

Everything is made up in a temporary folder: sheets, empty weight files, one-pixel images. Both dry runs are timed in
turn, three times, and the least of each counts, by the processor's time and by the clock; others on the machine disturb
the first less.

    python benchmarks/dag.py [--models 300] [--datasets 40]
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from PIL import Image

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


def spent() -> float:
    """Processor seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def dry_run(folder: Path, *arguments: str) -> tuple[tuple[float, float], int]:
    """Seconds of a dry run, by the processor and by the clock, and the number of its jobs."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--cores",
        "1",
        "-n",
        "--quiet",
        "rules",
        "--workflow-profile",
        "none",
    ]
    before, started = spent(), time.perf_counter()
    done = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    seconds = spent() - before, time.perf_counter() - started
    return seconds, int(re.search(r"^ *total +(\d+)", done.stdout + done.stderr, re.M)[1])


def main() -> None:
    """Print the seconds of both dry runs and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=300)
    parser.add_argument("--datasets", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ours, empty = Path(folder) / "ours", Path(folder) / "empty"
        ours.mkdir()
        empty.mkdir()
        make_up(ours, arguments.models, arguments.datasets)
        names = [f"m{number}" for number in range(arguments.models)], [f"d{n}" for n in range(arguments.datasets)]
        (empty / "Snakefile").write_text(EMPTY.format(models=names[0], datasets=names[1]))
        times, jobs = {"empty": [], "workflow": []}, {}
        for _ in range(arguments.repeats):
            for name, place, options in (
                ("empty", empty, ()),
                ("workflow", ours, ("--snakefile", str(ROOT / "Snakefile"), "--configfile", "own.yaml")),
            ):
                seconds, jobs[name] = dry_run(place, *options)
                times[name].append(seconds)
    best = {name: tuple(map(min, zip(*seconds, strict=True))) for name, seconds in times.items()}
    print(f"models\t{arguments.models}\ndatasets\t{arguments.datasets}")
    print("\tjobs\tprocessor s\tclock s")
    for name, (processor, clock) in best.items():
        print(f"{name}\t{jobs[name]}\t{processor:.1f}\t{clock:.1f}")
    ratios = [ours / empty for ours, empty in zip(best["workflow"], best["empty"], strict=True)]
    print("ratio\t\t" + "\t".join(f"{ratio:.2f}" for ratio in ratios))


if __name__ == "__main__":
    main()
