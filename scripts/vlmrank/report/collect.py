"""Read a results folder into one object; what is absent stays empty and is left out of the page."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vlmrank import store
from vlmrank.errors import UNTRIED, VlmrankError
from vlmrank.models.registry import family_of

RANKING_COLUMNS = ["rank", "model", "score", "rank_low", "rank_high", "p_top5", "status", "reason"]
TABLES = {  # the columns that the page reads
    "weights": ["model", "source", "dcd", "weight"],
    "accuracy": ["model", "dataset", "acc1", "n", "origin"],
    "metrics": ["method", "target", "metric", "value"],
    "summary": ["method", "metric", "mean", "ci_low", "ci_high", "higher_is_better"],
    "differences": ["method", "reference", "metric", "mean", "ci_low", "ci_high", "won", "tied", "lost"],
    "pairs": ["stage", "model", "dataset", "status", "reason", "seconds"],
}
PART = "part: "  # how the column of a part of the score begins


@dataclass(frozen=True)
class Model:
    """What the page says of a model besides its rank; sizes are counts, GFLOPs are of the image tower for one image,
    `weights` is their SHA-256."""

    name: str
    family: str
    parameters: float | None = None
    image_parameters: float | None = None
    gflops: float | None = None
    status: str = store.OK
    reason: str = ""
    mismatches: tuple[str, ...] = ()
    weights: str = ""

    @property
    def label(self) -> str:
        """The name to read: architecture and tag apart."""
        return self.name.replace("--", " · ", 1)


@dataclass(frozen=True)
class PairQuality:
    """How one pair was computed: what the quality table needs of it."""

    model: str
    dataset: str
    status: str
    reason: str
    gap: float  # median over images and blocks of |delta| / |F(x) - F(x')|, nan where unknown
    error: float  # median change at the last refinement of an adaptive quadrature, nan where not adaptive
    points: int
    images: int
    attributed: int
    failed_images: tuple[tuple[str, str], ...]
    seconds: float
    device: str
    precision: str
    objective: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Profile:
    """A target over a model's blocks: conductance profile [B] and aligned importance [B], each sums to 1."""

    conductance: np.ndarray | None
    importance: np.ndarray | None


@dataclass(frozen=True)
class Run:
    """Everything that the page is made from; tables are empty and mappings lack keys where files are absent."""

    models: tuple[Model, ...]
    datasets: tuple[Mapping[str, Any], ...]
    targets: tuple[str, ...]
    rankings: Mapping[str, pd.DataFrame]
    facts: Mapping[str, Mapping[str, Any]]
    weights: Mapping[str, pd.DataFrame]
    accuracy: pd.DataFrame
    unmatched: int
    metrics: pd.DataFrame
    summary: pd.DataFrame
    differences: pd.DataFrame
    pairs: pd.DataFrame
    quality: tuple[PairQuality, ...]
    alignment: Mapping[str, store.Alignment]
    divergences: Mapping[str, store.Divergences]
    profiles: Mapping[tuple[str, str], Profile]
    timings: pd.DataFrame
    unreadable: Mapping[str, str] = field(default_factory=dict)

    @property
    def sources(self) -> tuple[str, ...]:
        """Datasets that are not targets."""
        return tuple(d["dataset"] for d in self.datasets if d["dataset"] not in self.targets)


def part_columns(table: pd.DataFrame) -> dict[str, str]:
    """Column -> title of the parts whose sum is the score of a ranking.

    >>> part_columns(pd.DataFrame({"score": [1.0], "part: agreement": [1.0]}))
    {'part: agreement': 'agreement'}
    """
    return {name: name.removeprefix(PART) for name in map(str, table.columns) if name.startswith(PART)}


class _Reader:
    """Reads what exists, remembers what could not be read."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.unreadable: dict[str, str] = {}

    def get(self, name: str, read: Any, default: Any = None) -> Any:
        path = self.results / name
        if not path.is_file() or path.stat().st_size == 0:
            return default
        try:
            return read(path)
        except (VlmrankError, ValueError, KeyError, OSError) as error:
            self.unreadable[name] = f"{type(error).__name__}: {error}"
            return default

    def table(self, name: str, columns: Sequence[str] = ()) -> pd.DataFrame:
        table = self.get(name, store.read_csv)
        if table is not None and (lacking := [column for column in columns if column not in table.columns]):
            self.unreadable[name] = f"lacks the columns {', '.join(lacking)}"
            table = None
        return pd.DataFrame(columns=list(columns)) if table is None else table


def _names(folder: Path, suffix: str) -> list[str]:
    return sorted(path.name[: -len(suffix)] for path in folder.glob(f"*{suffix}") if not path.name.startswith("."))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and np.isfinite(value) else None


def _model(name: str, card: Mapping[str, Any] | None) -> Model:
    card = card or {}
    return Model(
        name=name,
        family=str(card.get("family") or family_of(name.split("--")[0])),
        parameters=_number(card.get("parameters")),
        image_parameters=_number(card.get("image_parameters")),
        gflops=_number(card.get("gflops")),
        status=str(card.get("status") or store.OK),
        reason=str(card.get("reason") or ""),
        weights=str(card.get("weights_sha256") or ""),
        mismatches=tuple(str(m) for m in card.get("mismatches") or ()),
    )


def _median(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else float("nan")


def relative_gap(score: np.ndarray, delta: np.ndarray) -> float:
    """Median over images and blocks of |delta| / |F(x) - F(x')|; `score` is [K, 2] and `delta` [K, B].

    >>> relative_gap(np.array([[3.0, 1.0]]), np.array([[0.1, -0.2, 0.3]]))
    0.1
    """
    if delta.size == 0:
        return float("nan")
    with np.errstate(divide="ignore", invalid="ignore"):
        return _median(np.abs(delta) / np.abs(score[:, 0] - score[:, 1])[:, None])


def _pair_quality(model: str, dataset: str, pair: store.Pair) -> PairQuality:
    attributes = pair.attributes
    versions = attributes.get("versions")
    error = np.asarray(pair.error, float) if pair.error is not None else np.empty(0)
    return PairQuality(
        model=model,
        dataset=dataset,
        status=str(attributes.get("status", store.OK)),
        reason=str(attributes.get("reason") or ""),
        gap=relative_gap(np.asarray(pair.score, float), np.asarray(pair.delta, float)),
        error=_median(error),
        points=max(len(pair.alphas) - 1, 0),
        images=len(pair.predicted_id),
        attributed=len(pair.image_id),
        failed_images=tuple(pair.failed_images.items()),
        seconds=_number(attributes.get("seconds")) or 0.0,
        device=str(attributes.get("device") or ""),
        precision=str(attributes.get("precision") or ""),
        objective=str(attributes.get("objective") or ""),
        versions=versions if isinstance(versions, Mapping) else {},
    )


def _conductance_profile(pair: store.Pair) -> np.ndarray | None:
    """Mean over images of each block's share of the summed |conductance|: q[b] of the method."""
    if not pair.blocks or not len(pair.image_id):
        return None
    mass = np.stack([np.abs(np.asarray(c, np.float64)).sum(axis=1) for c in pair.blocks.values()], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nanmean(mass / mass.sum(axis=1, keepdims=True), axis=0)


def _timings(folder: Path | None) -> pd.DataFrame:
    """Jobs, seconds and memory by rule, from Snakemake's benchmark files `<rule>/**/*.tsv`."""
    rows = []
    for rule in sorted(path for path in folder.iterdir() if path.is_dir()) if folder and folder.is_dir() else ():
        seconds, memory, cpu = [], [], []
        for path in rule.rglob("*.tsv"):
            try:
                table = pd.read_csv(path, sep="\t", na_values=["-"])
            except (ValueError, OSError):
                continue
            if "s" not in table:
                continue
            seconds += [float(s) for s in table["s"].dropna()]
            memory += [float(m) for m in table.get("max_rss", pd.Series(dtype=float)).dropna()]
            cpu += [float(c) for c in table.get("cpu_time", pd.Series(dtype=float)).dropna()]
        if seconds:
            rows.append(
                {
                    "rule": rule.name,
                    "jobs": len(seconds),
                    "seconds": sum(seconds),
                    "median": statistics.median(seconds),
                    "longest": max(seconds),
                    "cpu": sum(cpu) if cpu else float("nan"),
                    "memory": max(memory) if memory else float("nan"),
                }
            )
    return pd.DataFrame(rows, columns=["rule", "jobs", "seconds", "median", "longest", "cpu", "memory"])


def collect(
    results: str | Path,
    *,
    models: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    benchmarks: str | Path | None = None,
) -> Run:
    """Read the results folder; see `vlmrank.report.build.build_report` for the parameters."""
    results = Path(results)
    reader = _Reader(results)
    rankings = {
        name: reader.table(f"ranking/{name}.csv", RANKING_COLUMNS)
        for name in _names(results / "ranking", ".csv")
        if not name.endswith(".weights")
    }
    if models is None:
        known = set(_names(results / "models", ".json")).union(*(set(r["model"]) for r in rankings.values()))
        models = sorted(known)
    if datasets is None:
        datasets = _names(results / "datasets", ".json")
    cards = [(reader.get(f"datasets/{name}.json", store.read_json) or {}) | {"dataset": name} for name in datasets]
    targets = [card["dataset"] for card in cards if card.get("role") == "target" and card["dataset"] in rankings]
    targets = targets or [name for name in rankings if name in datasets] or sorted(rankings)
    alignment = _by_model(reader, models, "alignment", store.read_alignment)
    quality, profiles = _pairs(reader, models, datasets, targets, alignment)
    untried = {
        row.model: {"status": row.status, "reason": row.reason}
        for table in rankings.values()
        for row in table[table["status"] == UNTRIED].itertuples()
    }
    return Run(
        models=tuple(
            _model(name, {**(reader.get(f"models/{name}.json", store.read_json) or {}), **untried.get(name, {})})
            for name in models
        ),
        datasets=tuple(cards),
        targets=tuple(targets),
        rankings={name: rankings[name][rankings[name]["model"].isin(set(models))] for name in targets},
        facts={name: reader.get(f"ranking/{name}.answer.json", store.read_json) or {} for name in targets},
        weights={name: reader.table(f"ranking/{name}.weights.csv", TABLES["weights"]) for name in targets},
        accuracy=reader.table("accuracy.csv", TABLES["accuracy"]),
        unmatched=len(reader.table("accuracy_unmatched.csv")),
        metrics=reader.table("evaluation/metrics.csv", TABLES["metrics"]),
        summary=reader.table("evaluation/summary.csv", TABLES["summary"]),
        differences=reader.table("evaluation/differences.csv", TABLES["differences"]),
        pairs=reader.table("pairs.csv", TABLES["pairs"]),
        quality=quality,
        alignment=alignment,
        divergences=_by_model(reader, models, "dcd", store.read_dcd),
        profiles=profiles,
        timings=_timings(Path(benchmarks) if benchmarks else None),
        unreadable=reader.unreadable,
    )


def _by_model(reader: _Reader, models: Sequence[str], folder: str, read: Any) -> dict[str, Any]:
    """Model -> content of its file in a folder, of those that have one."""
    found = {model: reader.get(f"{folder}/{model}.h5", read) for model in models}
    return {model: content for model, content in found.items() if content is not None}


def _pairs(
    reader: _Reader,
    models: Sequence[str],
    datasets: Sequence[str],
    targets: Sequence[str],
    alignment: Mapping[str, store.Alignment],
) -> tuple[tuple[PairQuality, ...], dict[tuple[str, str], Profile]]:
    """How each pair was computed, and the profiles of the targets."""
    quality, profiles = [], {}
    for model in models:
        for name in datasets:
            read = functools.partial(store.read_pair, blocks=name in targets)
            pair = reader.get(f"conductance/{model}/{name}.h5", read)
            if pair is None:
                continue
            quality.append(_pair_quality(model, name, pair))
            if name in targets:
                profiles[model, name] = Profile(_conductance_profile(pair), _importance(alignment.get(model), name))
    return tuple(quality), profiles


def _importance(alignment: store.Alignment | None, dataset: str) -> np.ndarray | None:
    if alignment is None or dataset not in alignment.datasets:
        return None
    row = alignment.importance[list(alignment.datasets).index(dataset)]
    return row if np.isfinite(row).all() else None
