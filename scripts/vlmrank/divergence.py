"""Directional Conductance Divergence: how much of a target's conductance a source task does not cover."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vlmrank.representation import Representation

KINDS = ("subspace", "kl", "coverage")


@dataclass(frozen=True)
class Divergence:
    """Divergences between all T datasets of one model; missing datasets give nan.

    Attributes
    ----------
    dcd : [T, T], row = source, column = target; not negative, zero diagonal.
    per_image : [T, T, K_max], the share of each image of the target (nan beyond its images): nanmean over the last
        axis is `dcd`. A single share may be negative; the mean is not.
    """

    dcd: np.ndarray
    per_image: np.ndarray


def _subspace(
    values: Sequence[np.ndarray], *, rank: int, standardise: bool, centre: np.ndarray | None, **_: object
) -> np.ndarray:
    """Shares [S, N] of one block; `values` are T arrays [K_t, C] of signed conductance, N = sum of K_t."""
    stacked = np.concatenate(values)
    rows = stacked - (stacked.mean(axis=0) if centre is None else centre)
    if standardise:
        spread = np.sqrt(np.square(rows).mean(axis=0))
        rows = np.divide(rows, spread, out=np.zeros_like(rows), where=spread > 1e-9 * spread.max(initial=1e-300))
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    owner = np.repeat(np.arange(len(values)), [len(value) for value in values])
    channels = rows.shape[1]
    basis = np.zeros((len(values), channels, min(rank, channels)))
    for index in range(len(values)):
        _, singular, right = np.linalg.svd(rows[owner == index], full_matrices=False)
        real = int((singular[:rank] > 1e-10 * max(singular[0], 1e-300)).sum()) if singular[0] > 0 else 0
        basis[index, :, :real] = right[:real].T
    covered = np.square(np.einsum("nc,scr->snr", rows, basis, optimize=True)).sum(axis=2)
    own = covered[owner, np.arange(len(rows))]
    counted = np.bincount(owner, weights=length[:, 0] > 0, minlength=len(values))
    scale = np.bincount(owner, minlength=len(values)) / np.maximum(counted, 1)
    return (own - covered) * scale[owner]


def _masses(values: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each image's channel masses in units of its dataset's mean mass [N, C], their means P [T, C], owners [N]."""
    per_image, mean = [], []
    for value in values:
        mass = np.abs(value)
        total = mass.sum() / len(mass)
        per_image.append(mass / total if total > 0 else np.full_like(mass, 1.0 / mass.shape[1]))
        mean.append(per_image[-1].mean(axis=0))
    owner = np.repeat(np.arange(len(values)), [len(value) for value in values])
    return np.concatenate(per_image), np.stack(mean), owner


def _kl(values: Sequence[np.ndarray], *, smoothing: float, **_: object) -> np.ndarray:
    """Shares [S, N] of KL(P_t | P_s), both mixed with a uniform distribution of mass `smoothing`."""
    images, means, owner = _masses(values)
    images, means = ((part + smoothing / part.shape[1]) / (1 + smoothing) for part in (images, means))
    logs = np.log(np.maximum(means, 1e-300))
    return (images * logs[owner]).sum(axis=1)[None, :] - logs @ images.T


def _coverage(values: Sequence[np.ndarray], **_: object) -> np.ndarray:
    """Shares [S, N] of sum over channels of max(0, P_t - P_s)."""
    images, means, owner = _masses(values)
    lacking = means[None, :, :] > means[:, None, :]  # [S, T, C]
    by_image = np.einsum("snc,nc->sn", lacking[:, owner], images, optimize=True)
    return by_image - np.einsum("stc,sc->st", lacking, means)[:, owner]


SHARES: dict[str, Callable[..., np.ndarray]] = {"subspace": _subspace, "kl": _kl, "coverage": _coverage}


def directional_conductance_divergence(
    representations: Sequence[Representation | None],
    importance: np.ndarray,
    *,
    kind: str = "subspace",
    rank: int = 8,
    standardise: bool = True,
    smoothing: float = 1e-3,
    centre: Sequence[np.ndarray] | None = None,
) -> Divergence:
    """Directional Conductance Divergence between all datasets of one model.

    DCD(s -> t) = sum_b w_t[b] * delta_b(s -> t), with one of three delta_b >= 0, each zero for s = t:

    - ``subspace``: T_b [K, C_b] are the target's signed channel conductances minus `centre`, each channel in units of
      its root mean square over all images of all datasets if `standardise`, then rows scaled to length 1, and
      V_s [C_b, rank] the first right singular vectors of the same matrix of the source;
      delta_b = (|T_b V_t|^2 - |T_b V_s|^2) / |T_b|^2. Not negative, because V_t is the best basis for T_b.
    - ``kl``: KL(P_t[b] | P_s[b]) of the mean channel distributions, each mixed with a uniform distribution of relative
      mass `smoothing`; in nats.
    - ``coverage``: sum over channels of max(0, P_t[b] - P_s[b]), in units of mass.

    Parameters
    ----------
    representations : T tasks of one model (the same B and C_b), None for a dataset that is missing.
    importance : [T, B], w_t of each dataset as the target; rows sum to 1.
    kind : `subspace`, `kl` or `coverage`.
    rank : >= 1, dimension of a source's subspace; about half of the number of images.
    standardise : whether all channels of a block count alike (`subspace`); a few carry most of the conductance.
    smoothing : > 0, for `kl`.
    centre : B arrays [C_b] to subtract for `subspace`; by default the mean over all images of all given datasets.

    Returns
    -------
    Divergence, row = source, column = target.

    Raises
    ------
    ValueError : unknown kind, shapes that do not fit, rank or smoothing out of range.

    References
    ----------
    Eckart, Young: The approximation of one matrix by another of lower rank, 1936 (for `subspace`).
    """
    importance = np.asarray(importance, np.float64)
    present = [index for index, task in enumerate(representations) if task is not None]
    size = len(representations)
    if kind not in SHARES:
        raise ValueError(f"unknown kind of divergence {kind!r}: one of {', '.join(KINDS)}")
    if rank < 1 or not smoothing > 0:
        raise ValueError(f"rank must be at least 1 and smoothing positive, not {rank} and {smoothing}")
    if importance.ndim != 2 or len(importance) != size:
        raise ValueError(f"importance {importance.shape} must have a row for each of {size} datasets")
    tasks = [representations[index] for index in present]
    shapes = {tuple(block.shape[1] for block in task.blocks) for task in tasks}
    if len(shapes) > 1:
        raise ValueError("the datasets have different blocks or channels: they are not of one model")
    longest = max((task.n_images for task in tasks), default=0)
    dcd, per_image = np.full((size, size), np.nan), np.full((size, size, longest), np.nan)
    if not tasks:
        return Divergence(dcd, per_image)
    n_blocks = len(tasks[0].blocks)
    weights = importance[present]
    if weights.shape[1] != n_blocks or not np.isfinite(weights).all():
        raise ValueError(f"importance must be finite [T, {n_blocks}] for the datasets that are present")
    counts = np.array([task.n_images for task in tasks])
    owner = np.repeat(np.arange(len(tasks)), counts)
    shares = np.zeros((len(tasks), len(owner)))
    options = {"rank": rank, "standardise": standardise, "smoothing": smoothing}
    for block in range(n_blocks):
        values = [task.blocks[block] for task in tasks]
        block_centre = None if centre is None else np.asarray(centre[block], np.float64)
        shares += weights[owner, block] * SHARES[kind](values, centre=block_centre, **options)
    position = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows, columns = np.array(present)[:, None], np.array(present)[owner][None, :]
    per_image[rows, columns, position[None, :]] = shares
    means = np.add.reduceat(shares, np.cumsum(counts) - counts, axis=1) / counts
    np.fill_diagonal(means, 0.0)
    dcd[np.ix_(present, present)] = np.maximum(means, 0.0)
    return Divergence(dcd, per_image)


def pair_divergence(
    *, source: Representation, target: Representation, importance: np.ndarray, **options: object
) -> float:
    """DCD(source -> target) of one pair, with the target's block importance [B]; options as for all pairs.

    Centre and spread of the channels are then those of these two datasets only, not of all datasets of the model.
    """
    both = np.stack([importance, importance])
    return float(directional_conductance_divergence([source, target], both, **options).dcd[0, 1])


def of_one_objective(
    dcd: np.ndarray, per_image: np.ndarray, names: Sequence[str], objectives: Sequence[str], *, twin: str
) -> tuple[np.ndarray, np.ndarray]:
    """Divergences between the datasets themselves, those of a target all of one objective; nan where there are none.

    It is the objective in which most datasets can be compared with the target, its own if both are equal: divergences
    of two objectives have two scales, and an order of the sources over both means nothing.

    Parameters
    ----------
    dcd : [N, N], row = source, column = target.
    per_image : [N, N, K].
    names : N datasets; one that ends in `twin` is the dataset of the name before it under another objective.
    objectives : N; empty for a pair that failed.
    twin : the ending.

    Returns
    -------
    [T, T] and [T, T, K] for the T datasets that are no twins, in their order.

    Examples
    --------
    >>> dcd = np.array([[0.0, 9.0, 9.0], [9.0, 0.0, 3.0], [9.0, 4.0, 0.0]])
    >>> names, objectives = ["cars", "mine", "cars@e"], ["zero-shot", "embedding", "embedding"]
    >>> of_one_objective(dcd, dcd[..., None], names, objectives, twin="@e")[0]
    array([[0., 4.],
           [3., 0.]])
    """
    place = {name: index for index, name in enumerate(names)}
    own = [index for index, name in enumerate(names) if not name.endswith(twin)]
    forms = [[index, *(place[name] for name in (names[index] + twin,) if name in place)] for index in own]
    picked, shares = np.full((len(own),) * 2, np.nan), np.full((len(own),) * 2 + per_image.shape[2:], np.nan)
    for column, targets in enumerate(forms):
        choices = []
        for target in (form for form in targets if objectives[form]):
            alike = [[form for form in forms_of if objectives[form] == objectives[target]] for forms_of in forms]
            choices.append((target, alike))
        if not choices:
            continue
        target, alike = max(choices, key=lambda choice: sum(map(bool, choice[1])))  # the first of equals: its own
        for row, found in enumerate(alike):
            if found:
                picked[row, column], shares[row, column] = dcd[found[0], target], per_image[found[0], target]
    return picked, shares
