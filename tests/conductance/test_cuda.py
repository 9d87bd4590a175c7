"""The engine on a GPU: the same numbers as on the CPU, the same bits twice, and memory that runs out."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conductance_towers import TOWERS, conductance, largest_error, make

from vlmrank.conductance import kernels, layer_conductance
from vlmrank.conductance.accumulate import panel_sum
from vlmrank.conductance.quadrature import chebyshev_nodes, path_positions, stieltjes_matrix
from vlmrank.conductance.secant_relu import is_piecewise_linear
from vlmrank.models.precision import in_precision

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
CUDA = torch.device("cuda")
# Largest relative error of a block against float64 on the CPU, for smooth towers and for towers of ReLU: what an H100
# showed (2e-10, 1e-13; 3e-6, 5e-5; 7e-3, 9e-2; 6e-2, 1.4) with room. The 2e-10 is SigLIP's, all others are below 1e-13.
BOUNDS = {"float64": (1e-9, 1e-12), "float32": (1e-5, 2e-4), "tf32": (2e-2, 0.3), "bfloat16": (0.15, 3.0)}
SCRIPTS = Path(__file__).parents[2] / "scripts"


def rule_of(family):
    return "secant" if is_piecewise_linear(make(family)[2]) else "clenshaw-curtis"


@pytest.mark.parametrize("precision", BOUNDS)
@pytest.mark.parametrize("family", TOWERS)
def test_a_gpu_gives_what_the_cpu_gives_in_float64(family, precision):
    rule = rule_of(family)
    expected = conductance(family, rule)
    bound = BOUNDS[precision][rule == "secant"]
    for size in (None, 1, 4) if precision == "float64" else (None,):
        with in_precision(precision, CUDA) as dtype:
            found = conductance(family, rule, precision=dtype, device=CUDA, chunk_size=size)
        error = largest_error(found, expected)
        print(f"{family} {precision} {size} {error:.1e}")
        assert error < bound, size


@pytest.mark.parametrize("precision", BOUNDS)
@pytest.mark.parametrize("family", TOWERS)
def test_the_same_bits_twice(family, precision):
    with in_precision(precision, CUDA) as dtype:
        first, second = (conductance(family, rule_of(family), precision=dtype, device=CUDA) for _ in range(2))
    assert all(torch.equal(first[path], second[path]) for path in first)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("axis,shape", [(-1, (18, 7, 24)), (1, (18, 10, 3, 5)), (1, (18, 6)), (1, (18, 5, 300))])
def test_the_fused_sum_is_the_sum(axis, shape, dtype):
    if not kernels.available(CUDA):
        pytest.skip("Triton does not work here")
    generator = torch.Generator().manual_seed(0)
    h, g = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    for degree, where in ((8, [range(9), range(9, 18)]), (1, [[3, 4], [0, 1], [16, 17]])):
        matrix = torch.as_tensor(stieltjes_matrix(chebyshev_nodes(degree), "clenshaw-curtis"))
        nodes = torch.tensor([list(panel) for panel in where])
        expected = panel_sum(matrix, h.double(), g.double(), nodes, axis % h.ndim)
        found = kernels.panel_sums(matrix.to(CUDA), h.to(CUDA), g.to(CUDA), nodes.to(CUDA), axis).cpu()
        bound = 1e-13 if dtype == torch.float64 else 1e-5
        assert float((found - expected).abs().max()) < bound * float(expected.abs().max())


def wide_tower():
    """Layers whose maps take 8 MiB a sample in float64."""
    torch.manual_seed(0)
    layers = [torch.nn.Sequential(torch.nn.Conv2d(16, 16, 3, padding=1), torch.nn.Tanh()) for _ in range(24)]
    for layer in layers:
        torch.nn.init.orthogonal_(layer[0].weight, 2.0)  # else nothing of the image is left after 24 layers
    tower = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 1), *layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    return tower.to(CUDA, torch.float64).eval().requires_grad_(False)


def test_memory_that_runs_out_halves_the_pass_and_changes_nothing(caplog):
    from vlmrank.models.blocks import Block

    tower = wide_tower()
    blocks = [Block(str(i), tower[i], 16, 1) for i in range(1, 25)]
    x = torch.randn(8, 3, 256, 256, generator=torch.Generator().manual_seed(1)).to(CUDA, torch.float64)
    arguments = {"scalar": lambda y, rows: y.tanh().sum(-1), "rule": "clenshaw-curtis"}
    alphas = path_positions(8, "clenshaw-curtis")
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(CUDA).total_memory
    with in_precision("float64", CUDA):
        expected = layer_conductance(tower, blocks, x, torch.zeros_like(x), alphas=alphas, chunk_size=8, **arguments)
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(min(4 * 2**30 / whole, 1.0))
        try:
            found = layer_conductance(tower, blocks, x, torch.zeros_like(x), alphas=alphas, chunk_size=72, **arguments)
            alone = layer_conductance(tower, blocks, x, torch.zeros_like(x), alphas=alphas, **arguments)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
            torch.cuda.empty_cache()
    assert "out of memory: going on with" in caplog.text
    assert found.chunk_size < 72
    for result in (found, alone):
        assert largest_error(result.blocks, expected.blocks) < 1e-8


PROGRAM = """
import sys
import torch
from conductance_towers import conductance
from vlmrank.models.precision import in_precision
device = torch.device("cuda")
with in_precision("float64", device):
    for _ in range(20):
        found = conductance("ViT", "clenshaw-curtis", device=device)
print(sum(float(values.sum()) for values in found.values()).hex())
"""


def run(program, **environment):
    paths = [str(SCRIPTS), str(Path(__file__).parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment}
    return subprocess.Popen(
        [sys.executable, "-c", program], env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_two_processes_share_a_card():
    both = [run(PROGRAM) for _ in range(2)]
    printed = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert printed[0][0] == printed[1][0]
    found = conductance("ViT", "clenshaw-curtis")
    expected = sum(float(values.sum()) for values in found.values())
    assert np.isclose(float.fromhex(printed[0][0].strip()), expected, rtol=1e-9)


GONE = """
from vlmrank.errors import VlmrankError
from vlmrank.models.device import choose_device
try:
    choose_device("auto", gpus=1, environment={"SLURM_JOB_ID": "7"})
except VlmrankError as error:
    print(error)
"""


def test_a_card_that_is_gone_is_one_line():
    process = run(GONE, CUDA_VISIBLE_DEVICES="")
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert out.startswith("no usable GPU on ") and "CUDA_VISIBLE_DEVICES is ''" in out and out.count("\n") == 1
