"""How large a run is before it starts: jobs, downloads, GPU hours and disk, each by a formula."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlmrank.workflow.resources import datasets_a_job

PROBE_NODES, PROBE_IMAGES = 17, 2  # forward passes that place the nodes of a path by arc length
START_SECONDS = 12.0  # Python, torch and open_clip, once a job
LOAD_BYTES_PER_SECOND = 500e6  # reading weights from a shared file system
GATHERS = 8  # tables, accuracies, class names, evaluation, pairs, report, check, all
FILE_OVERHEAD = 60_000  # bytes of an HDF5 file beside its arrays


@dataclass(frozen=True)
class ModelSize:
    """What the size of a run needs to know of a model; None where unknown (the median of the others is taken)."""

    parameters: float | None = None
    gflops: float | None = None
    channels: float | None = None
    blocks: float | None = None
    image_size: float | None = None


@dataclass(frozen=True)
class Figure:
    """One line of the size table: what, how much, in words, and the formula behind it."""

    what: str
    value: float
    text: str
    formula: str


def _known(values: Sequence[float | None]) -> list[float]:
    known = sorted(value for value in values if value is not None and not math.isnan(value))
    middle = known[len(known) // 2] if known else 0.0
    return [middle if value is None or math.isnan(value) else float(value) for value in values]


def human_bytes(value: float) -> str:
    """Bytes in decimal units.

    Examples
    --------
    >>> human_bytes(605_100_000), human_bytes(1500)
    ('605 MB', '1.5 kB')
    """
    units = ("B", "kB", "MB", "GB", "TB")
    power = min(int(math.log10(max(value, 1)) // 3), len(units) - 1)
    number = value / 1000**power
    return f"{number:.{0 if number >= 100 else 1}f} {units[power]}" if power else f"{value:.0f} B"


def run_size(
    models: Sequence[ModelSize],
    *,
    datasets: int,
    targets: int,
    twins: int = 0,
    config: Mapping[str, Any],
    downloads: float | None = None,
    classes: int = 100,
    embed_dim: int = 768,
    tflops: float = 15.0,
    measured_images: int = 0,
) -> list[Figure]:
    """Jobs, downloads, GPU hours and disk of a run.

    Parameters
    ----------
    models : of the models sheet.
    datasets, targets : rows of the datasets sheet, and those among them of the role target.
    twins : datasets that are computed a second time, without class names.
    config : the configuration with its defaults filled in.
    downloads : bytes that are not in the cache yet; None takes four bytes a parameter.
    classes, embed_dim : means, for the size of a pair file.
    tflops : what the GPU reaches on these towers in the chosen precision, in 1e12 operations a second. 15 suits float32
        on an A100 (its peak is 19.5); bfloat16 reaches several times as much.
    measured_images : labelled images over all datasets whose accuracy is measured.
    """
    m, d, computed = len(models), datasets, datasets + twins
    k, n = config["images"]["per_dataset"], config["conductance"]["points"]
    section = config["conductance"]
    limits = {"most": section["datasets_per_job"], "minutes": section["job_minutes"], "gpu": section["device"] != "cpu"}
    at_once = [datasets_a_job(vars(model), computed, images=k, points=n, **limits) for model in models]
    chunks = [math.ceil(computed / count) if d else 0 for count in at_once]
    measured = m if measured_images else 0
    jobs = sum(chunks) + 4 * m + d + measured + targets + GATHERS
    gpu_jobs = sum(chunks) + measured
    flops = [1e9 * value for value in _known([model.gflops for model in models])]
    passes = k * 2 * (n + 1) + (
        PROBE_NODES * min(PROBE_IMAGES, k) if config["conductance"]["nodes"] == "arc-length" else 0
    )
    compute = sum(flops) * (computed * passes + measured_images) / (tflops * 1e12)
    sizes = [4 * value for value in _known([model.parameters for model in models])]
    starts = zip(chunks, sizes, strict=True)
    loading = sum(count * (START_SECONDS + size / LOAD_BYTES_PER_SECOND) for count, size in starts)
    channels, blocks = (_known([getattr(model, name) for model in models]) for name in ("channels", "blocks"))
    arrays = [
        4 * (k * (c + b + embed_dim + classes) + classes * embed_dim) for c, b in zip(channels, blocks, strict=True)
    ]
    disk = 2 * computed * (sum(arrays) + m * FILE_OVERHEAD)  # once in the results folder, once in the store
    matrices = m * 8 * d * d * (k + 1)
    weights = sum(sizes) if downloads is None else downloads
    hours = (compute + loading) / 3600
    return [
        Figure(
            "jobs",
            jobs,
            f"{jobs}, of which {gpu_jobs} on a GPU",
            "models x (ceil(datasets / datasets a job) conductance + fetch + alignment + divergence + evidence"
            f"{' + accuracy' if measured else ''}) + datasets + targets + {GATHERS} gathers",
        ),
        Figure(
            "download", weights, human_bytes(weights), "4 bytes x parameters of the weights that are not cached yet"
        ),
        Figure(
            "GPU hours",
            hours,
            f"{hours:.1f} ({compute / 3600:.1f} computing, {loading / 3600:.1f} starting and loading)",
            f"sum over models of image GFLOPs x datasets x (images x 2 x (points + 1) + {PROBE_NODES} x "
            f"{PROBE_IMAGES}) / {tflops:g} TFLOP/s + jobs x {START_SECONDS:g} s + weights / 500 MB/s",
        ),
        Figure(
            "results on disk",
            disk + matrices,
            human_bytes(disk + matrices),
            "2 (results and store) x models x datasets x 4 bytes x (images x (channels + blocks + embedding + classes) "
            "+ classes x embedding) + models x 8 bytes x datasets^2 x (images + 1)",
        ),
    ]
