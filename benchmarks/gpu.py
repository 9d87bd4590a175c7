"""Speed, memory and use of one GPU: conductance of all blocks, the floor and captum, in three precisions.

    python benchmarks/gpu.py --json gpu.json                    # eight towers, some five minutes on an H100
    python benchmarks/gpu.py ViT-L-14 --precisions bfloat16     # one of them
    python benchmarks/gpu.py --show docs/results/gpu.json       # the tables of a run from before
    python benchmarks/gpu.py --residuals                        # what a job asks for, beside what it took

For each tower (random weights, as in benchmarks/conductance.py) and precision, float32 first:

- ours: `layer_conductance` of all blocks, `--points` arc-length steps an image, of as many images as keep the card busy
  for about half a second; memory of a sample known from the pass before, as from the second dataset of a job on;
- floor: as many forward passes and gradients with respect to the first block's output, at the better of two batches;
- captum: as many steps as it needs for the same error (see benchmarks/conductance.py), timed for a few steps of the
  first, the middle and the last block, and scaled to all blocks, steps and images;
- share: operations (`torch.utils.flop_counter`, of the floor) a second over the maker's dense figure for the precision;
- drift: relative change of the attributions from float32.

Before that one whole job, ViT-L-14 on 30 datasets of 16 JPEG files, from a cold start to the pair files; besides, peak
memory of passes of 8 to 64 samples and the kernels that take the longest (ViT-L-14). A tower that fails is a row with
its reason. Seconds are the least of three runs, by the wall clock between synchronisations.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from conductance import build, device_name, equal_steps, floor_pass, pictures, relative_error

from vlmrank.conductance.captum_engine import captum_conductance
from vlmrank.conductance.layer import layer_conductance
from vlmrank.conductance.memory import Footprint, is_out_of_memory, release
from vlmrank.conductance.objective import embedding_objective
from vlmrank.conductance.quadrature import arc_length_curve, path_positions
from vlmrank.conductance.secant_relu import is_piecewise_linear
from vlmrank.models.blocks import visual_blocks
from vlmrank.models.precision import in_precision
from vlmrank.store import write_json

TOWERS = (
    *("ViT-L-14", "ViT-H-14", "RN50x16", "RN50", "ViT-B-32", "convnext_base", "ViT-SO400M-14-SigLIP", "ViT-B-16"),
)
PRECISIONS = ("float32", "tf32", "bfloat16")
DENSE = {"H100": {"float32": 66.9, "tf32": 494.7, "bfloat16": 989.4}}
"""Dense TFLOP/s of the SXM card: NVIDIA H100 Tensor Core GPU Architecture, white paper, table 2."""
EXPECTED = {"float32": 20e12, "tf32": 50e12, "bfloat16": 120e12}  # operations a second, to choose how many images
JOBS = Path(__file__).parents[1] / "docs" / "results" / "gpu_jobs.csv"
JOB_TOWER, JOB_DATASETS, JOB_IMAGES = "ViT-L-14", 30, 16


def seconds_of(function: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """Return the least seconds of some runs."""
    taken = []
    for _ in range(repeats):
        _wait(device)
        started = time.perf_counter()
        function()
        _wait(device)
        taken.append(time.perf_counter() - started)
    return min(taken)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_mb(function: Callable[[], object], device: torch.device) -> float:
    """Return the most megabytes of the card that a run takes beside the weights."""
    if device.type != "cuda":
        function()
        return float("nan")
    release(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    function()
    return (torch.cuda.max_memory_allocated(device) - before) / 1e6


class Tower:
    """One tower on the card with its path, objective and operations."""

    def __init__(self, name: str, device: torch.device, points: int, images: int):
        self.name, self.device, self.points = name, device, points
        size = open_clip.get_model_config(name)["vision_cfg"].get("image_size", 224)
        x = pictures(images, size if isinstance(size, int) else size[0])
        self.tower = build(name, x, device)
        self.x = x.to(device)
        self.baseline = torch.full_like(self.x, -1.8)
        self.blocks = visual_blocks(self.tower)
        self.rule = "secant" if is_piecewise_linear(self.blocks) else "clenshaw-curtis"
        with in_precision("float32", device), torch.no_grad():
            self.scalar = embedding_objective(torch.cat([self.tower(part) for part in self.x.split(8)]))
            self.curve = arc_length_curve(self.tower, self.blocks, self.x, self.baseline)
            counter = FlopCounterMode(display=False)
            with counter, torch.enable_grad():
                self.floor(1, batch=1, points=0)
        self.flops = counter.get_total_flops()  # of one sample

    def alphas(self, points: int) -> np.ndarray:
        """Return the nodes of a path."""
        return self.curve(path_positions(points, self.rule)) if points else np.ones(1)

    def ours(self, images: int, **options) -> dict[str, torch.Tensor]:
        """Return the attributions of the first images."""
        points = options.pop("points", self.points)
        arguments = {"alphas": self.alphas(points), "rule": self.rule, "scalar": self.scalar, **options}
        self.last = layer_conductance(self.tower, self.blocks, self.x[:images], self.baseline[:images], **arguments)
        return self.last.blocks

    def floor(self, images: int, *, batch: int, points: int | None = None) -> None:
        """Run the least that the hardware needs."""
        alphas = self.alphas(self.points if points is None else points)
        x, baseline = self.x[:images], self.baseline[:images]
        floor_pass(self.tower, self.blocks[0].module, self.scalar, x, baseline, alphas, batch)

    def captum(self, block: int, images: int, steps: int) -> None:
        """Run captum's engine for one block."""
        nodes = np.linspace(0, 1, steps + 1)
        arguments = {"scalar": self.scalar, "alphas": nodes, "chunk_size": images * (steps + 1)}
        captum_conductance(self.tower, [self.blocks[block]], self.x[:images], self.baseline[:images], **arguments)

    def captum_steps(self, enough: float) -> tuple[float, int]:
        """Return our error, and the steps at which captum's equals it, on the first image."""
        reference = self.ours(1, points=48)
        error = relative_error(self.ours(1), reference)
        goal = max(error, enough)
        one = self.x[:1], self.baseline[:1]
        steps, _ = equal_steps(self.tower, self.blocks, *one, self.scalar, reference, goal, 128)
        return error, steps


def measure(tower: Tower, precision: str, options: argparse.Namespace, known: dict) -> dict:
    """Measure one tower in one precision; `known` carries what float32 found to the others."""
    samples = tower.points + 1
    images = int(min(max(EXPECTED[precision] / tower.flops / samples, 4), options.images))
    if options.tiny:
        images = min(images, 2)
    footprint = Footprint()
    row = {"model": tower.name, "precision": precision, "blocks": len(tower.blocks), "images": images}
    row |= {"points": tower.points, "rule": tower.rule, "gflops_a_sample": tower.flops / 1e9}
    with in_precision(precision, tower.device):
        values = tower.ours(4 if images >= 4 else images, chunk_size=footprint)
        known.setdefault("values", values)
        row["drift"] = relative_error(values, known["values"])
        peak = peak_mb(lambda: tower.ours(images, chunk_size=footprint), tower.device)
        ours = seconds_of(lambda: tower.ours(images, chunk_size=footprint), tower.device)
        batch = tower.last.chunk_size
        total, floors = images * samples, {}
        for size in sorted({min(68, total), min(batch, total)}):
            try:
                floors[size] = seconds_of(lambda size=size: tower.floor(images, batch=size), tower.device, 2)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            release(tower.device)
        best = min(floors, key=floors.get)
        row |= {"ours_seconds": ours, "ours_peak_mb": peak, "ours_batch": batch}
        row |= {"mb_a_sample": footprint.bytes_per_sample / 1e6, "images_per_second": images / ours}
        row |= {"floor_seconds": floors[best], "floor_batch": best, "ours_over_floor": ours / floors[best]}
        row["tflops"] = tower.flops * total / ours / 1e12
        peaks = next((DENSE[card] for card in DENSE if card in device_name(tower.device)), {})
        row["share"] = row["tflops"] / peaks[precision] if peaks else None
        if not options.no_captum:
            if "steps" not in known:
                known["error"], known["steps"] = tower.captum_steps(options.enough)
            row |= {"error": known["error"], "captum_steps": known["steps"]}
            row |= _captum(tower, images, known["steps"])
            row["captum_over_ours"] = row["captum_seconds"] / ours
    return row


def _captum(tower: Tower, images: int, steps: int) -> dict[str, float]:
    """Captum's seconds for all blocks and images, from a few steps of three blocks."""
    few, some = 7, min(images, 4)
    chosen = sorted({0, len(tower.blocks) // 2, len(tower.blocks) - 1})
    each = [seconds_of(lambda b=b: tower.captum(b, some, few), tower.device, 2) for b in chosen]
    scale = (steps + 1) / (few + 1) * images / some
    return {"captum_seconds": float(np.mean(each)) * len(tower.blocks) * scale}


def memory_rows(tower: Tower) -> list[dict]:
    """Peak memory and seconds of float32 passes of several sizes."""
    rows = []
    with in_precision("float32", tower.device):
        for size in (8, 16, 32, 64):
            images = max(1, -(-size // (tower.points + 1)))
            whole = size - size % (tower.points + 1) or size  # a pass ends with an image where it holds one
            peak = peak_mb(lambda size=size, images=images: tower.ours(images, chunk_size=size), tower.device)
            weights = sum(p.numel() * p.element_size() for p in tower.tower.parameters()) / 1e6
            rows.append({"model": tower.name, "samples": whole, "peak_mb": peak, "weights_mb": weights})
    return rows


def profile(tower: Tower, precision: str, images: int) -> list[dict]:
    """The kernels that take the longest in one call."""
    from torch.profiler import ProfilerActivity

    footprint = Footprint()
    with in_precision(precision, tower.device):
        tower.ours(images, chunk_size=footprint)
        with torch.profiler.profile(
            activities=[ProfilerActivity.CUDA if tower.device.type == "cuda" else ProfilerActivity.CPU], acc_events=True
        ) as found:
            tower.ours(images, chunk_size=footprint)
            _wait(tower.device)
    events = sorted(found.key_averages(), key=lambda event: -event.self_device_time_total)
    whole = sum(event.self_device_time_total for event in events) or 1.0
    return [
        {
            "precision": precision,
            "kernel": event.key[:100],
            "calls": event.count,
            "milliseconds": event.self_device_time_total / 1e3,
            "share": event.self_device_time_total / whole,
        }
        for event in events[:16]
    ]


def run_job(folder: Path, architecture: str, device: str, precision: str) -> dict[str, float]:
    """Compute all pairs of a job in this process, whose start `folder`/started tells."""
    from vlmrank.jobs.compute_conductance import compute_conductance
    from vlmrank.jobs.pool import JobSettings
    from vlmrank.store import read_json, read_pair

    lines: list[str] = []
    cards = read_json(folder / "datasets.json")
    options = {"objective": "zero-shot", "baseline": "black", "nodes": "arc-length", "points": 8, "tolerance": None}
    options |= {"precision": precision, "engine": "vlmrank", "rule": "auto"}
    settings = JobSettings(folder / f"store-{precision}", device=device, precision=precision, say=lines.append)
    started = time.perf_counter()
    outputs = [folder / f"{precision}-{card['dataset']}.h5" for card in cards]
    compute_conductance(read_json(folder / "model.json"), cards, outputs, options, settings)
    seconds = time.perf_counter() - started
    pairs = [read_pair(path) for path in outputs]
    bad = [pair.attributes["reason"] for pair in pairs if not pair.ok]
    if bad:
        raise SystemExit(bad[0])
    used = torch.cuda.max_memory_reserved() / 1e6 if device == "cuda" else 0.0
    status = Path("/proc/self/status").read_text().splitlines()
    host = next((int(line.split()[1]) / 1000 for line in status if line.startswith("VmHWM")), 0.0)
    load = next(line for line in lines if "loaded in" in line)
    return {"model": architecture, "precision": precision, "datasets": len(cards)} | {
        "images": sum(len(pair.image_id) for pair in pairs),
        "seconds": seconds,
        "load": load,
        "first_seconds": pairs[0].attributes["seconds"],
        "median_seconds": float(np.median([pair.attributes["seconds"] for pair in pairs])),
        "card_mb": used,
        "host_mb": host,
    }


def make_job(folder: Path, architecture: str, datasets: int, device: torch.device) -> None:
    """Write weights, pictures and cards."""
    from PIL import Image
    from resources import save

    from vlmrank.datasets.prepare import prepare_dataset
    from vlmrank.models.card import fetch_model

    (folder / "weights").mkdir(parents=True)
    save(architecture, folder / "weights", device=str(device))
    write_json(folder / "model.json", fetch_model("random", f"local-dir:{folder / 'weights'}", offline=True))
    noise, cards = np.random.default_rng(0), []
    for number in range(datasets):
        place = folder / f"d{number:02}"
        place.mkdir()
        for image in range(JOB_IMAGES):
            coarse = noise.integers(0, 255, (12, 16, 3), np.uint8)
            Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC).save(place / f"{image:02}.jpg")
        classes = place.with_suffix(".yaml")
        classes.write_text("classes: [cat, dog, house, tree]\ntemplates: ['a photo of a {c}.']\n")
        card = prepare_dataset(place.name, "target", "folder", str(place), classes=str(classes), images=JOB_IMAGES)
        if card["status"] != "ok":
            raise SystemExit(card["reason"])
        cards.append(card)
    write_json(folder / "datasets.json", cards)


def job_rows(options: argparse.Namespace, device: torch.device) -> list[dict]:
    """Time whole jobs, each in a process of its own."""
    rows, tower = [], "ViT-B-32" if options.tiny else JOB_TOWER
    with tempfile.TemporaryDirectory() as name:
        make_job(Path(name), tower, 2 if options.tiny else JOB_DATASETS, device)
        release(device)
        for precision in dict.fromkeys((options.precisions[0], options.precisions[-1])):
            started = time.perf_counter()
            command = [sys.executable, __file__, tower, "--run-job", name, "--device", device.type]
            done = subprocess.run([*command, "--precisions", precision], capture_output=True, text=True)
            if done.returncode:
                rows.append({"precision": precision, "problem": done.stderr.strip().splitlines()[-1:]})
                continue
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            rows[-1]["process_seconds"] = time.perf_counter() - started
    return rows


def measure_all(options: argparse.Namespace, device: torch.device, found: dict, keep: Callable[[], None]) -> None:
    """Fill `found` tower by tower; `keep` writes what there is."""
    if not options.no_job:
        found["jobs"] = job_rows(options, device)
        keep()
    guarded = (torch.OutOfMemoryError, RuntimeError, ValueError, KeyError, AssertionError)
    for name in options.models:
        try:
            tower, known = Tower(name, device, options.points, 2 if options.tiny else options.images), {}
            for precision in options.precisions:
                found["rows"].append(measure(tower, precision, options, known))
                print(line_of(found["rows"][-1]), flush=True)
                keep()
            found["memory"] += memory_rows(tower)
            if name == JOB_TOWER or options.tiny:
                found["profile"] += [row for p in options.precisions for row in profile(tower, p, 4)]
        except guarded as error:
            found["rows"].append({"model": name, "problem": f"{type(error).__name__}: {error}"[:300]})
            print(f"{name}: {found['rows'][-1]['problem']}", flush=True)
        tower = known = None
        release(device)
        keep()


HEAD = (
    f"{'model':22}{'precision':10}{'images/s':>9}{'ours s':>8}{'floor s':>8}{'ours/floor':>11}{'captum/ours':>12}"
    f"{'TFLOP/s':>9}{'share':>7}{'peak MB':>9}{'batch':>6}{'drift':>9}"
)


def line_of(row: dict) -> str:
    """One line of the table."""
    if "problem" in row:
        return f"{row['model']:22}{row['problem']}"
    share = f"{row['share']:7.2f}" if row["share"] else f"{'':7}"
    captum = f"{row['captum_over_ours']:12.0f}" if "captum_over_ours" in row else f"{'':12}"
    return (
        f"{row['model']:22}{row['precision']:10}{row['images_per_second']:9.1f}{row['ours_seconds']:8.3f}"
        f"{row['floor_seconds']:8.3f}{row['ours_over_floor']:11.3f}{captum}{row['tflops']:9.1f}{share}"
        f"{row['ours_peak_mb']:9.0f}{row['ours_batch']:6}{row['drift']:9.1e}"
    )


def show(found: dict) -> None:
    """Print all tables."""
    print(f"{found['device']}, torch {found['torch']}\n{HEAD}")
    for row in found["rows"]:
        print(line_of(row))
    print(f"\n{'model':22}{'weights MB':>11}{'samples':>8}{'peak MB':>9}")
    for row in found["memory"]:
        print(f"{row['model']:22}{row['weights_mb']:11.0f}{row['samples']:8}{row['peak_mb']:9.0f}")
    for row in found["profile"]:
        print(f"{row['precision']:10}{row['share']:6.1%}{row['milliseconds']:9.2f} ms{row['calls']:6} {row['kernel']}")
    for row in found["jobs"]:
        print(json.dumps(row))


def residuals() -> None:
    """Print what `vlmrank.workflow.resources` says over what was measured, in float32."""
    from vlmrank.workflow.resources import gpu_job_mb, gpu_sample_seconds

    table = pd.read_csv(JOBS)
    ratios = {
        "seconds a sample": [gpu_sample_seconds(row) / row["sample_s"] for row in table.to_dict("records")],
        "host memory": [gpu_job_mb(row) / row["host_mb"] for row in table.to_dict("records")],
    }
    print(pd.DataFrame(ratios, index=table.architecture).round(2).to_string(na_rep="not measured"))


def main() -> int:
    """Measure and print, or print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=TOWERS)
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--points", type=int, default=16)
    parser.add_argument("--images", type=int, default=16, help="at most")
    parser.add_argument(
        "--enough", type=float, default=4e-3, help="error that 16 points reach on trained smooth towers"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--no-captum", action="store_true")
    parser.add_argument("--no-job", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="two images, a small job: to try the program")
    parser.add_argument("--json", metavar="FILE", help="write what was measured, tower by tower")
    parser.add_argument("--show", metavar="FILE", help="print what was measured before")
    parser.add_argument("--residuals", action="store_true", help="print formula over measurement")
    parser.add_argument("--run-job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.show:
        show(json.loads(Path(options.show).read_text(encoding="utf-8")))
        return 0
    if options.residuals:
        residuals()
        return 0
    if options.device == "cuda" and not torch.cuda.is_available():
        print("gpu.py: no GPU is at hand (--device cpu --tiny tries the program)", file=sys.stderr)
        return 2
    if options.run_job:
        print(json.dumps(run_job(Path(options.run_job), options.models[0], options.device, options.precisions[0])))
        return 0
    device = torch.device(options.device)
    found = {"device": device_name(device), "torch": torch.__version__, "rows": [], "memory": [], "profile": []}
    found["jobs"] = []

    def keep() -> None:
        if options.json:
            write_json(options.json, found)

    print(f"{found['device']}, torch {found['torch']}\n{HEAD}", flush=True)
    measure_all(options, device, found, keep)
    show({**found, "rows": []})
    return 0


if __name__ == "__main__":
    sys.exit(main())
