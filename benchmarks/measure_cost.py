"""CPU seconds of a new target for one model of each tower of the bench: conductance of K images, accuracy on 400.

PYTHONPATH=scripts python benchmarks/measure_cost.py [--results results/bench] [--images 16] [--dataset cifar10]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd
import torch

from vlmrank.conductance.options import ConductanceOptions
from vlmrank.conductance.pair import PairTask, compute_pairs
from vlmrank.datasets.decode import read_image
from vlmrank.datasets.prompts import read_prompts
from vlmrank.store import write_csv
from vlmrank.zoo import load_model


def main() -> None:
    """Measure and write <results>/cost.csv: tower, images, conductance_s, test_images, accuracy_s."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results/bench"))
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--dataset", default="cifar10")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path("benchzoo/datasets") / arguments.dataset
    prompts = read_prompts(folder / "dataset.yaml")
    target = sorted((folder / "target").iterdir())[: arguments.images]
    test = sorted((folder / "test").glob("*/*"))[:400]
    towers = {path.name.split("--")[0]: path for path in sorted(Path("benchzoo/models").glob("*--corpus0"))}
    rows = []
    for tower, path in towers.items():
        loaded = load_model(f"local-dir:{path}")
        started = time.process_time()
        task = PairTask(
            dataset=arguments.dataset,
            images=[read_image({"path": str(one)}) for one in target],
            image_ids=[one.name for one in target],
            classes=prompts.classes,
            templates=prompts.templates,
        )
        (pair,) = compute_pairs(loaded, [task], ConductanceOptions(device="cpu"))
        assert pair.ok, pair.attributes
        conductance = time.process_time() - started
        started = time.process_time()
        pixels = torch.stack([loaded.preprocess(read_image({"path": str(one)})) for one in test])
        with torch.no_grad():
            for part in pixels.split(64):
                loaded.model.encode_image(part)
        rows.append((tower, len(target), conductance, len(test), time.process_time() - started))
    table = pd.DataFrame(rows, columns=["tower", "images", "conductance_s", "test_images", "accuracy_s"])
    write_csv(arguments.results / "cost.csv", table)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
