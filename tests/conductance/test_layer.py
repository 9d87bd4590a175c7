"""The public function: the formula, its oracles, completeness, and what it refuses."""

import numpy as np
import pytest
import torch
from conductance_problem import RULES, problem, resnet, vit
from torch import nn

from vlmrank.conductance.captum_engine import captum_conductance
from vlmrank.conductance.layer import layer_conductance
from vlmrank.conductance.quadrature import path_positions
from vlmrank.errors import VlmrankError
from vlmrank.models.blocks import Block


class Relu(nn.Module):
    """h = relu(x - (1, 2, 3)), F = (2, -1, 1) . h + h_0 h_1: three neurons, worked out by hand below."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.ReLU()

    def forward(self, x):
        h = self.hidden(x - torch.tensor([1.0, 2.0, 3.0], dtype=x.dtype))
        return h @ torch.tensor([2.0, -1.0, 1.0], dtype=x.dtype) + h[:, 0] * h[:, 1]


def test_three_neurons_by_hand():
    # x = (4, 4, 4) from 0: neuron i is on for 4 alpha > i + 1, where it moves with speed 4 and dF/dh_i is
    # (2 + h_1, -1 + h_0, 1). Integral of 2 + h_1 over h_0 from 0 to 3: 2 * 3 + integral of h_1 4 dalpha = 6 + 2 = 8;
    # -1 + h_0 over h_1 from 0 to 2, where h_0 = h_1 + 1: -2 + 4 = 2; and 1 over h_2 from 0 to 1: 1. F = 6 - 2 + 1 + 6.
    net = Relu()
    block = Block("hidden", net.hidden, 3, 1)
    for rule, points, gap in (("trapezoid", 4, 1e-6), ("left", 4000, 2e-3), ("clenshaw-curtis", 2000, 1e-3)):
        result = layer_conductance(
            net,
            [block],
            torch.full((1, 3), 4.0, dtype=torch.float64),
            torch.zeros(3),
            scalar=lambda y, rows: y,
            alphas=path_positions(points, rule),
            rule=rule,
        )
        np.testing.assert_allclose(result.blocks["hidden"], [[8.0, 2.0, 1.0]], rtol=0, atol=gap)
        np.testing.assert_allclose(result.score, [[11.0, 0.0]], rtol=0, atol=1e-12)
        np.testing.assert_allclose(result.delta, [[0.0]], rtol=0, atol=2 * gap)


def slow_formula(net, block, x, baseline, scalar, steps):
    """The paper's formula for one block and one image at a time, by midpoint steps and finite differences of h."""
    kept = {}
    handle = block.module.register_forward_hook(lambda _m, _i, output: kept.__setitem__("h", output))
    rows = []
    for k in range(len(x)):
        total = 0
        for step in range(steps):
            ends = []
            for alpha in (step / steps, (step + 1) / steps):
                with torch.no_grad():
                    net(baseline[k : k + 1] + alpha * (x - baseline)[k : k + 1])
                ends.append(kept["h"])
            middle = baseline[k : k + 1] + (step + 0.5) / steps * (x - baseline)[k : k + 1]
            f = scalar(net(middle.requires_grad_()), torch.tensor([k]))
            (g,) = torch.autograd.grad(f.sum(), kept["h"])
            total = total + (g * (ends[1] - ends[0]))[0]
        axis = block.axis % (total.ndim + 1) - 1
        rows.append(total.sum([d for d in range(total.ndim) if d != axis]))
    handle.remove()
    return torch.stack(rows)


@pytest.mark.parametrize(("make", "rule", "gap"), [(vit, "clenshaw-curtis", 1e-3), (resnet, "secant", 2e-2)])
def test_the_slow_formula_of_the_paper(make, rule, gap):
    net, blocks, x, baseline, scalar = problem(make(), images=1)
    result = layer_conductance(net, blocks, x, baseline, scalar=scalar, alphas=path_positions(32, rule), rule=rule)
    for block in (blocks[0], blocks[-1]):
        expected = slow_formula(net, block, x, baseline, scalar, 256)
        error = (result.blocks[block.path] - expected).norm() / expected.norm()
        np.testing.assert_allclose(error, 0, atol=gap)


@pytest.mark.parametrize("make", [vit, resnet])
@pytest.mark.parametrize("rule", RULES)
def test_any_chunk_and_any_batch_give_the_same(make, rule):
    if rule == "secant" and make is vit:
        pytest.skip("the secant rule is for towers of ReLU")
    net, blocks, x, baseline, scalar = problem(make())
    alphas = path_positions(11, rule)
    whole = layer_conductance(net, blocks, x, baseline, scalar=scalar, alphas=alphas, rule=rule, chunk_size=36)
    for chunk in (1, 2, 5, 7, 12, 13, 35, None):
        part = layer_conductance(net, blocks, x, baseline, scalar=scalar, alphas=alphas, rule=rule, chunk_size=chunk)
        for path, values in whole.blocks.items():
            np.testing.assert_allclose(part.blocks[path], values, rtol=0, atol=1e-11)
        np.testing.assert_allclose(part.score, whole.score, rtol=0, atol=1e-11)
    for k in range(len(x)):
        alone = layer_conductance(
            net, blocks, x[k : k + 1], baseline[:1], scalar=lambda e, r, k=k: scalar(e, r + k), alphas=alphas, rule=rule
        )
        for path, values in whole.blocks.items():
            np.testing.assert_allclose(alone.blocks[path][0], values[k], rtol=0, atol=1e-11)


@pytest.mark.parametrize("make", [vit, resnet])
def test_captum_gives_the_same_at_the_same_nodes_and_rule(make):
    net, blocks, x, baseline, scalar = problem(make(), images=2)
    arguments = {"scalar": scalar, "alphas": np.linspace(0, 1, 9)}  # captum rounds nodes to float32
    ours = layer_conductance(net, blocks, x, baseline, rule="left", **arguments)
    captum = captum_conductance(net, blocks, x, baseline, **arguments)
    for path, values in ours.blocks.items():
        assert values.abs().max() > 1e-4
        np.testing.assert_allclose(captum.blocks[path], values, rtol=0, atol=1e-10)
    np.testing.assert_allclose(captum.score, ours.score, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("make", "rule", "gap"), [(vit, "clenshaw-curtis", 1e-3), (resnet, "secant", 1e-2)])
def test_completeness(make, rule, gap):
    net, blocks, x, baseline, scalar = problem(make())
    result = layer_conductance(net, blocks, x, baseline, scalar=scalar, alphas=path_positions(24, rule), rule=rule)
    change = result.score[:, :1] - result.score[:, 1:]
    np.testing.assert_allclose(result.delta / change.abs().max(), 0, atol=gap)
    if rule == "secant":  # every block sums to the same number, whatever the number of nodes
        np.testing.assert_allclose(result.delta - result.delta[:, :1], 0, atol=1e-11)


def test_no_gradient_for_weights_and_nothing_left_behind():
    net, blocks, x, baseline, scalar = problem(resnet())
    hooks = [len(block.module._forward_hooks) for block in blocks]
    layer_conductance(net, blocks, x, baseline, scalar=scalar, alphas=path_positions(4, "secant"), rule="secant")
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    assert [len(block.module._forward_hooks) for block in blocks] == hooks
    assert not any("forward" in vars(module) for module in net.modules())


def test_the_graph_begins_at_the_first_block():
    net, blocks, x, baseline, scalar = problem(vit())
    seen = []
    handle = net.conv1.register_forward_hook(lambda _m, _i, output: seen.append(output.requires_grad))
    layer_conductance(net, blocks, x, baseline, scalar=scalar, alphas=[0, 1])
    handle.remove()
    assert seen and not any(seen)


class Branches(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.first, self.second = kind, nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        if self.kind == "parallel":
            return self.first(x) + self.second(x)
        if self.kind == "skipped":
            return self.first(x)
        if self.kind == "in place":
            return self.second(self.first(x).relu_())
        return self.first(self.second(x))


@pytest.mark.parametrize(
    ("kind", "message"),
    [("parallel", "block b does not lie between"), ("skipped", "block b did not run"), ("swapped", "block b: not run")],
)
def test_a_network_that_is_no_chain_is_refused_by_name(kind, message):
    net = Branches(kind)
    blocks = [Block("a", net.first, 4, -1), Block("b", net.second, 4, -1)]
    with pytest.raises(VlmrankError, match=message):
        layer_conductance(
            net, blocks, torch.ones(2, 4), torch.zeros(4), scalar=lambda y, rows: y.sum(-1), alphas=[0, 1]
        )


def test_a_block_output_that_is_changed_in_place_is_kept():
    net = Branches("in place").double()
    blocks = [Block("a", net.first, 4, -1), Block("b", net.second, 4, -1)]
    x = torch.ones(2, 4, dtype=torch.float64)
    arguments = {"scalar": lambda y, rows: y.sum(-1), "alphas": np.linspace(0, 1, 5), "rule": "left"}
    ours = layer_conductance(net, blocks, x, torch.zeros(4), **arguments)
    with torch.no_grad():
        np.testing.assert_allclose(ours.score[:, 0], net(x).sum(-1), rtol=1e-12)
    h = torch.stack([net.first(x[0] * a) for a in arguments["alphas"]]).detach()
    g = (h > 0) * net.second.weight.sum(0).detach()
    np.testing.assert_allclose(ours.blocks["a"][0], (g[:-1] * (h[1:] - h[:-1])).sum(0), rtol=0, atol=1e-12)


def test_wrong_shapes_and_arguments_are_refused():
    net, blocks, x, baseline, scalar = problem(vit())
    wrong = [Block(b.path, b.module, b.channels + 1, b.axis) for b in blocks]
    with pytest.raises(VlmrankError, match=r"resblocks\.0.*25 channels were expected"):
        layer_conductance(net, wrong, x, baseline, scalar=scalar, alphas=[0, 1])
    for alphas in ([0, 0.5], [0, 0.5, 0.5, 1], [0.1, 1], [1], [0, np.nan, 1]):
        with pytest.raises(VlmrankError, match="increase strictly"):
            layer_conductance(net, blocks, x, baseline, scalar=scalar, alphas=alphas)
    with pytest.raises(VlmrankError, match="rule 'simpson'"):
        layer_conductance(net, blocks, x, baseline, scalar=scalar, alphas=[0, 1], rule="simpson")
    with pytest.raises(VlmrankError, match="equally spaced"):
        captum_conductance(net, blocks, x, baseline, scalar=scalar, alphas=[0, 0.3, 1])


def test_float32_drifts_little_from_float64():
    net, blocks, x, baseline, scalar = problem(vit())
    alphas = path_positions(16)
    double = layer_conductance(net, blocks, x, baseline, scalar=scalar, alphas=alphas, rule="clenshaw-curtis")
    single = layer_conductance(
        net.float(),
        blocks,
        x.float(),
        baseline.float(),
        scalar=lambda e, r: scalar(e.double(), r),
        alphas=alphas,
        rule="clenshaw-curtis",
    )
    for path, values in double.blocks.items():
        assert (single.blocks[path] - values).norm() < 2e-5 * values.norm()
