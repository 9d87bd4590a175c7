"""Nodes are doubled until an image has settled, and none is computed twice."""

import numpy as np
import pytest
from conductance_problem import problem, resnet, vit

from vlmrank.conductance.adaptive import Refinement, refine_conductance
from vlmrank.conductance.layer import layer_conductance
from vlmrank.conductance.quadrature import path_positions, uniform_curve


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
