import numpy as np
import pytest
import torch
from torch import nn

from vlmrank.conductance.quadrature import (
    arc_length_curve,
    chebyshev_nodes,
    equal_length_curve,
    panel_degrees,
    path_positions,
    step_mean_matrix,
    stieltjes_matrix,
    uniform_curve,
)
from vlmrank.errors import VlmrankError
from vlmrank.models.blocks import Block


@pytest.mark.parametrize("degree", [1, 2, 3, 8, 16, 32])
def test_a_panel_is_exact_for_polynomials(degree):
    t = 3 + 2 * chebyshev_nodes(degree)
    matrix = stieltjes_matrix(t)
    np.testing.assert_allclose(matrix.sum(1), 0, atol=1e-12)
    expected = np.zeros_like(matrix)
    expected[0, 0], expected[-1, -1] = -1, 1
    np.testing.assert_allclose(matrix + matrix.T, expected, atol=1e-12)
    g, h = np.polynomial.Chebyshev([0.3, -1, 0.5][: degree + 1]), np.polynomial.Chebyshev([1, 2, 0.7][: degree + 1])
    u = t - 4  # around the middle, where the polynomials are tame
    antiderivative = (g * h.deriv()).integ()
    np.testing.assert_allclose(g(u) @ matrix @ h(u), antiderivative(u[-1]) - antiderivative(u[0]), rtol=1e-12)


def test_doubled_panels_contain_the_old_nodes():
    for degrees in ((8, 8), (7, 6), (1, 1, 1)):
        coarse = path_positions(sum(degrees), degrees=degrees)
        fine = path_positions(2 * sum(degrees), degrees=[2 * m for m in degrees])
        np.testing.assert_allclose(fine[::2], coarse, rtol=0, atol=1e-15)


def test_step_means_are_exact_for_cubics():
    alphas = np.array([0.0, 0.1, 0.25, 0.5, 0.6, 1.0])
    g = np.polynomial.Polynomial([1.0, -2.0, 3.0, 0.5])
    antiderivative = g.integ()
    expected = np.diff(antiderivative(alphas)) / np.diff(alphas)
    np.testing.assert_allclose(step_mean_matrix(alphas) @ g(alphas), expected, rtol=1e-12)
    np.testing.assert_allclose(step_mean_matrix(alphas, degree=1)[1], [0, 0.5, 0.5, 0, 0, 0], rtol=0, atol=1e-15)


def test_positions_increase_from_0_to_1():
    for rule in ("clenshaw-curtis", "trapezoid", "secant", "left"):
        for points in (1, 2, 7, 16, 33):
            t = path_positions(points, rule)
            assert len(t) == points + 1 and t[0] == 0 and t[-1] == 1 and (np.diff(t) > 0).all()
            assert sum(panel_degrees(points, rule)) == points
    for points in (0, -3):
        with pytest.raises(VlmrankError, match="at least 1 step"):
            path_positions(points)


def test_a_curve_without_length_is_uniform():
    probe = np.linspace(0, 1, 5)
    for length in (np.zeros(5), np.full(5, np.nan)):
        np.testing.assert_allclose(equal_length_curve(probe, length)(probe), probe)


class Square(nn.Module):
    """h = x^4 in one block: a quarter of the length lies below alpha = 0.25 ** 0.25."""

    def __init__(self):
        super().__init__()
        self.block = nn.Identity()

    def forward(self, x):
        return self.block(x**4).flatten(1)


def test_arc_length_puts_nodes_where_the_outputs_move():
    net = Square()
    blocks = [Block("block", net.block, 3, 1)]
    images = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.5
    images[0] = torch.nan  # an image that cannot be used does not spoil the schedule
    for batch in (1, 3, 16):
        curve = arc_length_curve(net, blocks, images, torch.zeros(1, 3, 4, 4), images_probed=5, batch=batch, probe=64)
        t = np.linspace(0, 1, 9)
        np.testing.assert_allclose(curve(t)[1:], t[1:] ** 0.25, rtol=0, atol=0.02)
        assert (np.diff(curve(t)) > 0).all() and not net.block._forward_hooks
    images[:] = torch.nan
    assert arc_length_curve(net, blocks, images, torch.zeros(1, 3, 4, 4)) is uniform_curve
