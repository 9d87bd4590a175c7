"""Target-conditioned block importance: entropic transport between a target's images and a model's blocks."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, softmax

from vlmrank.representation import block_shares

os.environ.setdefault("POT_BACKEND_DISABLE_PYTORCH", "1")  # POT imports torch where it finds it; the arrays are numpy's
import ot

FLOOR = 1e-12  # smallest share of conductance that counts: keeps the cost of an unused block finite


class AlignmentError(ValueError):
    """The transport did not converge: its plan must not be used."""


@dataclass(frozen=True)
class BlockAlignment:
    """Outcome of `align_blocks`; K images, B blocks.

    Attributes
    ----------
    importance : [B], w = G^T 1, sums to 1.
    plan : [K, B], G; each row sums to 1/K.
    mass : sum of the plan as the solver returned it (1 at convergence).
    marginal_error : largest absolute gap between the solver's row sums and 1/K.
    iterations : of the solver; 0 for the closed form.
    """

    importance: np.ndarray
    plan: np.ndarray
    mass: float
    marginal_error: float
    iterations: int


def block_prior(profiles: np.ndarray, *, depth: float = 0.0) -> np.ndarray:
    """Prior importance of a model's blocks: the mean profile of its sources, leaning to late blocks.

    pi[b] is proportional to mean_s q_s[b] * exp(depth * b / B), b = 1..B.

    Parameters
    ----------
    profiles : [S, B], block profiles of the sources (rows sum to 1; rows with nan are left out).
    depth : lambda; 0 leaves the mean profile, 3 makes the last block about 20 times as important as the first.

    Returns
    -------
    [B], positive, sums to 1.

    Examples
    --------
    >>> block_prior(np.array([[0.5, 0.5], [0.25, 0.75]]))
    array([0.375, 0.625])
    """
    profiles = np.atleast_2d(np.asarray(profiles, np.float64))
    known = profiles[np.isfinite(profiles).all(axis=1)]
    if not len(known):
        raise ValueError("no source has a block profile: the prior is unknown")
    n_blocks = known.shape[1]
    lean = np.exp(depth * (np.arange(1, n_blocks + 1) / n_blocks - 1.0))
    prior = np.maximum(known.mean(axis=0), FLOOR) * lean
    return prior / prior.sum()


def alignment_cost(block_mass: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Cost of moving an image to a block: -log of the image's lift there, centred per image.

    cost[k, b] = -log((g[k, b] / sum_b g[k, b]) / pi[b]) minus its mean over b. [K, B], in nats.
    """
    block_mass, prior = np.asarray(block_mass, np.float64), np.asarray(prior, np.float64)
    if block_mass.ndim != 2 or prior.shape != block_mass.shape[1:]:
        raise ValueError(f"block_mass {block_mass.shape} and prior {prior.shape} do not fit: [K, B] and [B]")
    if not np.isfinite(block_mass).all() or (block_mass < 0).any():
        raise ValueError("block mass must be finite and not negative")
    if not (prior > 0).all() or abs(prior.sum() - 1) > 1e-6:
        raise ValueError("the prior must be positive and sum to 1")
    cost = np.log(prior) - np.log(np.maximum(block_shares(block_mass), FLOOR))
    return cost - cost.mean(axis=1, keepdims=True)


def _pot_semi_relaxed(
    images: np.ndarray,
    prior: np.ndarray,
    cost: np.ndarray,
    epsilon: float,
    rho: float,
    tolerance: float,
    max_iterations: int,
) -> tuple[np.ndarray, float, int]:
    """Plan, violation of optimality and iterations of POT's stabilised scaling; the caller judges the plan."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # the violation says more than its warnings
        plan, log = ot.unbalanced.sinkhorn_unbalanced(
            images,
            prior,
            cost,
            epsilon,
            (np.inf, rho),
            method="sinkhorn_stabilized",
            numItermax=min(max_iterations, 10_000),
            stopThr=min(tolerance, 1e-9) / 100,
            log=True,
        )
        violation = np.abs(plan.sum(axis=0) - prior * np.exp(-log["logv"] * epsilon / rho)).sum()
    # POT looks at its error at the first and every tenth iteration
    return plan, float(violation), 10 * (len(log["err"]) - 1) + 1


def _log_semi_relaxed(
    images: np.ndarray,
    prior: np.ndarray,
    cost: np.ndarray,
    epsilon: float,
    rho: float,
    tolerance: float,
    max_iterations: int,
) -> tuple[np.ndarray, float, int]:
    """The same scaling on logarithms throughout, slower: for costs that are large against epsilon."""
    log_kernel = np.log(images)[:, None] + np.log(prior)[None, :] - cost / epsilon
    blocks, hold = np.zeros_like(prior), rho / (rho + epsilon)
    iteration, violation = 0, np.inf
    while violation > tolerance / 10 and iteration < max_iterations:
        iteration += 1
        log_rows = log_kernel + blocks[None, :]
        log_rows += (np.log(images) - logsumexp(log_rows, axis=1))[:, None]
        column = logsumexp(log_rows, axis=0)
        violation = np.abs(np.exp(column) - prior * np.exp(-blocks * epsilon / rho)).sum()
        blocks = hold * (np.log(prior) - (column - blocks))
    return np.exp(log_rows), float(violation), iteration


def _check_informative(block_mass: np.ndarray) -> None:
    most, least = block_mass.max(axis=1), block_mass.min(axis=1)
    if not most.any():
        raise AlignmentError("the conductance of every block is zero: the score does not depend on the images")
    if block_mass.shape[1] > 1 and (most - least <= 1e-9 * most).all():
        raise AlignmentError("the conductance is the same in every block, so that none is more important than another")


def align_blocks(
    block_mass: np.ndarray,
    prior: np.ndarray,
    *,
    epsilon: float = 1.0,
    rho: float = 1.0,
    tolerance: float = 1e-8,
    max_iterations: int = 100_000,
) -> BlockAlignment:
    """Align a target's images with a model's blocks and read off the importance of the blocks.

    The plan G >= 0 [K, B] minimises, subject to G 1 = a with a = 1/K for each image,

        <G, cost> + epsilon * KL(G | a x pi) + rho * KL(G^T 1 | pi)

    and the importance is w = G^T 1. The cost is that of `alignment_cost`: an image likes the blocks where its
    conductance is higher than the prior expects. rho = inf is balanced transport, w = pi (no conditioning); rho = 0 has
    the closed form G[k, :] = softmax(log pi - cost[k, :] / epsilon) / K. In between POT's stabilised scaling solves it,
    and the answer is checked against the conditions of optimality, which are G 1 = a and w = pi * exp(-g / rho) with g
    the potential of the blocks. Where POT's answer fails the check (epsilon small against the costs), the same scaling
    is done on logarithms throughout, which POT has only for balanced transport.

    Parameters
    ----------
    block_mass : [K, B], g >= 0, in logits; only each row's proportions matter.
    prior : [B], pi > 0, sums to 1.
    epsilon : > 0, entropic smoothing, in nats of lift: small follows the images, large stays near the prior.
    rho : >= 0 or inf, how strongly the importance is held to the prior, in nats.
    tolerance : largest accepted violation of either condition, in units of mass.
    max_iterations : of the solver.

    Returns
    -------
    BlockAlignment, whose plan has exact row sums (one last scaling of the rows).

    Raises
    ------
    ValueError : shapes or values out of range.
    AlignmentError : no convergence to `tolerance` within `max_iterations`; or the masses say nothing, being zero
        throughout or equal in all of several blocks.

    References
    ----------
    Chizat, Peyré, Schmitzer, Vialard: Scaling algorithms for unbalanced transport problems, 2016.

    Examples
    --------
    >>> mass = np.array([[3.0, 1.0], [3.0, 1.0]])
    >>> align_blocks(mass, np.array([0.5, 0.5]), epsilon=1.0, rho=0.0).importance
    array([0.75, 0.25])
    >>> align_blocks(mass, np.array([0.5, 0.5]), epsilon=1.0, rho=np.inf).importance.round(6)
    array([0.5, 0.5])
    """
    if not epsilon > 0 or not np.isfinite(epsilon):
        raise ValueError(f"epsilon must be positive and finite, not {epsilon}")
    if not rho >= 0:
        raise ValueError(f"rho must be 0, positive or inf, not {rho}")
    cost = alignment_cost(block_mass, prior)
    _check_informative(np.asarray(block_mass, np.float64))
    prior = np.asarray(prior, np.float64) / np.sum(prior)
    n_images = len(cost)
    images = np.full(n_images, 1.0 / n_images)
    iterations, violation = 0, 0.0
    if rho == 0:
        plan = softmax(np.log(prior) - cost / epsilon, axis=1) / n_images
    elif np.isinf(rho):
        plan, log = ot.sinkhorn(
            images,
            prior,
            cost,
            epsilon,
            method="sinkhorn_log",
            numItermax=max_iterations,
            stopThr=tolerance / 10,
            log=True,
            warn=False,
        )
        iterations = int(log["niter"]) + 1
        violation = float(np.abs(plan.sum(axis=0) - prior).sum())
    else:
        plan, violation, iterations = _pot_semi_relaxed(images, prior, cost, epsilon, rho, tolerance, max_iterations)
        if not (max(violation, np.abs(plan.sum(axis=1) - images).sum()) <= tolerance):
            plan, violation, iterations = _log_semi_relaxed(
                images, prior, cost, epsilon, rho, tolerance, max_iterations
            )
    rows = plan.sum(axis=1)
    marginal_error = float(np.abs(rows - images).max())
    if not (max(violation, marginal_error * n_images) <= tolerance):
        raise AlignmentError(
            f"the alignment did not converge (epsilon {epsilon:g}, rho {rho:g}): rows off by {marginal_error:.1e}, "
            f"optimality off by {violation:.1e} after {iterations} iterations; take a larger epsilon or a smaller rho"
        )
    exact = plan * (images / rows)[:, None]
    importance = exact.sum(axis=0)
    return BlockAlignment(importance / importance.sum(), exact, float(rows.sum()), marginal_error, iterations)
