"""Read the pair files for the page: how each pair was computed, and the targets' block profiles."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlmrank import store
from vlmrank.report.reader import Reader, number


@dataclass(frozen=True)
class PairQuality:
    """How one pair was computed, for the quality table."""

    model: str
    dataset: str
    status: str
    reason: str
    gap: float  # median over images and blocks of |delta| / |F(x) - F(x')|, nan if unknown
    error: float  # median change at the last refinement of an adaptive quadrature, nan if not adaptive
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
        seconds=number(attributes.get("seconds")) or 0.0,
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


def _importance(alignment: store.Alignment | None, dataset: str) -> np.ndarray | None:
    if alignment is None or dataset not in alignment.datasets:
        return None
    row = alignment.importance[list(alignment.datasets).index(dataset)]
    return row if np.isfinite(row).all() else None


def read_pairs(
    reader: Reader,
    models: Sequence[str],
    datasets: Sequence[str],
    targets: Sequence[str],
    alignment: Mapping[str, store.Alignment],
) -> tuple[list[PairQuality], dict[tuple[str, str], Profile]]:
    """The quality of every pair, and the profiles of the targets' pairs."""
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
    return quality, profiles
