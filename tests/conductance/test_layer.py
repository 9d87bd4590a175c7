import numpy as np
import open_clip
import pytest
import torch
from torch import nn

from vlmrank.conductance.accumulate import cached_panel_sum, panel_sum
from vlmrank.conductance.adaptive import Refinement, refine_conductance
from vlmrank.conductance.captum_engine import captum_conductance
from vlmrank.conductance.layer import layer_conductance
from vlmrank.conductance.quadrature import chebyshev_nodes, path_positions, stieltjes_matrix, uniform_curve
from vlmrank.errors import FailedPair, VlmrankError
from vlmrank.models.blocks import Block, visual_blocks

torch.set_num_threads(1)
RULES = ("clenshaw-curtis", "secant", "trapezoid", "left")


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


def vit(**vision):
    torch.manual_seed(0)
    config = {"image_size": 32, "patch_size": 8, "width": 24, "layers": 3, "head_width": 12, **vision}
    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    return open_clip.CLIP(16, config, text).double().eval().visual


def resnet():
    torch.manual_seed(0)
    net = vit(layers=[1, 2, 1, 1], width=8, head_width=16, patch_size=None)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return net


def problem(net, images=3):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(images, 3, 32, 32, generator=generator, dtype=torch.float64)
    baseline = torch.full_like(x, -1.5)
    directions = torch.randn(images, 16, generator=generator, dtype=torch.float64)

    def scalar(embedding, rows):
        return 10 * (nn.functional.normalize(embedding, dim=-1) * directions[rows]).sum(-1)

    return net, visual_blocks(net), x, baseline, scalar


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
    ("message", "rule"), [("CUDA out of memory", "clenshaw-curtis"), ("can't allocate memory", "secant")]
)
def test_out_of_memory_halves_the_chunk_and_loses_nothing(message, rule):
    net, blocks, x, baseline, scalar = problem(resnet())
    alphas = path_positions(9, rule)
    whole = layer_conductance(net, blocks, x, baseline, scalar=scalar, alphas=alphas, rule=rule)
    passes = []

    class Limited(nn.Module):
        def __init__(self, limit):
            super().__init__()
            self.net, self.limit = net, limit

        def forward(self, samples):
            if len(samples) > self.limit:
                raise RuntimeError(f"DefaultCPUAllocator: {message}: you tried to allocate 9 bytes")
            passes.append(len(samples))
            return self.net(samples)

    arguments = {"scalar": scalar, "alphas": alphas, "rule": rule, "chunk_size": 23}
    part = layer_conductance(Limited(6), blocks, x, baseline, **arguments)
    assert part.chunk_size == 5
    assert sum(passes) == 30, "no sample ran twice"
    for path, values in whole.blocks.items():
        np.testing.assert_allclose(part.blocks[path], values, rtol=0, atol=1e-11)
    with pytest.raises(FailedPair, match="out of memory with 1 sample"):
        layer_conductance(Limited(0), blocks, x, baseline, **arguments)


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


def test_the_chunk_is_cut_to_the_free_memory(monkeypatch):
    net, blocks, x, baseline, scalar = problem(vit())
    alphas = path_positions(16)
    free = layer_conductance(net, blocks, x, baseline, scalar=scalar, alphas=alphas, rule="clenshaw-curtis")
    monkeypatch.setattr("vlmrank.conductance.passes.budget_bytes", lambda device: 400_000)
    tight = layer_conductance(net, blocks, x, baseline, scalar=scalar, alphas=alphas, rule="clenshaw-curtis")
    assert 1 <= tight.chunk_size < free.chunk_size


@pytest.mark.parametrize(("shape", "axis", "layout"), [((5, 7), -1, None), ((6, 3, 2), 1, torch.channels_last)])
def test_panels_in_the_cache_give_the_same_as_on_a_gpu(monkeypatch, shape, axis, layout):
    monkeypatch.setattr("vlmrank.conductance.accumulate.PIECE", 8)
    matrix = torch.as_tensor(stieltjes_matrix(chebyshev_nodes(4)))
    h, g = torch.randn(2, 9, *shape, dtype=torch.float64)
    if layout is not None:
        h = h.contiguous(memory_format=layout)
    cuts = [slice(0, 2), slice(2, 6), slice(6, 9)]
    for first in (0, 1, 4):
        expected = panel_sum(matrix, h, g, torch.arange(first, first + 5)[None], axis % h.ndim)
        for parts in ([(h, g)], [(h[cut], g[cut]) for cut in cuts]):
            np.testing.assert_allclose(cached_panel_sum(matrix, parts, first, axis), expected, rtol=0, atol=1e-13)


def test_memory_does_not_grow_with_the_number_of_nodes():
    net, blocks, x, baseline, scalar = problem(vit(), images=1)
    most = {}
    for points in (16, 64):
        sizes = []

        def spy(matrix, parts, first, axis, sizes=sizes):
            sizes.append(sum(len(h) for h, _ in parts))
            return cached_panel_sum(matrix, parts, first, axis)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("vlmrank.conductance.accumulate.cached_panel_sum", spy)
            layer_conductance(
                net,
                blocks,
                x,
                baseline,
                scalar=scalar,
                alphas=path_positions(points),
                rule="clenshaw-curtis",
                chunk_size=5,
            )
        most[points] = max(sizes)
    assert max(most.values()) <= 5 + 8, "a pass and one unfinished panel"


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


@pytest.mark.parametrize(
    ("make", "rule", "tolerance"),
    [
        (vit, "clenshaw-curtis", 5e-3),
        (vit, "trapezoid", 5e-3),
        (resnet, "secant", 2e-5),
        (resnet, "trapezoid", 1e-3),
    ],
)
def test_refinement_stops_each_image_where_it_has_settled(make, rule, tolerance):
    net, blocks, x, baseline, scalar = problem(make())
    x[1] = baseline[1] + 0.02 * (x[1] - baseline[1])  # a path that is nearly straight needs few points
    refinement = Refinement(uniform_curve, points=8, tolerance=tolerance, max_points=64)
    result = refine_conductance(net, blocks, x, baseline, refinement, scalar=scalar, rule=rule)
    settled = result.points < 64
    assert (result.error[settled] < tolerance).all() and result.points[1] < result.points.max() <= 64
    assert len(result.alphas) == result.points.max() + 1
    for k in range(len(x)):
        points = int(result.points[k])
        degrees = (points,) if rule == "clenshaw-curtis" else None
        alphas = path_positions(points, rule, degrees)
        if rule == "clenshaw-curtis" and points > 8:
            continue  # one panel of a high degree, where layer_conductance would take several
        alone = layer_conductance(
            net,
            blocks,
            x[k : k + 1],
            baseline[:1],
            scalar=lambda e, r, k=k: scalar(e, r + k),
            alphas=alphas,
            rule=rule,
        )
        for path, values in result.blocks.items():
            np.testing.assert_allclose(values[k], alone.blocks[path][0], rtol=0, atol=1e-10)


def test_refinement_runs_no_node_twice():
    net, blocks, x, baseline, scalar = problem(vit(), images=2)
    count = []

    def forward(samples):
        count.append(len(samples))
        return net(samples)

    refinement = Refinement(uniform_curve, points=4, tolerance=1e-12, max_points=32)
    result = refine_conductance(forward, blocks, x, baseline, refinement, scalar=scalar)
    assert result.points.tolist() == [32, 32] and sum(count) == 2 * 33
    assert (result.error < 1e-3).all()
