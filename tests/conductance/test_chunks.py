"""Chunks of samples fit the memory, and their size changes no result."""

import numpy as np
import pytest
import torch
from conductance_problem import problem, resnet, vit
from torch import nn

from vlmrank.conductance.accumulate import cached_panel_sum, panel_sum
from vlmrank.conductance.layer import layer_conductance
from vlmrank.conductance.quadrature import chebyshev_nodes, path_positions, stieltjes_matrix
from vlmrank.errors import FailedPair


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
