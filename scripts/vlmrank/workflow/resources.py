"""Memory and time of a job, and datasets per job, from the facts of its model.

The numbers come from `MEASURED`, printed by benchmarks/resources.py, and for a GPU from docs/results/gpu_jobs.csv:
`python benchmarks/gpu.py --residuals` prints how well they fit. They should suffice at the first attempt. Each retry
multiplies them by the number of the attempt, up to four, so that a job that ran out of memory or time gets more.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measured:
    """One model on one thread of a shared 2-core machine, float32, 16 samples (image, path point) per pass.

    Attributes
    ----------
    architecture : OpenCLIP's name; random weights.
    parameters : both towers, millions.
    image_size : side of the image, pixels.
    load_mb : peak memory once the model is loaded, Python and its packages included.
    peak_mb : peak memory after a pass forward and backward on the CPU.
    sample_s : seconds per sample.
    """

    architecture: str
    parameters: float
    image_size: int
    load_mb: int
    peak_mb: int
    sample_s: float


MEASURED = (
    Measured("RN50", 102.0, 224, 1804, 3115, 1.493),
    Measured("RN101", 119.7, 224, 1947, 3882, 2.466),
    Measured("ViT-B-16", 149.6, 224, 2184, 3180, 1.611),
    Measured("ViT-B-32", 151.3, 224, 2197, 2197, 0.526),
)
MEASURED_SAMPLES = 16

# Memory besides the model: Python with torch and open_clip, and Snakemake, which runs twice inside a SLURM job.
PROGRAM_MB, SNAKEMAKE_MB = 1000, 600
# A GPU job maps CUDA's libraries into host memory; its activations are on the GPU. Three towers on an H100 took 90 to
# 180 MB more than packages and parameters.
CUDA_MB = 300
# Bytes per float32 parameter, once as read from the file and once in the model.
BYTES_A_PARAMETER = 8
# Samples per pass on the CPU, if memory allows.
SAMPLES_A_PASS = 32
# Operations per second, forward and backward in float32, of the slowest measured tower on an H100 (fastest: 42e12).
GPU_FLOPS = 24e12
# How much slower the GPU may be: peak float32 of an A100 is 19.5 TFLOP/s, of an H100 66.9 (NVIDIA's data sheets).
SLOWER_CARD = 3.4
# Gigaoperations per image and million parameters at 224 x 224 pixels, if the model card does not say.
GFLOPS_A_MILLION = 0.4
# Starting Python, torch and the two Snakemakes takes minutes on a busy file system.
START_MINUTES = 5
SAFETY = 2.0
# No job asks for more than a day: one that needs more continues from the result store at the next attempt.
MOST_TIMES = 4  # one more attempt with the same memory shows that memory is not the cause
MOST_MINUTES = 24 * 60


@dataclass(frozen=True)
class Needs:
    """What to request from a scheduler.

    Attributes
    ----------
    memory_mb : host memory in MB.
    minutes : time limit.
    """

    memory_mb: int
    minutes: int


def given(resources: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> dict[str, int]:
    """What a job was granted; memory and time are binding only inside a scheduler's job.

    Examples
    --------
    >>> given({"gpu": 1, "mem_mb": 4000, "runtime": 30}, {"SLURM_JOB_ID": "7"})
    {'gpus': 1, 'memory_mb': 4000, 'minutes': 30}
    >>> given({"gpu": 1, "mem_mb": 4000, "runtime": 30}, {})
    {'gpus': 1}
    >>> given({"gpu": 0, "gres": "gpu:a100:2"}, {})
    {'gpus': 2}
    """
    names = {"gpu": "gpus"}
    if "SLURM_JOB_ID" in environment:
        names |= {"mem_mb": "memory_mb", "runtime": "minutes"}
    found = {ours: resources.get(theirs) for theirs, ours in names.items()}
    found["gpus"] = found["gpus"] or _gpus_of(str(resources.get("gres") or "")) or found["gpus"]
    return {name: value for name, value in found.items() if isinstance(value, int)}


def _gpus_of(gres: str) -> int:
    """GPUs in a list of generic resources as SLURM writes it: `gpu`, `gpu:2`, `gpu:a100:2`."""
    parts = [part.strip().split(":") for part in gres.split(",")]
    return sum(int(part[-1]) if part[-1].isdigit() else 1 for part in parts if part[0] == "gpu")


def _size(model: Mapping[str, Any]) -> tuple[float, float]:
    """Millions of parameters and number of pixels from a model card; those of a ViT-L/14 if unknown."""
    size = model.get("image_size") or 224
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return float(model.get("parameters") or 428e6) / 1e6, float(height) * float(width)


def sample_cost(model: Mapping[str, Any]) -> tuple[float, float]:
    """Megabytes and seconds of one sample (image, path point), forward and backward on one thread.

    Taken from the most expensive measured model with half to twice as many parameters (of all, if there is none),
    scaled by pixels, and beyond the largest model by parameters.
    """
    millions, pixels = _size(model)
    near = [row for row in MEASURED if 0.5 <= row.parameters / millions <= 2] or MEASURED
    scale = pixels * max(1.0, millions / max(row.parameters for row in near))
    megabytes = max((row.peak_mb - row.load_mb) / MEASURED_SAMPLES / row.image_size**2 for row in near)
    return megabytes * scale, max(row.sample_s / row.image_size**2 for row in near) * scale


def conductance_needs(
    model: Mapping[str, Any],
    datasets: int,
    predicted: int = 0,
    *,
    images: int,
    points: int,
    gpu: bool,
    threads: int = 1,
    attempt: int = 1,
) -> Needs:
    """Needs of one job that computes a model's conductance on a chunk of datasets.

    Parameters
    ----------
    model : model card: `parameters`, `image_size`, `gflops`.
    datasets : datasets in the chunk.
    predicted : images over all datasets that are only predicted; each costs a third of a sample.
    images : K, images per dataset.
    points : path steps.
    gpu : whether it computes on a GPU.
    threads : CPU threads of the job.
    attempt : 1, 2, ...

    Examples
    --------
    >>> small = {"parameters": 5e6, "image_size": 64}
    >>> conductance_needs(small, 20, images=16, points=16, gpu=False).memory_mb < 2500
    True
    """
    samples = datasets * images * (points + 1) + predicted / 3
    return _rounded(
        _memory(model, gpu), START_MINUTES + _minutes(model, samples, gpu, threads) + 0.02 * predicted / 60, attempt
    )


def gpu_sample_seconds(model: Mapping[str, Any]) -> float:
    """Seconds per sample on an H100 in float32; forward and backward count as twice the image's operations.

    Examples
    --------
    >>> round(gpu_sample_seconds({"gflops": 162.0}), 4)
    0.0135
    """
    millions, pixels = _size(model)
    gflops = float(model.get("gflops") or GFLOPS_A_MILLION * millions * pixels / 224**2)
    return 2 * gflops * 1e9 / GPU_FLOPS


def gpu_job_mb(model: Mapping[str, Any]) -> float:
    """Host memory of a GPU job, in MB: the program, the parameters, twice while loading, and CUDA."""
    return PROGRAM_MB + _size(model)[0] * BYTES_A_PARAMETER + CUDA_MB


def _minutes(model: Mapping[str, Any], samples: float, gpu: bool, threads: int = 1) -> float:
    """Minutes to ask for, besides those of the start."""
    if gpu:
        return SLOWER_CARD * samples * gpu_sample_seconds(model) / 60
    return SAFETY * samples * sample_cost(model)[1] / max(1, threads) / 60


def _memory(model: Mapping[str, Any], gpu: bool) -> float:
    if gpu:
        return SNAKEMAKE_MB + gpu_job_mb(model)
    on_cpu = _size(model)[0] * BYTES_A_PARAMETER + sample_cost(model)[0] * SAMPLES_A_PASS
    return PROGRAM_MB + SNAKEMAKE_MB + on_cpu


def accuracy_needs(model: Mapping[str, Any], images: int, *, gpu: bool, threads: int = 1, attempt: int = 1) -> Needs:
    """Needs of one job that measures a model's accuracy on `images` test images; each costs a third of a sample."""
    minutes = _minutes(model, images / 3, gpu, threads) + SAFETY * 0.01 * images / 60
    return _rounded(_memory(model, gpu), START_MINUTES + minutes, attempt)


def gather_needs(datasets: int, images: int, *, models: int = 1, predictions: float = 0.0, attempt: int = 1) -> Needs:
    """Needs of a job that reads the pairs of `models` models: no torch, arrays of a few megabytes per pair.

    `predictions` is the number of logits per model that it holds at once.
    """
    return _rounded(
        1500 + 0.05 * datasets * images + 2 * models + 10 * models * predictions / 1e6,
        START_MINUTES + datasets * datasets * images * models / 20_000,
        attempt,
    )


def datasets_in(minutes: float, model: Mapping[str, Any], *, images: int, points: int, gpu: bool) -> int:
    """How many datasets of a model fit into a time limit at the first attempt; at least 1."""
    one = _minutes(model, images * (points + 1), gpu)
    return max(1, math.floor((minutes - START_MINUTES) / one))


def datasets_per_job(
    model: Mapping[str, Any],
    datasets: int,
    *,
    most: int = 0,
    minutes: float | None = None,
    images: int,
    points: int,
    gpu: bool,
) -> int:
    """Number of datasets whose conductance one job computes for a model.

    All of them, but at most `most` (0: no limit) and, if the model's size is known, no more than fit into `minutes`. A
    number derived from `minutes` is a power of two, so that similar models are split alike.

    Examples
    --------
    >>> known = {"parameters": 1.5e8, "image_size": 224}
    >>> datasets_per_job(known, 40, images=16, points=16, gpu=False)
    40
    >>> datasets_per_job(known, 40, minutes=240, images=16, points=16, gpu=False)
    8
    >>> datasets_per_job({"parameters": None}, 40, most=20, minutes=240, images=16, points=16, gpu=False)
    20
    """
    count = min(most or datasets, datasets)
    if minutes is None or model.get("parameters") is None:
        return count
    fit = datasets_in(minutes, model, images=images, points=points, gpu=gpu)
    return count if fit >= count else 2 ** int(math.log2(fit))


def _rounded(memory: float, minutes: float, attempt: int) -> Needs:
    factor = min(attempt, MOST_TIMES)
    return Needs(
        memory_mb=100 * math.ceil(memory / 100) * factor,
        minutes=min(5 * math.ceil(minutes / 5) * factor, MOST_MINUTES),
    )
