"""Images a second of the two kinds of passes, for one model of each tower of the bench, on one thread.

    python benchmarks/measure_cost.py [--results results/bench] [--models benchzoo/models] [--dataset cifar10]

Writes <results>/cost.csv: tower, images, points, forward_per_s (an image through the visual encoder), conductance_per_s
(an image's conductance in all blocks). The median of three repeats; pictures are decoded beforehand.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from vlmrank.conductance.options import ConductanceOptions
from vlmrank.conductance.pair import PairTask, compute_pairs
from vlmrank.datasets.decode import read_image
from vlmrank.datasets.prompts import read_prompts
from vlmrank.store import write_csv
from vlmrank.zoo import LoadedModel, load_model

REPEATS = 3


def seconds(work: Callable[[], object]) -> float:
    """Median CPU seconds of three repeats, after one that does not count."""
    work()
    taken = []
    for _ in range(REPEATS):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return float(np.median(taken))


def forward(loaded: LoadedModel, task: PairTask, options: ConductanceOptions) -> None:
    """Embed the task's images."""
    pixels = torch.stack([loaded.preprocess(picture) for picture in task.images])
    with torch.no_grad():
        loaded.model.encode_image(pixels)


def conductance(loaded: LoadedModel, task: PairTask, options: ConductanceOptions) -> None:
    """Compute their conductance."""
    (pair,) = compute_pairs(loaded, [task], options)
    assert pair.ok, pair.attributes["reason"]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results/bench"))
    parser.add_argument("--models", type=Path, default=Path("benchzoo/models"))
    parser.add_argument("--datasets", type=Path, default=Path("benchzoo/datasets"))
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--points", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.datasets / arguments.dataset
    prompts = read_prompts(folder / "dataset.yaml")
    files = [path for path in sorted((folder / "target").iterdir()) if path.is_file()][: arguments.images]
    pictures = [read_image({"path": str(path)}) for path in files]
    towers = {path.name.split("--")[0]: path for path in sorted(arguments.models.glob("*--corpus0"))}
    options = ConductanceOptions(device="cpu", points=arguments.points)
    rows = []
    for tower, path in towers.items():
        loaded = load_model(f"local-dir:{path}")
        task = PairTask(
            dataset=arguments.dataset,
            images=pictures,
            image_ids=[path.name for path in files],
            classes=prompts.classes,
            templates=prompts.templates,
        )
        rates = [len(files) / seconds(partial(work, loaded, task, options)) for work in (forward, conductance)]
        rows.append((tower, len(files), arguments.points, *rates))
    table = pd.DataFrame(rows, columns=["tower", "images", "points", "forward_per_s", "conductance_per_s"])
    write_csv(arguments.results / "cost.csv", table)
    print(table.round(2).to_string(index=False))


if __name__ == "__main__":
    main()
