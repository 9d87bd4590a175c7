"""Measure what one conductance job needs: the table behind `vlmrank.workflow.resources`.

Models with random weights are built, saved and loaded again as a job does it, one process each; nothing is downloaded.
Prints one row per model: parameters, image size, peak memory after loading and after computing, seconds per sample.

    python benchmarks/resources.py [ARCHITECTURE ...]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

ARCHITECTURES = ("ViT-B-32", "RN50", "ViT-B-16", "RN101", "ViT-L-14")
IMAGES, POINTS = 5, 16  # 85 samples: more than two full passes of the CPU batch


def peak_mb() -> float:
    """Peak resident memory of this process in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def save(architecture: str, folder: Path) -> None:
    """Write a model with random weights as `local-dir:` wants it."""
    import open_clip
    from safetensors.torch import save_file

    model = open_clip.create_model(architecture)
    config = {"model_cfg": open_clip.get_model_config(architecture), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )


def measure(folder: Path) -> dict[str, float]:
    """Load the model in `folder` and compute one pass, in this process."""
    import time

    import torch

    from vlmrank.conductance.options import ConductanceOptions
    from vlmrank.conductance.pair import PairTask, compute_pairs
    from vlmrank.zoo import load_model

    torch.set_num_threads(1)
    imported = peak_mb()
    started = time.perf_counter()
    loaded = load_model(f"local-dir:{folder}", None, device="cpu")
    seconds_load, after_load = time.perf_counter() - started, peak_mb()
    size = loaded.card["image_size"]
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    images = torch.rand(IMAGES, 3, height, width)
    options = ConductanceOptions(points=POINTS, nodes="uniform", device="cpu")
    started = time.perf_counter()
    (pair,) = compute_pairs(loaded, [PairTask("noise", images, ["a", "b"], classes=("cat", "dog"))], options)
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
    }


def main() -> None:
    """Measure each architecture in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("architectures", nargs="*", default=ARCHITECTURES)
    parser.add_argument("--save", help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.save:
        save(arguments.architectures[0], Path(arguments.save))
        return
    if arguments.measure:
        print(json.dumps(measure(Path(arguments.measure))))
        return
    for number, architecture in enumerate(arguments.architectures):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, __file__, architecture, "--save", folder], check=True)
            done = subprocess.run(
                [sys.executable, __file__, architecture, "--measure", folder],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
        row = json.loads(done.stdout.splitlines()[-1])
        if not number:
            print("architecture", *row, sep="\t")
        print(architecture, *row.values(), sep="\t", flush=True)


if __name__ == "__main__":
    main()
