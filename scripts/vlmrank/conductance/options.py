"""Options of the conductance engine, key by key as in the configuration."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ConductanceOptions:
    """How conductance is computed: the `conductance` section of the config, key by key.

    Attributes
    ----------
    objective : `zero-shot` (falls back to `embedding` where a dataset has no classes) or `embedding`.
    baseline : `black`, `mean` (the mean of the dataset's images, pixel by pixel) or `blur`.
    nodes : `arc-length` or `uniform`.
    points : number of path steps n.
    tolerance : None, or the relative change of the attributions below which the path is not refined further.
    max_points : ceiling of the refinement.
    precision : `float32`, `tf32`, `bfloat16` or `float64`.
    device : `auto`, `cpu` or `cuda`.
    engine : `vlmrank` or `captum`.
    batch : `auto`, or samples per pass.
    rule : `auto`, or a rule of `vlmrank.conductance.quadrature`.
    seed : stored with the result; nothing here is random.
    """

    objective: str = "zero-shot"
    baseline: str = "black"
    nodes: str = "arc-length"
    points: int = 8
    tolerance: float | None = None
    max_points: int = 256
    precision: str = "float32"
    device: str = "auto"
    engine: str = "vlmrank"
    batch: int | str = "auto"
    rule: str = "auto"
    seed: int = 0
