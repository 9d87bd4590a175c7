"""Seconds and memory of captum, of this engine and of the least that the hardware needs, side by side.

    python benchmarks/conductance.py      # ViT-B-32, RN50 and convnext_tiny, a quarter of an hour on a CPU
    python benchmarks/conductance.py ViT-L-14 --device cuda --images 16 --json results.json

For each tower (random weights; batch norms calibrated, zero-initialised branches opened) and the same images:

- ours: `layer_conductance` for all blocks, `--points` arc-length steps, the batch that it finds by itself;
- floor: the same number of forward passes, plus gradients with respect to the first block's output and nothing else, at
  the best of several batches;
- captum: `LayerConductance` for all blocks, at the number of steps where its error equals ours, or `--enough` where
  ours is below that: on random weights it is far below, and no number of steps would be fair. Error is measured against
  a path of `--reference` steps; captum's at 8, 16, ... steps until it is as small, or up to `--tried` and extended by
  the order seen last. Its time is linear in the steps: measured for `--captum-steps` of them, and scaled.

Seconds are the least of `--repeats` interleaved runs: of the processor on one CPU thread, else of the wall clock.
Memory is the peak above what was in use before the run (CUDA: of the allocator; CPU: of the resident set).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import logging
import math
import platform
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from vlmrank.conductance.captum_engine import captum_conductance
from vlmrank.conductance.layer import layer_conductance
from vlmrank.conductance.objective import embedding_objective
from vlmrank.conductance.quadrature import arc_length_curve, path_positions
from vlmrank.conductance.secant_relu import is_piecewise_linear
from vlmrank.errors import VlmrankError
from vlmrank.models.blocks import visual_blocks
from vlmrank.store import write_json

DEFAULT = ("ViT-B-32", "RN50", "convnext_tiny")


def device_name(device: torch.device) -> str:
    """Return the card's or the processor's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()}, {torch.get_num_threads()} thread(s)"
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} thread(s)"


class Peak:
    """Peak memory above the start, in MB, within the context."""

    def __init__(self, device: torch.device):
        self.device, self.megabytes = device, 0.0

    def _resident(self) -> int:
        with contextlib.suppress(OSError):
            return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
        return 0

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self._most = max(self._most, self._resident())

    def __enter__(self) -> Peak:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            self._start = torch.cuda.memory_allocated(self.device)
            return self
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        self._start = self._most = self._resident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error) -> None:
        if self.device.type == "cuda":
            most = torch.cuda.max_memory_allocated(self.device)
        else:
            self._stop.set()
            self._thread.join()
            most = self._most
        self.megabytes = (most - self._start) / 1e6


def measure(function: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Return seconds and peak megabytes of one call."""
    on_one_thread = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if on_one_thread else time.perf_counter
    with Peak(device) as peak:
        started = clock()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = clock() - started
    return seconds, peak.megabytes


def build(name: str, images: Tensor, device: torch.device) -> nn.Module:
    """Return the visual tower with random weights, in which every layer matters."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with device:  # the text tower is made and thrown away: on a GPU that takes no time
            tower = open_clip.create_model(name, device=device).visual
    with torch.no_grad():
        for path, parameter in tower.named_parameters():
            if "gamma" in path or "layer_scale" in path:
                parameter.fill_(0.3)
        norms = {path: module for path, module in tower.named_modules() if isinstance(module, nn.BatchNorm2d)}
        for path, norm in norms.items():  # branches are small beside the residual stream, as in a trained tower
            nn.init.uniform_(norm.weight, 0.5, 1.0)
            norm.weight *= 0.2 if path.endswith("bn3") else 1.0
            nn.init.normal_(norm.bias, 0.0, 0.2)
            norm.momentum = None  # cumulative
        if norms:
            tower.train()
            tower(images.to(device))
    return tower.to(device).eval().requires_grad_(False)


def pictures(count: int, size: int) -> Tensor:
    """Return smooth random images [count, 3, size, size], normalised."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(count, 3, 8, 8, generator=generator)
    fine = torch.randn(count, 3, size, size, generator=generator)
    return F.interpolate(coarse, (size, size), mode="bicubic") + 0.2 * fine


def floor_pass(tower: nn.Module, first: nn.Module, scalar, x: Tensor, baseline: Tensor, alphas: np.ndarray, batch: int):
    """Run the forward passes of all nodes with gradients of the first block's output only."""
    kept: list[Tensor] = []

    def begin(_module, _args, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[-1].clone()

    handle = first.register_forward_hook(begin)
    positions = torch.as_tensor(alphas, dtype=x.dtype, device=x.device)
    flat = torch.arange(len(x) * len(alphas), device=x.device)
    try:
        for part in flat.split(batch):
            rows, nodes = part // len(alphas), part % len(alphas)
            samples = torch.lerp(baseline[rows], x[rows], positions[nodes].view(-1, 1, 1, 1))
            torch.autograd.grad(scalar(tower(samples), rows).sum(), kept.pop())
    finally:
        handle.remove()


def relative_error(values: dict[str, Tensor], reference: dict[str, Tensor]) -> float:
    """Return |c - c_ref| / |c_ref|, averaged over blocks and images."""
    errors = [(values[p] - reference[p]).norm(dim=-1) / reference[p].norm(dim=-1) for p in reference]
    return float(torch.stack(errors).mean())


def equal_steps(tower, blocks, x, baseline, scalar, reference, ours: float, most: int) -> tuple[int, float]:
    """Return the steps at which captum's error equals `ours`, and the order of its error that was seen last.

    The steps are doubled, from 8 to at most `most`, until the error is below `ours`; between the last two numbers of
    steps, or beyond them, the error is a power of the steps.
    """
    before, steps, order = math.nan, 8, 1.0
    while True:
        nodes = np.linspace(0, 1, steps + 1)
        result = layer_conductance(tower, blocks, x, baseline, scalar=scalar, alphas=nodes, rule="left")
        error = relative_error(result.blocks, reference)
        if before > 0:
            order = math.log2(before / error)
        if before > 0 and (error <= ours or 2 * steps > most):
            return max(1, round(steps * (error / ours) ** (1 / max(order, 0.5)))), order
        before, steps = error, 2 * steps


def benchmark(name: str, device: torch.device, options: argparse.Namespace) -> dict:
    """Measure one tower."""
    size = open_clip.get_model_config(name)["vision_cfg"].get("image_size", 224)
    images = pictures(max(options.images, 4), size if isinstance(size, int) else size[0])
    tower = build(name, images, device)
    x = images[: options.images].to(device)
    baseline = torch.full_like(x, -1.8)
    blocks = visual_blocks(tower)
    rule = "secant" if is_piecewise_linear(blocks) else "clenshaw-curtis"
    with torch.no_grad():
        scalar = embedding_objective(tower(x))
    curves = []
    schedule, _ = measure(lambda: curves.append(arc_length_curve(tower, blocks, x, baseline)), device)
    alphas = curves[0](path_positions(options.points, rule))
    arguments = {"scalar": scalar, "rule": rule}

    # accuracy, on the first image
    def attribute(points: int) -> dict[str, Tensor]:
        nodes = curves[0](path_positions(points, rule))
        return layer_conductance(tower, blocks, x[:1], baseline[:1], alphas=nodes, **arguments).blocks

    reference = attribute(options.reference)
    error = relative_error(attribute(options.points), reference)
    goal = max(error, options.enough)
    steps, order = equal_steps(tower, blocks, x[:1], baseline[:1], scalar, reference, goal, options.tried)

    # time and memory
    results = []

    def ours() -> None:
        results.append(layer_conductance(tower, blocks, x, baseline, alphas=alphas, **arguments))

    total = len(x) * len(alphas)
    batches = sorted({min(b, total) for b in ((4, 8, 16) if device.type == "cpu" else (32, 64, 128, 256, 512, total))})
    small = np.linspace(0, 1, options.captum_steps + 1)

    def captum() -> None:
        captum_conductance(tower, blocks, x[:1], baseline[:1], scalar=scalar, alphas=small)

    times: dict[object, list[tuple[float, float]]] = {"ours": [], "captum": [], **{batch: [] for batch in batches}}
    for _ in range(options.repeats):
        times["ours"].append(measure(ours, device))
        times["captum"].append(measure(captum, device))
        for batch in batches:
            with contextlib.suppress(torch.OutOfMemoryError):
                times[batch].append(
                    measure(lambda b=batch: floor_pass(tower, blocks[0].module, scalar, x, baseline, alphas, b), device)
                )
    best = min((batch for batch in batches if times[batch]), key=lambda batch: min(times[batch])[0])
    captum_seconds, captum_memory = min(times["captum"])
    captum_seconds *= (steps + 1) / (options.captum_steps + 1) * len(x)
    (our_seconds, our_memory), (floor_seconds, floor_memory) = min(times["ours"]), min(times[best])
    return {
        "model": name,
        "device": device_name(device),
        "blocks": len(blocks),
        "images": len(x),
        "rule": rule,
        "points": options.points,
        "error": error,
        "captum_error": goal,
        "captum_steps": steps,
        "captum_order": order,
        "captum_seconds": captum_seconds,
        "captum_peak_mb": captum_memory,
        "ours_seconds": our_seconds,
        "ours_peak_mb": our_memory,
        "ours_batch": results[-1].chunk_size,
        "schedule_seconds": schedule,
        "floor_seconds": floor_seconds,
        "floor_peak_mb": floor_memory,
        "floor_batch": best,
        "captum_over_ours": captum_seconds / our_seconds,
        "captum_over_ours_with_schedule": captum_seconds / (our_seconds + schedule),
        "ours_over_floor": our_seconds / floor_seconds,
    }


def main() -> int:
    """Print a table, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=DEFAULT, help="OpenCLIP architectures")
    parser.add_argument("--images", type=int, default=1, help="images per tower")
    parser.add_argument("--points", type=int, default=16, help="our path steps")
    parser.add_argument(
        "--enough", type=float, default=4e-3, help="error that 16 points reach on trained smooth towers"
    )
    parser.add_argument("--reference", type=int, default=48, help="steps of the reference")
    parser.add_argument("--tried", type=int, default=128, help="most steps at which captum's error is measured")
    parser.add_argument("--captum-steps", type=int, default=3, help="steps at which captum is timed")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each, of which the least counts")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON")
    options = parser.parse_args()
    unknown = sorted(set(options.models) - set(open_clip.list_models()))
    if unknown:
        print(f"conductance.py: OpenCLIP does not list {', '.join(unknown)}", file=sys.stderr)
        return 2
    if options.device == "cuda" and not torch.cuda.is_available():
        print("conductance.py: no GPU is at hand; leave --device out to measure the CPU", file=sys.stderr)
        return 2
    if options.threads:
        torch.set_num_threads(options.threads)
    logging.disable(logging.WARNING)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device = torch.device(options.device)
    print(
        f"{device_name(device)}, torch {torch.__version__}, float32, {options.points} points, {options.images} image(s)"
    )
    print(
        f"{'':29} |         captum          |        ours         |        floor        |\n"
        f"{'model':16} {'B':>3} {'error':>8} | {'steps':>6} {'s':>9} {'MB':>6} | {'s':>7} {'MB':>6} {'batch':>5}"
        f" | {'s':>7} {'MB':>6} {'batch':>5} | {'captum/ours':>11} {'ours/floor':>10}"
    )
    rows = []
    for name in options.models:
        row = benchmark(name, device, options)
        rows.append(row)
        cells = [
            f"{name:16} {row['blocks']:3} {row['error']:8.1e}",
            f"{row['captum_steps']:6} {row['captum_seconds']:9.1f} {row['captum_peak_mb']:6.0f}",
            f"{row['ours_seconds']:7.2f} {row['ours_peak_mb']:6.0f} {row['ours_batch']:5}",
            f"{row['floor_seconds']:7.2f} {row['floor_peak_mb']:6.0f} {row['floor_batch']:5}",
            f"{row['captum_over_ours']:11.0f} {row['ours_over_floor']:10.3f}",
        ]
        print(" | ".join(cells), flush=True)
    print("captum: seconds scaled from a short run, memory of that run; placing the nodes took")
    print(
        "  " + ", ".join(f"{row['model']} {row['schedule_seconds']:.2f} s" for row in rows) + " besides, once a dataset"
    )
    if options.json:
        write_json(options.json, {"rows": rows})
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except VlmrankError as problem:
        sys.exit(f"conductance.py: {problem}")
