"""The bench as `benchmarks/ideas.py` sees it: accuracies, predictions, conductance and divergences of all models."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from vlmrank.divergence import directional_conductance_divergence
from vlmrank.evaluation.counterparts import importance_of
from vlmrank.ranking import percentile_ranks
from vlmrank.representation import Representation, represent

ALIGNMENT = {"epsilon": 1.0, "rho": 1.0, "depth": 3.0}


def unit(values: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12)


class Zoo:
    """Arrays of `benchmarks/idea_arrays.py` beside the bench's tables; M models, T datasets, all sorted by name.

    Only models whose arrays of every kind in `kinds` are there take part, and only tasks of one split are targets.
    """

    def __init__(self, arrays: Path, bench: Path, split: str = "choose", kinds: Sequence[str] = ("forward",)) -> None:
        self.arrays = arrays
        self.models = sorted(
            path.stem
            for path in (arrays / kinds[0]).glob("*.npz")
            if "partial" not in path.name and all((arrays / kind / path.name).exists() for kind in kinds)
        )
        table = pd.read_csv(bench / "datasets.tsv", sep="\t").set_index("dataset").sort_index()
        self.datasets = list(table.index)
        self.groups = table["group"].to_numpy()
        self.targets = np.flatnonzero(table["split"] == split)
        self.clusters = pd.factorize(table["domain"].to_numpy()[self.targets])[0]
        truth = pd.read_csv(bench / "accuracy.csv").pivot(index="model", columns="dataset", values="acc1")
        self.accuracy = truth.loc[self.models, self.datasets].to_numpy()
        self.ranks = percentile_ranks(self.accuracy)
        self.images = np.load(arrays / "images.npz")
        self._forward: dict[str, dict[str, np.ndarray]] = {}
        self._logits: dict[int, np.ndarray] = {}
        self._divergences: dict[str, np.ndarray] = {}
        self.bench = bench

    def sources(self, target: int) -> np.ndarray:
        """All other datasets but the target's siblings."""
        return np.flatnonzero(self.groups != self.groups[target])

    @cached_property
    def class_accuracy(self) -> list[np.ndarray]:
        """T arrays [M, C_t]."""
        table = pd.read_csv(self.bench / "per_class_accuracy.csv", dtype={"class": str})
        found = []
        for name, rows in sorted(table.groupby("dataset")):
            sheet = yaml.safe_load((self.bench / "datasets" / name / "dataset.yaml").read_text())
            wide = rows.pivot(index="model", columns="class", values="acc1")
            found.append(wide.reindex(index=self.models, columns=[str(one) for one in sheet["classes"]]).to_numpy())
        return found

    def forward(self, model: str) -> dict[str, np.ndarray]:
        """Embeddings, class texts and scale of one model."""
        if model not in self._forward:
            self._forward[model] = dict(np.load(self.arrays / "forward" / f"{model}.npz"))
        return self._forward[model]

    def embedding(self, model: str, dataset: str, part: str) -> np.ndarray:
        """Image embeddings [N, D] of unit length."""
        return unit(self.forward(model)[f"{dataset}/{part}"].astype(np.float64))

    def model_logits(self, model: str, dataset: str, part: str = "target") -> np.ndarray:
        """[N, C]."""
        known = self.forward(model)
        return float(known["scale"]) * self.embedding(model, dataset, part) @ known[f"{dataset}/text"].T.astype(float)

    def logits(self, target: int) -> np.ndarray:
        """[M, N, C] of all target images."""
        if target not in self._logits:
            name = self.datasets[target]
            self._logits[target] = np.stack([self.model_logits(model, name) for model in self.models])
        return self._logits[target]

    def attributed(self, model: str, dataset: str, part: str) -> np.ndarray:
        """Attributions [N, D] of the head: embedding times the text of the pseudo-label, channel by channel."""
        label = self.model_logits(model, dataset, part).argmax(axis=1)
        return self.embedding(model, dataset, part) * self.forward(model)[f"{dataset}/text"][label]

    def conductance(self, model: str, kind: str) -> dict[str, list[np.ndarray]]:
        """Dataset -> blocks [16, C_b]."""
        found = np.load(self.arrays / kind / f"{model}.npz")
        count = sum(key.startswith(f"{self.datasets[0]}/") for key in found.files) - sum(
            f"{self.datasets[0]}/{key}" in found.files for key in ("rows", "score", "delta")
        )
        return {name: [found[f"{name}/{block}"] for block in range(count)] for name in self.datasets}

    def rows(self, dataset: str, part: str, count: int = 16) -> np.ndarray:
        """The images whose conductance was taken."""
        return self.images[f"{dataset}/{part}_order"][:count]

    def _tasks(self, model: str, what: str) -> list[Representation]:
        if what in ("embedding", "attributed"):  # of the same 16 images
            read = getattr(self, what)
            return [represent([read(model, d, "target")[self.rows(d, "target")]]) for d in self.datasets]
        if what == "embedding of all images":
            return [represent([self.embedding(model, d, "target")]) for d in self.datasets]
        if what == "conductance of 32 images":
            both = [self.conductance(model, f"logit-{part}") for part in ("target", "test")]
            joined = {
                d: [np.concatenate(pair) for pair in zip(*(one[d] for one in both), strict=True)] for d in both[0]
            }
            return [represent(joined[d]) for d in self.datasets]
        found = self.conductance(model, what)
        return [represent(found[d]) for d in self.datasets]

    def divergence(self, what: str = "logit-target", rank: int = 8) -> np.ndarray:
        """DCD [M, T, T] of conductance (a folder of the arrays), or of embeddings; kept in the arrays' folder."""
        key = f"{what} {rank} {len(self.models)}"
        path = self.arrays / "divergence" / f"{key.replace(' ', '-')}.npy"
        if key not in self._divergences and not path.exists():
            found = []
            for model in self.models:
                tasks = self._tasks(model, what)
                importance = np.ones((len(tasks), 1))
                if len(tasks[0].blocks) > 1:
                    importance = importance_of(tasks, [True] * len(tasks), **ALIGNMENT)
                found.append(directional_conductance_divergence(tasks, importance, rank=rank).dcd)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.stack(found))
        if key not in self._divergences:
            self._divergences[key] = np.load(path)
        return self._divergences[key]
