"""The size of a run before it starts: jobs, downloads, GPU hours and disk, each by a formula."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlmrank.datasets.draw import MOST_PREDICTED
from vlmrank.text import human_bytes
from vlmrank.workflow.resources import datasets_per_job

PROBE_NODES, PROBE_IMAGES = 17, 2  # size of the forward passes that place the nodes of a path by arc length
START_SECONDS = 12.0  # Python, torch and open_clip, once per job
LOAD_BYTES_PER_SECOND = 500e6  # reading weights from a shared file system
GATHERS = 7  # accuracies, class names, evaluation, pairs, report, check, all
FILE_OVERHEAD = 60_000  # bytes of an HDF5 file besides its arrays


@dataclass(frozen=True)
class ModelSize:
    """Facts of a model for the size of a run; None if unknown (the median of the others is taken)."""

    parameters: float | None = None
    gflops: float | None = None
    channels: float | None = None
    blocks: float | None = None
    image_size: float | None = None


@dataclass(frozen=True)
class DatasetCounts:
    """Facts of the datasets for the size of a run.

    Attributes
    ----------
    datasets, targets : rows of the datasets sheet, and those with the role target.
    twins : datasets that are computed a second time, without class names.
    measured : datasets whose accuracy is measured.
    measured_images : labelled images over all of these.
    tables, demo : jobs that download a published table, and that make the demo's tasks and models.
    classes, embed_dim : means, for the size of a pair file.
    """

    datasets: int
    targets: int
    twins: int = 0
    measured: int = 0
    measured_images: int = 0
    tables: int = 0
    demo: int = 0
    classes: int = 100
    embed_dim: int = 768

    @property
    def computed(self) -> int:
        """Datasets whose conductance is computed, twins included."""
        return self.datasets + self.twins


@dataclass(frozen=True)
class Figure:
    """One line of the size table: what, how much, as text, and its formula."""

    what: str
    value: float
    text: str
    formula: str


def _known(values: Sequence[float | None]) -> list[float]:
    known = sorted(value for value in values if value is not None and not math.isnan(value))
    middle = known[len(known) // 2] if known else 0.0
    return [middle if value is None or math.isnan(value) else float(value) for value in values]


def run_size(
    models: Sequence[ModelSize],
    datasets: DatasetCounts,
    *,
    config: Mapping[str, Any],
    downloads: float | None = None,
    tflops: float = 15.0,
) -> list[Figure]:
    """Jobs, downloads, GPU hours and disk of a run.

    Parameters
    ----------
    models : of the models sheet.
    datasets : their numbers and sizes.
    config : the configuration with its defaults filled in.
    downloads : bytes that are not in the cache yet; None takes four bytes per parameter.
    tflops : sustained GPU throughput on these towers in the chosen precision, TFLOP/s. 15 suits float32 on an A100
        (peak 19.5); bfloat16 reaches several times as much.
    """
    chunks = _chunks(models, datasets, config)
    weights = [4 * value for value in _known([model.parameters for model in models])]
    starts = zip(chunks, weights, strict=True)
    loading = sum(count * (START_SECONDS + size / LOAD_BYTES_PER_SECOND) for count, size in starts)
    computing = _operations(models, datasets, chunks, config) / (tflops * 1e12)
    return [
        _jobs(chunks, datasets, labelled=bool(config["evaluation"]["labelled"])),
        _download(sum(weights) if downloads is None else downloads),
        _hours(computing, loading, tflops),
        _disk(models, datasets, config),
    ]


def _chunks(models: Sequence[ModelSize], datasets: DatasetCounts, config: Mapping[str, Any]) -> list[int]:
    """Conductance jobs of each model."""
    section, images = config["conductance"], config["images"]["per_dataset"]
    limits = {"most": section["datasets_per_job"], "minutes": section["job_minutes"], "gpu": section["device"] != "cpu"}
    work = {"images": images, "points": section["points"], **limits}
    per_job = [datasets_per_job(vars(model), datasets.computed, **work) for model in models]
    return [math.ceil(datasets.computed / count) if datasets.datasets else 0 for count in per_job]


def predicted_images(datasets: DatasetCounts, images: Mapping[str, Any]) -> int:
    """Upper bound of the images that a model predicts over all datasets.

    Parameters
    ----------
    datasets : their numbers; twins count as sources.
    images : the section of the configuration: `predictions` images are predicted, but at least `per_dataset`.

    Examples
    --------
    >>> predicted_images(DatasetCounts(3, 1), {"per_dataset": 16, "predictions": "all"})
    2560
    >>> predicted_images(DatasetCounts(3, 1), {"per_dataset": 16, "predictions": 8})
    48
    """
    wanted = images["predictions"]
    most = MOST_PREDICTED if wanted == "all" else dict.fromkeys(MOST_PREDICTED, wanted)
    source, target = (max(images["per_dataset"], most[role]) for role in ("source", "target"))
    return (datasets.computed - datasets.targets) * source + datasets.targets * target


def _operations(
    models: Sequence[ModelSize], datasets: DatasetCounts, chunks: Sequence[int], config: Mapping[str, Any]
) -> float:
    """Floating point operations of all image towers."""
    section = config["conductance"]
    passes = datasets.computed * config["images"]["per_dataset"] * 2 * (section["points"] + 1)
    passes += predicted_images(datasets, config["images"]) + datasets.measured_images
    probes = PROBE_NODES * PROBE_IMAGES if section["nodes"] == "arc-length" else 0
    flops = [1e9 * value for value in _known([model.gflops for model in models])]
    return sum(cost * (passes + count * probes) for cost, count in zip(flops, chunks, strict=True))


def _jobs(chunks: Sequence[int], datasets: DatasetCounts, *, labelled: bool) -> Figure:
    on_gpu = {"accuracy": datasets.measured > 0, "labelled images": labelled}
    per_model = [what for what, made in on_gpu.items() if made]
    others = {
        "datasets": datasets.datasets,
        "targets": datasets.targets,
        "tables": datasets.tables,
        "demo": datasets.demo,
    }
    count = sum(chunks) + (4 + len(per_model)) * len(chunks) + sum(others.values()) + GATHERS
    return Figure(
        "jobs",
        count,
        f"{count}, of which {sum(chunks) + len(per_model) * len(chunks)} on a GPU",
        "models x (ceil(datasets / datasets per job) conductance + fetch + alignment + divergence + evidence"
        f"{''.join(f' + {what}' for what in per_model)})"
        f"{''.join(f' + {what}' for what, number in others.items() if number)} + {GATHERS} gathers",
    )


def _download(size: float) -> Figure:
    formula = "4 bytes x parameters of the weights that are not cached yet"
    return Figure("download", size, human_bytes(size), formula)


def _hours(computing: float, loading: float, tflops: float) -> Figure:
    hours = (computing + loading) / 3600
    return Figure(
        "GPU hours",
        hours,
        f"{hours:.1f} ({computing / 3600:.1f} computing, {loading / 3600:.1f} starting and loading)",
        "sum over models of image GFLOPs x (datasets x images x 2 x (points + 1) + predicted images + measured images "
        f"+ jobs x {PROBE_NODES} x {PROBE_IMAGES}) / {tflops:g} TFLOP/s + jobs x {START_SECONDS:g} s + weights / 500 "
        "MB/s; predicted images as images.predictions says, if all datasets have as many",
    )


def _disk(models: Sequence[ModelSize], datasets: DatasetCounts, config: Mapping[str, Any]) -> Figure:
    embedding, classes, images = datasets.embed_dim, datasets.classes, config["images"]["per_dataset"]
    channels, blocks = (_known([getattr(model, name) for model in models]) for name in ("channels", "blocks"))
    each = [4 * (images * (c + b) + classes * embedding) + FILE_OVERHEAD for c, b in zip(channels, blocks, strict=True)]
    predictions = len(models) * 4 * predicted_images(datasets, config["images"]) * (embedding + classes)
    pairs = 2 * (datasets.computed * sum(each) + predictions)  # once in the results, once in the store
    matrices = len(models) * 8 * datasets.datasets**2 * (images + 1)
    return Figure(
        "results on disk",
        pairs + matrices,
        human_bytes(pairs + matrices),
        "2 (results and store) x models x 4 bytes x (datasets x (images x (channels + blocks) + classes x embedding) "
        "+ predicted images x (embedding + classes)) + models x 8 bytes x datasets^2 x (images + 1)",
    )
