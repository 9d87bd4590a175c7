"""A whole results folder of made-up but mutually consistent numbers, written through vlmrank.store."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from vlmrank import store
from vlmrank.baselines import all_methods
from vlmrank.evaluation.scores import Scores, write_scores
from vlmrank.report.names import METRICS as MEASURES

SCRIPTS = Path(__file__).parents[1] / "scripts"
ARCHITECTURES = (
    ("ViT-B-32", 151.3, 87.8, 4.4),
    ("ViT-B-16", 149.6, 86.2, 17.6),
    ("ViT-L-14", 427.6, 304.0, 81.1),
    ("RN50", 102.0, 38.3, 9.6),
    ("RN101", 119.7, 56.3, 12.9),
    ("convnext_base", 151.5, 88.0, 15.4),
)
TAGS = ("openai", "laion400m_e32", "laion2b_s34b_b79k", "datacomp_xl_s13b_b90k", "commonpool_m_clip", "dfn2b")
HOSTILE = "<script>alert('x')</script>\"&amp;{{ 7*7 }}</td> --> ]]> \u2028" + "é" * 270
METRICS = {"ndcg_at_5": True, "top5_recall": True, "kendall_tau": True, "regret_at_1": False, "regret_at_5": False}
RULES = ("compute_conductance", "align_blocks", "rank_models")
METHODS = {"vlmrank": 0.7, "average_rank": 0.5, "biggest": 0.3, "random": 0.1, "oracle": 1.0}


def model_names(count: int) -> list[str]:
    """Names `<architecture>--<tag>`, as many as asked."""
    names = [f"{a[0]}--{tag}" for tag in TAGS for a in ARCHITECTURES]
    return [names[i % len(names)] + (f"_v{i // len(names)}" if i >= len(names) else "") for i in range(count)]


def write_results(
    folder: Path,
    *,
    models: int | Sequence[str] = 8,
    datasets: int = 7,
    targets: int = 1,
    images: int = 16,
    failed: Sequence[int] = (),
    broken_pairs: Sequence[tuple[int, int]] = (),
    conductance: bool = True,
    evaluation: bool = True,
    missing_accuracy: int = 0,
    hostile: bool = False,
    only_target_pairs: bool = False,
    blocks: int = 12,
    fused: bool = False,
    whole: bool = False,
    seed: int = 0,
) -> Path:
    """Write a results folder and the benchmark files beside it.

    With `whole` the page has all that it can have: every method and measure, all rules, the target's accuracies.

    `failed` models fail as a whole, `broken_pairs` (model, dataset) alone; `only_target_pairs` leaves the sources'
    pair files out, which makes hundreds of models quick.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    names = model_names(models) if isinstance(models, int) else list(models)
    broken = {(names[m], d) for m, d in broken_pairs}
    tasks = [f"target_{i}" if i < targets else f"task_{i:02d}" for i in range(datasets)]
    sources = tasks[targets:]
    classes = [HOSTILE, "cat", "dog", 'fish "quoted"'] if hostile else ["cat", "dog", "fish", "bird"]
    skill = rng.normal(size=len(names))
    truth = np.clip(0.6 + 0.1 * skill[:, None] + 0.06 * rng.normal(size=(len(names), datasets)), 0.02, 0.99)
    ids = [f"{HOSTILE if hostile and i == 0 else 'photo'} {i}.png" for i in range(images)]
    _write_cards(folder, names, tasks, targets, classes, ids, failed, hostile, rng)
    written = targets if only_target_pairs else datasets
    pairs = []
    for m, name in enumerate(names):
        if m in failed:
            pairs.append(("fetch", name, "", "failed", _reason(hostile), 0.1))
            continue
        if conductance:
            pairs += _write_model(folder, name, tasks, classes, ids, broken, blocks, written, hostile, rng)
    store.write_csv(
        folder / "pairs.csv",
        pd.DataFrame(pairs, columns=["stage", "model", "dataset", "status", "reason", "seconds"]),
    )
    _write_accuracy(folder, names, tasks, tasks if whole else sources, truth, failed, missing_accuracy, rng)
    good = [m for m in range(len(names)) if m not in failed]
    for t in range(targets):
        _write_ranking(folder, names, good, failed, sources, tasks[t], truth[:, t], conductance, hostile, fused, rng)
    if evaluation:
        _write_evaluation(folder, sources, rng, whole=whole)
        if whole:
            _write_claims(folder, names, sources, truth[:, targets:], rng)
    _write_benchmarks(folder.parent / "benchmarks", rng, whole=whole)
    return folder


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "0" * 64


def _reason(hostile: bool) -> str:
    return HOSTILE if hostile else "weights file is truncated"


def _write_cards(folder, names, tasks, targets, classes, ids, failed, hostile, rng) -> None:
    for m, name in enumerate(names):
        _, parameters, image, gflops = ARCHITECTURES[m % len(ARCHITECTURES)]
        card = {
            "model": name,
            "architecture": name.split("--")[0],
            "pretrained": name.split("--")[-1],
            "parameters": int(parameters * 1e6),
            "image_parameters": int(image * 1e6),
            "gflops": None if m % 11 == 10 else gflops,
            "family": None,
            "activation": "gelu",
            "mismatches": [_reason(hostile) if hostile else "activation: QuickGELU expected"] if m == 1 else [],
            "status": "failed" if m in failed else "ok",
            "reason": _reason(hostile) if m in failed else "",
        }
        store.write_json(folder / "models" / f"{name}.json", card)
    for d, task in enumerate(tasks):
        pictures = []
        for i, image_id in enumerate(ids):
            path = folder.parent / "images" / task / f"{i}.png"
            if d < targets:
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(path)
            pictures.append({"id": image_id, "path": str(path), "sha256": _sha256(path), "label": -1})
        card = {
            "dataset": task,
            "role": "target" if d < targets else "source",
            "domain": "photographs",
            "classes": classes,
            "templates": ["a photo of a {c}.", "a drawing of a {c}."],
            "seed": 0,
            "images": pictures,
            "failed_images": [{"id": ids[0], "reason": "cannot be decoded"}] if d == 0 else [],
            "test": None,
            "n_test": 0 if d < targets else 400,
            "status": "ok",
            "reason": "",
        }
        store.write_json(folder / "datasets" / f"{task}.json", card)


def _write_model(folder, name, tasks, classes, ids, broken, blocks, written, hostile, rng) -> list[tuple]:
    rows = []
    for d, task in enumerate(tasks):
        path = folder / "conductance" / name / f"{task}.h5"
        bad = (name, d) in broken
        rows.append(("conductance", name, task, "failed" if bad else "ok", _reason(hostile) if bad else "", 1.5))
        if d >= written:
            continue
        attributes = {
            "model": name,
            "dataset": task,
            "objective": "zero-shot",
            "baseline": "black",
            "quadrature": "arc-length",
            "precision": "float32",
            "device": "cpu",
            "seed": 0,
            "class_names": classes,
            "templates": ["a photo of a {c}."],
            "versions": {"torch": "2.14.1", "open_clip": "3.3.0", "vlmrank": "0.1.0"},
            "seconds": 1.5,
            "status": "failed" if bad else "ok",
            "reason": _reason(hostile) if bad else "",
        }
        if bad:
            store.write_pair(path, store.Pair(attributes=attributes))
            continue
        depth = np.linspace(0.5, 2, blocks)
        score = np.stack([rng.uniform(20, 30, len(ids)), rng.uniform(5, 10, len(ids))], axis=1)
        logits = rng.normal(size=(len(ids), len(classes))).astype(np.float32)
        pair = store.Pair(
            blocks={f"visual.blocks.{b}": depth[b] * rng.normal(size=(len(ids), 6)) for b in range(blocks)},
            score=score,
            delta=rng.normal(scale=0.2, size=(len(ids), blocks)),
            pseudo_label=logits.argmax(axis=1),
            image_id=ids,
            alphas=np.linspace(0, 1, 17),
            logits=logits,
            failed_images={ids[0]: "cannot be decoded"} if d == 0 else {},
            attributes=attributes,
        )
        store.write_pair(path, pair)
    bad = [d for d in range(len(tasks)) if (name, d) in broken]
    importance = rng.dirichlet(np.linspace(1, 6, blocks), size=len(tasks))
    importance[bad] = np.nan
    prior = np.linspace(1, 2, blocks)
    store.write_alignment(
        folder / "alignment" / f"{name}.h5",
        store.Alignment(tasks, importance, prior / prior.sum(), np.full(len(tasks), 1e-12), np.full(len(tasks), 40)),
    )
    place = np.linspace(0, 1, len(tasks))
    dcd = 0.1 + 0.5 * np.abs(place[:, None] - place) + 0.2 * rng.uniform(size=(len(tasks),) * 2) + 0.1 * place[:, None]
    np.fill_diagonal(dcd, 0)
    dcd[bad] = np.nan
    dcd[:, bad] = np.nan
    store.write_dcd(folder / "dcd" / f"{name}.h5", store.Divergences(tasks, dcd, np.repeat(dcd[:, :, None], 2, axis=2)))
    return rows


def _write_accuracy(folder, names, tasks, sources, truth, failed, missing, rng) -> None:
    rows = [
        (name, source, truth[m, tasks.index(source)], 400, "measured")
        for m, name in enumerate(names)
        for source in sources
        if m not in failed
    ]
    keep = rng.permutation(len(rows))[missing:] if missing else range(len(rows))
    table = pd.DataFrame([rows[i] for i in sorted(keep)], columns=["model", "dataset", "acc1", "n", "origin"])
    store.write_csv(folder / "accuracy.csv", table)


def _write_ranking(folder, names, good, failed, sources, target, truth, conductance, hostile, fused, rng) -> None:
    score = np.argsort(np.argsort(truth[good])) / max(len(good) - 1, 1) + 0.05 * rng.normal(size=len(good))
    order = np.argsort(-score)
    rows = []
    for position, g in enumerate(order, start=1):
        width = max(1, len(good) // 8)
        low, high = max(1, position - rng.integers(0, width + 1)), min(len(good), position + rng.integers(0, width + 1))
        p_top5 = float(np.clip(1.05 - position / 8, 0, 1))
        rows.append((position, names[good[g]], float(score[g]), low, high, p_top5, "ok", ""))
    rows += [(np.nan, names[m], np.nan, np.nan, np.nan, np.nan, "failed", _reason(hostile)) for m in failed]
    columns = ["rank", "model", "score", "rank_low", "rank_high", "p_top5", "status", "reason"]
    table = pd.DataFrame(rows, columns=columns)
    table[["rank", "rank_low", "rank_high"]] = table[["rank", "rank_low", "rank_high"]].astype("Int64")
    table["accuracy"] = truth[[names.index(name) for name in table["model"]]]
    table["accuracy_low"], table["accuracy_high"] = table["accuracy"] - 0.1, np.minimum(table["accuracy"] + 0.08, 1)
    table["loss"] = np.linspace(0.021, 0.3, len(table))
    table.loc[table["status"] == "failed", ["accuracy", "accuracy_low", "accuracy_high", "loss"]] = np.nan
    if fused:
        table["part: agreement"] = rng.uniform(size=len(table))
        table["part: known tasks"] = table["score"] - table["part: agreement"]
    store.write_csv(folder / "ranking" / f"{target}.csv", table)
    if not good:
        return
    facts = {"model": names[good[order[0]]], "ranked_by": "vlmrank", "title": "vlmrank", "level": 0.9}
    facts |= {"verdict": "fair", "reason": "Expected loss 2.1 points.", "known_tasks": len(sources)}
    facts |= {"known_in_top5": 2.0, "loss_known": 0.02, "loss_random": 0.1, "p_top5": 0.8, "accuracy": 0.7}
    facts |= {"accuracy_low": 0.6, "accuracy_high": 0.8, "loss": 0.021, "loss_low": 0.0, "loss_high": 0.05}
    store.write_json(folder / "ranking" / f"{target}.answer.json", facts)
    if not conductance or not sources:
        return
    weight = rng.dirichlet(np.ones(len(sources)), size=len(names))
    rows = [(names[m], s, float(rng.uniform(0.1, 0.8)), weight[m, i]) for m in good for i, s in enumerate(sources)]
    store.write_csv(
        folder / "ranking" / f"{target}.weights.csv", pd.DataFrame(rows, columns=["model", "source", "dcd", "weight"])
    )


def _write_evaluation(folder, sources, rng, *, whole=False) -> None:
    metrics, summary, differences = [], [], []
    methods, measures = METHODS, METRICS
    if whole:
        methods = {method.name: METHODS.get(method.name, 0.4) for method in all_methods()}
        measures = {metric: not metric.startswith("regret") for metric in MEASURES}
    for method, quality in methods.items():
        for metric, higher in measures.items():
            values = np.clip((quality if higher else 0.2 * (1 - quality)) + 0.1 * rng.normal(size=len(sources)), 0, 1)
            metrics += [(method, s, metric, v) for s, v in zip(sources, values, strict=True)]
            mean, half = values.mean(), 0.05
            summary.append((method, metric, mean, mean - half, mean + half, higher))
            if method != "vlmrank":
                differences.append(("vlmrank", method, metric, 0.1, -0.02, 0.2, 5, 1, 1))
    frame = pd.DataFrame
    write = store.write_csv
    write(folder / "evaluation/metrics.csv", frame(metrics, columns=["method", "target", "metric", "value"]))
    columns = ["method", "metric", "mean", "ci_low", "ci_high", "higher_is_better"]
    write(folder / "evaluation/summary.csv", frame(summary, columns=columns))
    columns = ["method", "reference", "metric", "mean", "ci_low", "ci_high", "won", "tied", "lost"]
    write(folder / "evaluation/differences.csv", frame(differences, columns=columns))


def _write_claims(folder, names, sources, truth, rng) -> None:
    """The scores of some methods, and what the answers claimed about the known tasks."""
    noisy = {"vlmrank": 0.05, "average_rank": 0.1, "confidence": 0.3, "random": 1.0, "oracle": 0.0}
    values = {
        method: (truth + spread * rng.normal(size=truth.shape))[None].repeat(2, axis=0)
        for method, spread in noisy.items()
    }
    write_scores(folder / "evaluation/scores.h5", Scores(names, sources, truth, values))
    claimed = np.linspace(0.05, 0.95, 8)
    rows = [("p_top5", c, min(1, c + 0.04), 20, max(0, c - 0.1), min(1, c + 0.15)) for c in claimed]
    rows += [("rank_interval", 0.9, 0.93, 90, 0.88, 0.98), ("p_top5_first_pick", 0.8, 1.0, 9, 1.0, 1.0)]
    rows += [("accuracy_interval_first_pick", 0.9, 0.78, 9, 0.44, 1.0), ("loss_first_pick", 0.05, 0.05, 9, 0.02, 0.08)]
    columns = ["quantity", "claimed", "seen", "cases", "low", "high"]
    store.write_csv(folder / "evaluation/calibration.csv", pd.DataFrame(rows, columns=columns))
    changes = ("as it is", "without the nearest known task", "half the images", "without agreement")
    for path in sorted((folder / "ranking").glob("*.answer.json")):
        first = store.read_json(path)["model"]
        rows = [(change, first, 0.6) for change in changes] + [(changes[2], names[-1], 0.4)]
        table = pd.DataFrame(rows, columns=["change", "model", "share"])
        store.write_csv(path.with_name(path.name.replace(".answer.json", ".sensitivity.csv")), table)


def _write_benchmarks(folder, rng, *, whole=False) -> None:
    rules = [path.stem for path in sorted(SCRIPTS.glob("*_*.py"))] if whole else RULES
    factor, memory = (900, 12512.5) if whole else (1, 512.5)
    for rule in rules:
        for job in range(4):
            path = folder / rule / f"{job}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            seconds = factor * rng.uniform(1, 9)
            path.write_text(f"s\th:m:s\tmax_rss\tcpu_time\n{seconds:.4f}\t0:00:05\t{memory}\t4.2\n")
