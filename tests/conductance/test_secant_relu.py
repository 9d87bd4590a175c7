"""The secant rule: exact for towers of ReLU and linear layers, attention pool included."""

import numpy as np
import pytest
import torch
from conductance_problem import problem, resnet
from torch import nn

from vlmrank.conductance.layer import layer_conductance
from vlmrank.conductance.quadrature import path_positions, uniform_curve
from vlmrank.conductance.secant_relu import (
    AttentionHead,
    Carry,
    _times_slope,
    is_piecewise_linear,
    secant_relus,
    step_mean,
)
from vlmrank.models.blocks import Block


def test_slopes_by_hand():
    z = torch.tensor([-1.0, 1.0, 3.0, -3.0, -5.0, 0.0, 0.0, 2.0])
    expected = [0.5, 1.0, 0.5, 0.0, 0.0, 0.0, 1.0]
    slopes = torch.empty(7)
    _times_slope(torch.ones(7), z[:-1], z[1:], slopes)
    np.testing.assert_allclose(slopes, expected, rtol=1e-6)
    relu, x = nn.ReLU(inplace=True), z[:, None].clone().requires_grad_()
    with secant_relus([Block("relu", relu, 1, 1)]):
        (gradient,) = torch.autograd.grad(relu(x).sum(), x)
    np.testing.assert_allclose(gradient[:, 0], [0, *expected], rtol=1e-6)
    np.testing.assert_allclose(relu(z.clone()), z.clamp_min(0))


def test_a_step_between_two_passes_is_carried_over():
    z, carry, relu = torch.tensor([-1.0, 1.0, 3.0, -3.0])[:, None], Carry(), nn.ReLU()
    gradients = []
    with secant_relus([Block("relu", relu, 1, 1)], carry):
        for part in (z[:2], z[2:], z[2:]):  # the second pass fails and is run again
            carry.begin()
            x = part.clone().requires_grad_()
            gradients.append(torch.autograd.grad(relu(x).sum(), x)[0])
            if len(gradients) != 2:
                carry.commit()
    np.testing.assert_allclose(torch.cat(gradients)[:, 0], [0, 0.5, 1, 0.5, 1, 0.5])


def test_step_mean_averages_gradients_only():
    means = torch.tensor([[0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 0]], dtype=torch.float64)
    h = torch.tensor([[1.0], [2.0], [4.0]], requires_grad=True)
    out = step_mean(h, means)
    (gradient,) = torch.autograd.grad((out**2).sum(), h)
    np.testing.assert_allclose(out.detach(), h.detach())
    np.testing.assert_allclose(gradient[:, 0], [3, 6, 0])


def test_what_is_piecewise_linear():
    def block(*layers):
        return [Block("x", nn.Sequential(*layers), 4, 1)]

    assert is_piecewise_linear(block(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU()))
    assert not is_piecewise_linear(block(nn.Conv2d(4, 4, 1)))
    assert not is_piecewise_linear(block(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.GELU()))
    assert not is_piecewise_linear(block(nn.LayerNorm(4), nn.ReLU()))


def test_the_head_splits_clips_attention_pool():
    from open_clip.modified_resnet import AttentionPool2d

    torch.manual_seed(0)
    pool = AttentionPool2d(3, 16, 4, 8)
    root = nn.Sequential(nn.Identity(), pool)
    head = AttentionHead.find(root)
    h = torch.randn(5, 16, 3, 3)
    with torch.no_grad():
        np.testing.assert_allclose(head.finish(*head.project(h)), pool(h), rtol=1e-4, atol=1e-6)
    assert AttentionHead.find(nn.Sequential(nn.Linear(2, 2))) is None and AttentionHead.find(None) is None

    def scalar(embedding, rows):
        return embedding.pow(2).sum(-1)

    with head.attached(Carry()):
        f = scalar(pool(h), None).detach()
        parts = head.parts
        gradients = head.step_gradients(scalar, torch.zeros(5, dtype=torch.int64), torch.arange(1, 5))
    change = sum((g[1:] * (p[1:] - p[:-1])).sum((1, 2)) for g, p in zip(gradients, parts, strict=True))
    np.testing.assert_allclose(change.detach(), f[1:] - f[:-1], rtol=1e-3, atol=1e-5)
    assert "forward" not in vars(pool)


def test_secant_means_of_the_nodes_serve_other_heads():
    net, blocks, x, baseline, scalar = problem(resnet())
    alphas = path_positions(24, "secant")
    arguments = {"scalar": scalar, "alphas": alphas, "rule": "secant"}
    pool = layer_conductance(net, blocks, x, baseline, **arguments)
    whole = layer_conductance(lambda samples: net(samples), blocks, x, baseline, **arguments)
    for chunk in (4, 5, 24, 26):
        part = layer_conductance(lambda samples: net(samples), blocks, x, baseline, chunk_size=chunk, **arguments)
        for path, values in whole.blocks.items():
            np.testing.assert_allclose(part.blocks[path], values, rtol=0, atol=1e-11)
            assert (values - pool.blocks[path]).norm() < 1e-3 * values.norm()


def test_a_sharp_attention_pool_is_followed_within_the_steps():
    net, blocks, x, baseline, scalar = problem(resnet())
    with torch.no_grad():
        net.attnpool.q_proj.weight *= 40

    def run(rule, points):
        arguments = {"scalar": scalar, "alphas": path_positions(points, rule), "rule": rule}
        return layer_conductance(net, blocks, x, baseline, **arguments)

    fine, coarse, plain = run("secant", 200), run("secant", 6), run("trapezoid", 6)
    size = torch.stack([values.abs().sum(-1) for values in fine.blocks.values()], -1)
    assert (coarse.delta.abs() / size).max() < 0.1 * (plain.delta.abs() / size).max()


def test_secant_beats_the_trapezoid_on_relu():
    net, blocks, x, baseline, scalar = problem(resnet())

    def run(rule, points):
        alphas = uniform_curve(path_positions(points, rule))
        return layer_conductance(net, blocks, x, baseline, scalar=scalar, alphas=alphas, rule=rule).blocks

    reference = run("secant", 400)

    def error(values):
        return np.mean([(values[p] - reference[p]).norm() / reference[p].norm() for p in reference])

    assert error(run("secant", 24)) < 0.7 * error(run("trapezoid", 24))


@pytest.mark.parametrize(
    ("pool", "chunk", "passes"),
    [
        (True, None, [1, 12, 12, 11]),
        (True, 5, [5, 5, 5, 5, 5, 5, 5, 1]),
        (False, None, [4, 11, 12, 12]),
        (False, 30, [24, 12]),
        (False, 15, [12, 12, 12]),
        (False, 8, [8, 7, 8, 7, 8, 7]),
    ],
)
def test_the_secant_rule_runs_each_node_once(pool, chunk, passes):
    """An attention pool never needs a node again; other heads do not where a pass holds whole images."""
    net, blocks, x, baseline, scalar = problem(resnet())
    ran = []

    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net if pool else None

        def forward(self, samples):
            ran.append(len(samples))
            return net(samples)

    arguments = {"scalar": scalar, "alphas": path_positions(11, "secant"), "rule": "secant"}
    layer_conductance(Counted(), blocks, x, baseline, chunk_size=chunk, **arguments)
    assert ran == passes
