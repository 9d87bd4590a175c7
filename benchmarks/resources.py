"""Measure what one conductance job needs: the table behind `vlmrank.workflow.resources`.

Models with random weights are built, saved and loaded again as a job does it, one process each; nothing is downloaded.
Prints one row per model: parameters, image size, peak memory after loading and after computing, seconds per sample; on
a GPU the memory of the host, and the card's beside it.

    python benchmarks/resources.py [ARCHITECTURE ...] [--device cuda] [--at-once 8]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

ARCHITECTURES = ("ViT-B-32", "RN50", "ViT-B-16", "RN101", "ViT-L-14")
IMAGES, POINTS = 5, 16  # 85 samples: more than two full passes of the CPU batch


def peak_mb() -> float:
    """Peak resident memory of this process in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def save(architecture: str, folder: Path, device: str = "cpu") -> None:
    """Write a model with random weights as `local-dir:` wants it."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    with torch.device(device):
        model = open_clip.create_model(architecture, device=device)
    config = {"model_cfg": open_clip.get_model_config(architecture), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )


def measure(folder: Path, device: str) -> dict[str, float]:
    """Load the model in `folder` and compute one pass, in this process."""
    import time

    import torch

    from vlmrank.conductance.options import ConductanceOptions
    from vlmrank.conductance.pair import PairTask, compute_pairs
    from vlmrank.zoo import load_model

    torch.set_num_threads(1)
    imported = peak_mb()
    started = time.perf_counter()
    loaded = load_model(f"local-dir:{folder}", None, device=device)
    seconds_load, after_load = time.perf_counter() - started, peak_mb()
    size = loaded.card["image_size"]
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    images = torch.rand(IMAGES, 3, height, width)
    batch = "auto" if device == "cpu" else 8  # several processes at once must not fill the card
    options = ConductanceOptions(points=POINTS, nodes="uniform", device=device, batch=batch)
    started = time.perf_counter()
    (pair,) = compute_pairs(
        loaded, [PairTask("noise", images, [str(i) for i in range(IMAGES)], classes=("cat", "dog"))], options
    )
    if not pair.ok:
        raise SystemExit(pair.attributes["reason"])
    return {
        "parameters": sum(p.numel() for p in loaded.model.parameters()),
        "image_size": height,
        "imported_mb": round(imported),
        "load_mb": round(after_load),
        "peak_mb": round(peak_mb()),
        "load_s": round(seconds_load, 1),
        "sample_s": round((time.perf_counter() - started) / (IMAGES * (POINTS + 1)), 3),
        **({"card_mb": round(torch.cuda.max_memory_reserved() / 1e6)} if device == "cuda" else {}),
    }


def measured(architecture: str, device: str) -> dict[str, float]:
    """Measure an architecture in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, architecture, "--device", device]
        subprocess.run([*command, "--save", folder], check=True)
        done = subprocess.run([*command, "--measure", folder], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure each architecture and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("architectures", nargs="*", default=ARCHITECTURES)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--at-once", type=int, default=1, help="processes; more than one spoil the seconds")
    parser.add_argument("--save", help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.save:
        save(arguments.architectures[0], Path(arguments.save), arguments.device)
        return
    if arguments.measure:
        print(json.dumps(measure(Path(arguments.measure), arguments.device)))
        return
    with ThreadPoolExecutor(arguments.at_once) as pool:
        rows = pool.map(measured, arguments.architectures, [arguments.device] * len(arguments.architectures))
        for number, (architecture, row) in enumerate(zip(arguments.architectures, rows, strict=True)):
            if not number:
                print("architecture", *row, sep="\t")
            print(architecture, *row.values(), sep="\t", flush=True)


if __name__ == "__main__":
    main()
