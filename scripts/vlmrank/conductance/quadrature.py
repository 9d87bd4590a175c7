"""Quadrature rules: nodes and weights on the path from the baseline to the image.

The path is x(alpha), alpha from 0 (baseline) to 1 (image). It is walked in a coordinate t in [0, 1] in which the block
outputs h move at an even speed (`arc_length_curve`), and is integrated with one of these rules on n + 1 nodes:

- `clenshaw-curtis`: the path is cut into panels of about 8 steps. In a panel with Chebyshev nodes t_0 < ... < t_m both
  the gradients g and the outputs h are replaced by the polynomials through their values, and the integral of g dh
  is taken exactly (`stieltjes_matrix`): sum_ij S_ij g_i h_j, with S_ij = integral of L_i dL_j. Spectral for smooth
  towers, at the price of the trapezoid: one forward and one backward pass per node. m = 1 is the trapezoid.
- `secant`: for towers of ReLU and linear layers, whose gradients jump along the path. See `vlmrank.conductance.layer`.
- `trapezoid`: sum_j (g_j + g_{j+1}) / 2 (h_{j+1} - h_j).
- `left`: sum_j g_j (h_{j+1} - h_j), captum's rule, first order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from vlmrank.errors import VlmrankError
from vlmrank.models.blocks import Block

PANEL = 8
RULES = ("clenshaw-curtis", "secant", "trapezoid", "left")


def _check_points(points: int) -> None:
    if points < 1:
        raise VlmrankError(f"a path needs at least 1 step, not {points}")


def panel_degrees(points: int, rule: str = "clenshaw-curtis", size: int = PANEL) -> tuple[int, ...]:
    """Return the number of steps of each panel: `points` cut into near-equal panels of at most `size`.

    Examples
    --------
    >>> panel_degrees(16), panel_degrees(20), panel_degrees(3), panel_degrees(3, "trapezoid")
    ((8, 8), (7, 7, 6), (3,), (1, 1, 1))
    """
    _check_points(points)
    if rule not in RULES:
        raise VlmrankError(f"rule {rule!r} is none of {', '.join(RULES)}")
    if rule != "clenshaw-curtis":
        return (1,) * points
    count = -(-points // size)
    return tuple(points // count + (i < points % count) for i in range(count))


def chebyshev_nodes(degree: int) -> np.ndarray:
    """Return the `degree` + 1 Chebyshev-Lobatto nodes (1 - cos(pi i / degree)) / 2 on [0, 1].

    Those of twice the degree contain them. Source: Clenshaw and Curtis, Numer. Math. 2 (1960) 197.

    Examples
    --------
    >>> chebyshev_nodes(4).round(4)
    array([0.    , 0.1464, 0.5   , 0.8536, 1.    ])
    """
    return (1 - np.cos(np.pi * np.arange(degree + 1) / degree)) / 2


def stieltjes_matrix(nodes: np.ndarray, rule: str = "clenshaw-curtis") -> np.ndarray:
    """Return S [m+1, m+1] so that sum_ij S_ij g(t_i) h(t_j) = integral of g dh for polynomials g, h of degree m.

    S_ij = integral over [t_0, t_m] of L_i(t) L_j'(t) dt with the Lagrange polynomials L of the nodes. Its rows sum to
    zero (a constant h does not move) and S + S^T = diag(-1, 0, ..., 0, 1) (integration by parts); it does not
    depend on the scale of t.

    Parameters
    ----------
    nodes : float64 [m+1], increasing.
    rule : `left` gives [[-1, 1], [0, 0]] for two nodes; every other rule the matrix above.

    Examples
    --------
    >>> stieltjes_matrix(np.array([0.0, 1.0]))
    array([[-0.5,  0.5],
           [-0.5,  0.5]])
    """
    nodes = np.asarray(nodes, np.float64)
    if rule == "left":
        return np.array([[-1.0, 1.0], [0.0, 0.0]])
    m = len(nodes) - 1
    t = 2 * (nodes - nodes[0]) / (nodes[-1] - nodes[0]) - 1
    gaps = t[:, None] - t[None] + np.eye(m + 1)
    weights = 1 / np.prod(2 * gaps, axis=1)  # barycentric, Berrut and Trefethen, SIAM Review 46 (2004) 501
    derivative = weights[None] / weights[:, None] / gaps
    np.fill_diagonal(derivative, 0.0)
    np.fill_diagonal(derivative, -derivative.sum(1))
    x, w = np.polynomial.legendre.leggauss(m + 1)
    distances = x[:, None] - t[None]
    exact = np.abs(distances) < 1e-15
    values = weights / np.where(exact, 1.0, distances)
    values[exact.any(1)] = exact[exact.any(1)]
    values = values / values.sum(1, keepdims=True)
    return (values * w[:, None]).T @ (values @ derivative)


def step_mean_matrix(alphas: np.ndarray, degree: int = 3) -> np.ndarray:
    """Return W [n, n+1] so that sum_i W_ji g(alpha_i) is the mean of g over step j.

    Through the `degree` + 1 nodes around each step goes a polynomial, whose mean is exact; degree 1 gives
    (g_j + g_{j+1}) / 2.

    Examples
    --------
    >>> step_mean_matrix(np.array([0.0, 0.5, 1.0]), degree=2) * 24
    array([[10., 16., -2.],
           [-2., 16., 10.]])
    """
    alphas = np.asarray(alphas, np.float64)
    n = len(alphas) - 1
    degree = min(degree, n)
    x, w = np.polynomial.legendre.leggauss(degree // 2 + 1)
    means = np.zeros((n, n + 1))
    for j in range(n):
        first = min(max(j - (degree - 1) // 2, 0), n - degree)
        support = np.arange(first, first + degree + 1)
        points = alphas[j] + (x + 1) / 2 * (alphas[j + 1] - alphas[j])
        for i in support:
            others = alphas[support[support != i]]
            means[j, i] = (w / 2) @ np.prod((points[:, None] - others) / (alphas[i] - others), axis=1)
    return means


def path_positions(points: int, rule: str = "clenshaw-curtis", degrees: Sequence[int] | None = None) -> np.ndarray:
    """Return the n + 1 nodes in the coordinate t: Chebyshev nodes in each panel, or equally spaced ones.

    Examples
    --------
    >>> path_positions(4, "trapezoid")
    array([0.  , 0.25, 0.5 , 0.75, 1.  ])
    >>> path_positions(4).round(4)
    array([0.    , 0.1464, 0.5   , 0.8536, 1.    ])
    """
    degrees = panel_degrees(points, rule) if degrees is None else tuple(degrees)
    ends = np.concatenate([[0.0], np.cumsum(degrees)]) / sum(degrees)
    panels = [a + (b - a) * chebyshev_nodes(m)[1:] for a, b, m in zip(ends, ends[1:], degrees, strict=False)]
    return np.concatenate([[0.0], *panels[:-1], panels[-1][:-1], [1.0]])


def uniform_curve(t: np.ndarray) -> np.ndarray:
    """Return alpha = t: nodes without regard to the network."""
    return np.asarray(t, np.float64)


def equal_length_curve(probe: np.ndarray, length: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the smooth map from the share t of a curve's length to the position alpha where it is reached.

    Parameters
    ----------
    probe : float64 [P], increasing positions from 0 to 1.
    length : float64 [P], length of the curve from 0 to each position; not decreasing.

    Examples
    --------
    >>> curve = equal_length_curve(np.array([0.0, 0.25, 0.5, 1.0]), np.array([0.0, 2.0, 3.0, 4.0]))
    >>> curve(np.array([0.0, 0.5, 1.0])).round(2)
    array([0.  , 0.25, 1.  ])
    """
    total = float(length[-1])
    if not np.isfinite(total) or total <= 0:
        return uniform_curve
    # One per cent of uniform speed keeps nodes apart where nothing moves.
    share = 0.99 * np.asarray(length) / total + 0.01 * np.asarray(probe)
    inverse = PchipInterpolator(share, probe)

    def curve(t: np.ndarray) -> np.ndarray:
        alphas = np.clip(inverse(np.asarray(t, np.float64)), 0.0, 1.0)
        alphas[..., 0], alphas[..., -1] = t[0], t[-1]
        return alphas

    return curve


def arc_length_curve(
    forward: Callable[[Tensor], Tensor],
    blocks: Sequence[Block],
    images: Tensor,
    baseline: Tensor,
    *,
    probe: int = 16,
    images_probed: int = 2,
    batch: int = 16,
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the map t -> alpha along which the block outputs move at an even speed, from forward passes only.

    The length of the path of block b for image k between two probed positions is |h_b(alpha') - h_b(alpha)|; each
    block's lengths are divided by their sum over the path, then averaged over blocks and images. The probed positions
    are (i / probe)^2: in towers with LayerNorm most of the length lies at small alpha.

    Parameters
    ----------
    forward, blocks : as in `vlmrank.conductance.layer.layer_conductance`.
    images : [K, 3, H, W], of which `images_probed`, evenly spread, are used.
    baseline : [K, 3, H, W] or anything that broadcasts to it.
    probe : number of probed steps. With 16 steps and 2 images the attributions are as accurate as with 64 and all.
    batch : images per forward pass.
    """
    positions = np.linspace(0.0, 1.0, probe + 1) ** 2
    baseline = baseline.to(images).expand_as(images)
    chosen = np.unique(np.linspace(0, len(images) - 1, min(images_probed, len(images))).astype(int))
    steps = np.zeros((len(chosen), len(blocks), probe))
    outputs: dict[str, Tensor] = {}

    def keep(path: str):
        return lambda _module, _args, output: outputs.__setitem__(path, output.detach().flatten(1).clone())

    handles = [block.module.register_forward_hook(keep(block.path)) for block in blocks]
    try:
        with torch.no_grad():
            for row, k in enumerate(chosen):
                previous: dict[str, Tensor] = {}
                for start in range(0, probe + 1, batch):
                    alpha = torch.as_tensor(positions[start : start + batch]).to(images)
                    forward(torch.lerp(baseline[k], images[k], alpha.view(-1, *[1] * (images.ndim - 1))))
                    first = max(start - 1, 0)
                    for b, block in enumerate(blocks):
                        h = outputs[block.path]
                        if start:
                            h = torch.cat([previous[block.path], h])
                        moved = (h[1:] - h[:-1]).float().norm(dim=1).double().cpu().numpy()
                        steps[row, b, first : first + len(moved)] = moved
                        previous[block.path] = h[-1:].clone()
                    outputs.clear()
    finally:
        for handle in handles:
            handle.remove()
    usable = np.isfinite(steps).all((1, 2))
    if not usable.any():
        return uniform_curve
    share = steps[usable] / np.maximum(steps[usable].sum(-1, keepdims=True), np.finfo(float).tiny)
    return equal_length_curve(positions, np.concatenate([[0.0], np.cumsum(share.mean((0, 1)))]))
