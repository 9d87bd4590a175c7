"""Align arrays of several models image by image; images that failed for a model are nan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def place_by_image(values: np.ndarray, have: Sequence[str], want: Sequence[str]) -> np.ndarray:
    """Rearrange values [..., K] of the images `have` to [..., len(want)], nan for images not among them.

    Examples
    --------
    >>> place_by_image(np.array([1.0, 2.0]), ["a", "c"], ["a", "b", "c"])
    array([ 1., nan,  2.])
    """
    values = np.asarray(values, np.float64)
    found = np.full((*values.shape[:-1], len(want)), np.nan)
    column = {name: place for place, name in enumerate(want)}
    chosen = [place for place, name in enumerate(have) if name in column]
    found[..., [column[have[place]] for place in chosen]] = values[..., chosen]
    return found


def stack_by_image(
    values: Sequence[np.ndarray], image_ids: Sequence[Sequence[str]]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """One array for all models, and the images of its last axis.

    Parameters
    ----------
    values : M arrays [..., K_m], of which the first entries of the last axis are the images of the model.
    image_ids : M sequences of identifiers; empty for a model that failed.

    Returns
    -------
    [M, ..., K] over all images that any model has, in the order of their first appearance; nan where a model has none.
    """
    images = tuple(dict.fromkeys(name for ids in image_ids for name in ids))
    stacked = [
        place_by_image(np.asarray(one)[..., : len(ids)], list(ids), images)
        for one, ids in zip(values, image_ids, strict=True)
    ]
    return np.stack(stacked), images


def mean_by_image(values: np.ndarray) -> np.ndarray:
    """Mean [M] of [M, K] over the images that a model has; nan where it has none."""
    known = np.isfinite(values)
    total, count = np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1)
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)
