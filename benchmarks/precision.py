"""What precision and number of points do to the attributions, to the divergences and to the final ranking.

    python benchmarks/precision.py benchzoo --models 8 --datasets 6 --images 8
    python benchmarks/precision.py benchzoo --variants float32:64 float32:16 bfloat16:16 float32:16:left

A variant is `precision[:points[:rule]]`; all are compared with the first. The folder holds `models/<name>` (OpenCLIP's
`local-dir:`), `datasets/<name>/{dataset.yaml,target}` and `accuracy.csv` (model, dataset, acc1). Each dataset in turn
is the target, the others are the sources. Alignment, divergence and weights are those of config.yaml.

Printed are, for each variant: the relative change of the attributions (mean over blocks, images and pairs), the change
of the divergences between datasets as a share of their standard deviation, Kendall's tau between the rankings of the
models, and NDCG@5 of both against the known accuracies.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import open_clip
import pandas as pd
import torch
import yaml
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from vlmrank.conductance.options import ConductanceOptions
from vlmrank.conductance.pair import PairTask, compute_pairs
from vlmrank.datasets.prompts import read_prompts
from vlmrank.errors import VlmrankError
from vlmrank.evaluation.counterparts import dcd_of, importance_of
from vlmrank.metrics import kendall_tau_score, ndcg_at_k_score
from vlmrank.ranking import RankingOptions, aggregate_ranks
from vlmrank.representation import represent
from vlmrank.store import Pair, write_json

CONFIG = Path(__file__).parents[1] / "config.yaml"


def options_of(variant: str) -> ConductanceOptions:
    """Return the options that a variant `precision[:points[:rule]]` names."""
    precision, points, rule = [*variant.split(":"), *("16", "auto")[variant.count(":") :]]
    return ConductanceOptions(precision=precision, points=int(points), rule=rule)


def tasks_of(folder: Path, datasets: list[str], count: int) -> list[PairTask]:
    """Return the first images of each dataset."""
    tasks = []
    for name in datasets:
        prompts = read_prompts(folder / "datasets" / name / "dataset.yaml")
        paths = sorted((folder / "datasets" / name / "target").iterdir())[:count]
        images = [Image.open(path).convert("RGB") for path in paths]
        tasks.append(PairTask(name, images, [path.name for path in paths], prompts.classes, prompts.templates))
    return tasks


def pairs_of(folder: Path, model: str, tasks: list[PairTask], options: ConductanceOptions) -> list[Pair]:
    """Return the pairs of one model."""
    source = f"local-dir:{(folder / 'models' / model).resolve()}"
    net, preprocess = open_clip.create_model_from_pretrained(source)
    net = net.to("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = open_clip.get_tokenizer(source)
    loaded = SimpleNamespace(
        model=net, tokenizer=tokenizer, preprocess=preprocess, visual=net.visual, card={"model": model}
    )
    pairs = list(compute_pairs(loaded, tasks, options))
    for pair in pairs:
        if not pair.ok:
            raise VlmrankError(f"{model} on {pair.attributes['dataset']}: {pair.attributes['reason']}")
    return pairs


def relative_change(pairs: list[Pair], reference: list[Pair]) -> float:
    """Return |c - c_ref| / |c_ref|, averaged over blocks, images and pairs."""
    changes = [
        np.linalg.norm(pair.blocks[path] - values, axis=1) / np.linalg.norm(values, axis=1)
        for pair, other in zip(pairs, reference, strict=True)
        for path, values in other.blocks.items()
    ]
    return float(np.mean([change.mean() for change in changes]))


def divergences(blocks: list[list[np.ndarray]], config: dict) -> np.ndarray:
    """Return one model's DCD between all datasets from the attributions of each."""
    representations = [represent(values) for values in blocks]
    importance = importance_of(representations, [True] * len(blocks), **config["alignment"])
    return dcd_of(representations, importance, **config["divergence"])


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", type=int, default=8, help="models, evenly spread over the folder")
    parser.add_argument("--datasets", type=int, default=6, help="datasets, evenly spread over the folder")
    parser.add_argument("--images", type=int, default=8, help="images per dataset")
    parser.add_argument("--variants", nargs="+", default=["float32:16", "bfloat16:16", "float32:8"])
    parser.add_argument("--processes", type=int, default=1, help="that compute divergences")
    parser.add_argument("--json", metavar="FILE", help="also write the rows")
    options = parser.parse_args()
    if not (options.folder / "accuracy.csv").is_file():
        print(f"precision.py: {options.folder} has no accuracy.csv", file=sys.stderr)
        return 2
    table = pd.read_csv(options.folder / "accuracy.csv").pivot(index="model", columns="dataset", values="acc1")
    table = table[[not name.endswith("--trunk") for name in table.index]]
    spread = [
        np.unique(np.linspace(0, len(axis) - 1, min(n, len(axis))).astype(int))
        for axis, n in ((table.index, options.models), (table.columns, options.datasets))
    ]
    table = table.iloc[spread[0], spread[1]]
    models, datasets, truth = list(table.index), list(table.columns), table.to_numpy()
    tasks = tasks_of(options.folder, datasets, options.images)
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    weights = RankingOptions(**{name: config["ranking"][name] for name in ("kappa", "shrink")})

    results = []
    pool = ProcessPoolExecutor(options.processes, get_context("spawn")) if options.processes > 1 else None
    divide = pool.map if pool else map
    for variant in options.variants:
        pairs = [pairs_of(options.folder, model, tasks, options_of(variant)) for model in models]
        blocks = [[list(pair.blocks.values()) for pair in row] for row in pairs]
        dcd = list(divide(partial(divergences, config=config), blocks))
        scores = []
        for t in range(len(datasets)):
            sources = [s for s in range(len(datasets)) if s != t]
            divergence = np.stack([matrix[sources, t] for matrix in dcd])
            scores.append(aggregate_ranks(truth[:, sources], divergence, weights).score)
        results.append((pairs, np.stack(dcd), np.stack(scores)))
        print(f"{variant}: computed", file=sys.stderr, flush=True)

    if pool:
        pool.shutdown()
    print(
        f"{len(models)} models, {len(datasets)} datasets, {options.images} images each; against {options.variants[0]}"
    )
    print(f"{'variant':24}{'attributions':>14}{'divergences':>14}{'tau of ranks':>14}{'NDCG@5':>10}")
    rows = []
    (first_pairs, first_dcd, first_scores), off = results[0], ~np.eye(len(datasets), dtype=bool)
    for variant, (pairs, dcd, scores) in zip(options.variants, results, strict=True):
        row = {
            "variant": variant,
            "attributions": relative_change(list(chain(*pairs)), list(chain(*first_pairs))),
            "divergences": float(np.abs(dcd - first_dcd)[:, off].mean() / first_dcd[:, off].std()),
            "tau": float(
                np.mean([kendall_tau_score(truth=a, score=b) for a, b in zip(first_scores, scores, strict=True)])
            ),
            "ndcg5": float(np.mean([ndcg_at_k_score(truth=truth[:, t], score=s) for t, s in enumerate(scores)])),
        }
        rows.append(row)
        print(
            f"{variant:24}{row['attributions']:14.2e}{row['divergences']:14.4f}{row['tau']:14.4f}{row['ndcg5']:10.3f}"
        )
    if options.json:
        write_json(options.json, {"rows": rows})
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except VlmrankError as problem:
        sys.exit(f"precision.py: {problem}")
