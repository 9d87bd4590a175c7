"""Ablations of the method: other block weights and other divergences between the same tasks."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from vlmrank.alignment import AlignmentError, align_blocks, block_prior
from vlmrank.divergence import directional_conductance_divergence
from vlmrank.representation import Representation


def importance_of(
    tasks: Sequence[Representation | None], is_source: Sequence[bool], *, epsilon: float, rho: float | str, depth: float
) -> np.ndarray:
    """Block importance [T, B] of every dataset as target; nan rows for missing ones and those that cannot be aligned.

    The prior is the mean profile of the sources among `tasks` (of all, where none of them is a source).
    """
    present = [task for task, source in zip(tasks, is_source, strict=True) if task is not None and source]
    present = present or [task for task in tasks if task is not None]
    if not present:
        return np.full((len(tasks), 0), np.nan)
    prior = block_prior(np.stack([task.block_profile for task in present]), depth=depth)
    importance = np.full((len(tasks), len(prior)), np.nan)
    for index, task in enumerate(tasks):
        if task is not None:
            with contextlib.suppress(AlignmentError):  # the alignment stage reports it
                importance[index] = align_blocks(task.block_mass, prior, epsilon=epsilon, rho=float(rho)).importance
    return importance


def aligned(tasks: Sequence[Representation | None], importance: np.ndarray) -> list[Representation | None]:
    """The representations for which an importance is known."""
    known = np.isfinite(importance).all(axis=1) & (importance.shape[1] > 0)
    return [task if there else None for task, there in zip(tasks, known, strict=True)]


def jensen_shannon_divergence(tasks: Sequence[Representation | None], importance: np.ndarray) -> np.ndarray:
    """Symmetric [T, T]: sum over blocks of both's mean importance times the Jensen-Shannon distance of P_s and P_t."""
    return _symmetric(tasks, importance, lambda values: cdist(values, values, "jensenshannon"), "channel_distribution")


def cosine_divergence(tasks: Sequence[Representation | None], importance: np.ndarray) -> np.ndarray:
    """Symmetric [T, T]: sum over blocks of both's mean importance times 1 - cosine of the mean signed conductances.

    The model's mean over its datasets is subtracted first, as in the directional divergence.
    """
    return _symmetric(tasks, importance, _centred_cosine, "blocks")


def _centred_cosine(values: np.ndarray) -> np.ndarray:
    return _cosine_distance(values - values.mean(axis=0))


def _cosine_distance(values: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(values, axis=1, keepdims=True)
    unit = np.divide(values, length, out=np.zeros_like(values), where=length > 0)
    return 1.0 - unit @ unit.T


def _symmetric(tasks, importance, distance, name: str) -> np.ndarray:
    present = [index for index, task in enumerate(tasks) if task is not None]
    result = np.full((len(tasks), len(tasks)), np.nan)
    if not present:
        return result
    total = np.zeros((len(present), len(present)))
    for block in range(importance.shape[1]):
        parts = [getattr(tasks[index], name)[block] for index in present]
        vectors = np.stack([part.mean(axis=0) if part.ndim == 2 else part for part in parts])
        weight = importance[present, block]
        total += (weight[:, None] + weight[None, :]) / 2 * np.nan_to_num(distance(vectors), nan=1.0)
    np.fill_diagonal(total, 0.0)
    result[np.ix_(present, present)] = total
    return result


def embedding_divergence(embeddings: Sequence[np.ndarray | None]) -> np.ndarray:
    """Symmetric [T, T]: 1 - cosine of the mean image embeddings, minus the mean over the datasets."""
    present = [index for index, values in enumerate(embeddings) if values is not None and len(values)]
    result = np.full((len(embeddings), len(embeddings)), np.nan)
    if present:
        means = np.stack([np.asarray(embeddings[index], np.float64).mean(axis=0) for index in present])
        distance = _centred_cosine(means)
        np.fill_diagonal(distance, 0.0)
        result[np.ix_(present, present)] = distance
    return result


def divergences_of(
    tasks: Sequence[Representation | None], importance: np.ndarray, dcd: np.ndarray | None = None, **divergence: Any
) -> dict[str, np.ndarray]:
    """DCD and its counterparts [T, T] on the same representation; all nan if no dataset is available.

    Parameters
    ----------
    tasks : T representations of one model, None for a failed pair.
    importance : [T, B], as `importance_of` gives it.
    dcd : if known already.
    divergence : settings of `vlmrank.divergence.directional_conductance_divergence`.
    """
    dcd = dcd_of(tasks, importance, **divergence) if dcd is None else dcd
    uniform = np.where(np.isnan(importance), np.nan, 1.0 / max(importance.shape[1], 1))
    return {
        "dcd": dcd,
        "symmetric": (dcd + dcd.T) / 2,
        "cosine": cosine_divergence(tasks, importance),
        "jensen_shannon": jensen_shannon_divergence(tasks, importance),
        "uniform_blocks": dcd_of(tasks, uniform, **divergence),
    }


def dcd_of(tasks: Sequence[Representation | None], importance: np.ndarray, **divergence: Any) -> np.ndarray:
    """DCD alone [T, T], nan where there is no pair; arguments as in `divergences_of`."""
    if all(task is None for task in tasks):
        return np.full((len(tasks), len(tasks)), np.nan)
    return directional_conductance_divergence(tasks, importance, **divergence).dcd
