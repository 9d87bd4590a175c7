"""Task representation: one dataset's channel and block conductances in one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Representation:
    """Conductance of one model on one dataset, summarised; K images, B blocks, C_b channels.

    Attributes
    ----------
    blocks : B arrays [K, C_b], signed channel conductance in logits.
    block_mass : [K, B], g[k, b] = sum over channels of |c[k, b, :]|, in logits.
    channel_distribution : B arrays [C_b], mean over images of |c|, normalised within the block (sums to 1; all zeros
        for a block without any conductance).
    block_profile : [B], q[b] = mean over images of g[k, b] / sum_b g[k, b] (sums to 1).
    """

    blocks: tuple[np.ndarray, ...]
    block_mass: np.ndarray
    channel_distribution: tuple[np.ndarray, ...]
    block_profile: np.ndarray

    @property
    def n_images(self) -> int:
        """Number of images K."""
        return len(self.block_mass)


def block_shares(block_mass: np.ndarray) -> np.ndarray:
    """Share of each block in an image's conductance, g[k, b] / sum_b g[k, b]: [K, B], rows sum to 1.

    An image without any conductance says nothing about the blocks: its row is uniform.
    """
    total = block_mass.sum(axis=1, keepdims=True)
    uniform = np.full_like(block_mass, 1.0 / block_mass.shape[1])
    return np.divide(block_mass, total, out=uniform, where=total > 0)


def represent(blocks: Sequence[np.ndarray]) -> Representation:
    """Summarise the signed channel conductance of one (model, dataset) pair.

    Parameters
    ----------
    blocks : B arrays [K, C_b], signed channel conductance c[k, b, :] in logits, the same K >= 1 images in each.

    Raises
    ------
    ValueError : no block, no image, blocks of different K, or values that are not finite.

    Examples
    --------
    >>> task = represent([np.array([[1.0, -3.0]]), np.array([[2.0, 2.0, 0.0]])])
    >>> task.block_mass
    array([[4., 4.]])
    >>> task.channel_distribution[0]
    array([0.25, 0.75])
    """
    signed = tuple(np.asarray(values, np.float64) for values in blocks)
    if not signed:
        raise ValueError("no blocks to represent")
    if any(values.ndim != 2 for values in signed) or len({len(values) for values in signed}) != 1 or not len(signed[0]):
        raise ValueError(f"blocks must be [K, C_b] with one K >= 1, not {[values.shape for values in signed]}")
    if not all(np.isfinite(values).all() for values in signed):
        raise ValueError("conductance holds values that are not finite")
    block_mass = np.stack([np.abs(values).sum(axis=1) for values in signed], axis=1)
    channels = []
    for values in signed:
        mean = np.abs(values).mean(axis=0)
        total = mean.sum()
        channels.append(mean / total if total > 0 else mean)
    return Representation(
        blocks=signed,
        block_mass=block_mass,
        channel_distribution=tuple(channels),
        block_profile=block_shares(block_mass).mean(axis=0),
    )
