"""Read a results folder into one object; missing files leave parts empty, which the page leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from vlmrank import store
from vlmrank.accuracy.formats import is_other_task
from vlmrank.errors import UNTRIED
from vlmrank.evaluation.scores import Scores, read_scores
from vlmrank.models.names import loading_lines
from vlmrank.models.registry import family_of
from vlmrank.report.pairs import PairQuality, Profile, read_pairs
from vlmrank.report.reader import Reader, names, number, read_timings

RANKING_COLUMNS = ["rank", "model", "score", "rank_low", "rank_high", "p_top5", "status", "reason"]
EXPECTED_COLUMNS = ["accuracy", "accuracy_low", "accuracy_high", "loss"]  # of rankings with an answer
PART = "part: "  # prefix of the columns with the parts of the score
BESIDE_RANKING = (".weights", ".sensitivity", ".to_label")  # tables beside `ranking/<target>.csv`


@dataclass(frozen=True)
class Model:
    """What the page says about a model besides its rank.

    Attributes
    ----------
    name : in the models sheet and on the page.
    architecture, pretrained : as `open_clip.create_model_and_transforms` takes them.
    family : of its image tower.
    parameters, image_parameters : counts.
    gflops : of the image tower for one image.
    bytes : of its weights.
    speed : images per second, as measured in this run.
    weights : their SHA-256.
    status, reason, mismatches : what went wrong with it.
    """

    name: str
    family: str
    architecture: str = ""
    pretrained: str = ""
    parameters: float | None = None
    image_parameters: float | None = None
    gflops: float | None = None
    bytes: float | None = None
    speed: float | None = None
    status: str = store.OK
    reason: str = ""
    mismatches: tuple[str, ...] = ()
    weights: str = ""

    @property
    def code(self) -> str:
        """Python code that loads the model; empty if its architecture is unknown."""
        return loading_lines(self.architecture, self.pretrained) if self.architecture else ""


@dataclass(frozen=True)
class Run:
    """All data of the page; tables are empty and mappings lack keys if files are absent."""

    models: tuple[Model, ...]
    datasets: tuple[Mapping[str, Any], ...]
    targets: tuple[str, ...]
    rankings: Mapping[str, pd.DataFrame]
    facts: Mapping[str, Mapping[str, Any]]
    weights: Mapping[str, pd.DataFrame]
    accuracy: pd.DataFrame
    unmatched: int
    metrics: pd.DataFrame
    summary: pd.DataFrame
    differences: pd.DataFrame
    pairs: pd.DataFrame
    quality: tuple[PairQuality, ...]
    alignment: Mapping[str, store.Alignment]
    divergences: Mapping[str, store.Divergences]
    profiles: Mapping[tuple[str, str], Profile]
    timings: pd.DataFrame
    calibration: pd.DataFrame = field(default_factory=pd.DataFrame)
    scores: Scores | None = None
    sensitivity: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    to_label: Mapping[str, str] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)

    @property
    def sources(self) -> tuple[str, ...]:
        """Datasets that are not targets."""
        return tuple(d["dataset"] for d in self.datasets if d["dataset"] not in self.targets)

    @property
    def other_sources(self) -> tuple[str, ...]:
        """Sources that are not classification tasks, such as retrieval sets."""
        return tuple(name for name in self.sources if is_other_task(name))


def part_columns(table: pd.DataFrame) -> dict[str, str]:
    """Column -> title of the parts whose sum is the score of a ranking.

    >>> part_columns(pd.DataFrame({"score": [1.0], "part: agreement": [1.0]}))
    {'part: agreement': 'agreement'}
    """
    return {name: name.removeprefix(PART) for name in map(str, table.columns) if name.startswith(PART)}


def _model(name: str, card: Mapping[str, Any] | None, speed: float | None) -> Model:
    card = card or {}
    architecture = str(card.get("architecture") or "")
    return Model(
        name=name,
        family=str(card.get("family") or family_of(architecture or name.split("--")[0])),
        architecture=architecture,
        pretrained=str(card.get("pretrained") or ""),
        parameters=number(card.get("parameters")),
        image_parameters=number(card.get("image_parameters")),
        gflops=number(card.get("gflops")),
        bytes=number(card.get("bytes")),
        speed=speed,
        status=str(card.get("status") or store.OK),
        reason=str(card.get("reason") or ""),
        weights=str(card.get("weights_sha256") or ""),
        mismatches=tuple(str(m) for m in card.get("mismatches") or ()),
    )


def _speeds(pairs: pd.DataFrame, accuracy: pd.DataFrame) -> dict[str, float]:
    """Model -> images per second over the data sets on which its accuracy was measured here."""
    timed = pairs[(pairs["stage"] == "accuracy") & (pairs["status"] != store.FAILED)]
    both = timed.merge(accuracy[accuracy["origin"] == "measured"], on=["model", "dataset"])
    sums = both.assign(
        n=pd.to_numeric(both["n"], errors="coerce"), seconds=pd.to_numeric(both["seconds"], errors="coerce")
    ).groupby("model")[["n", "seconds"]]
    return {model: row.n / row.seconds for model, row in sums.sum().iterrows() if row.seconds > 0 and row.n > 0}


def _ranking(reader: Reader, name: str) -> pd.DataFrame:
    table = reader.table(f"ranking/{name}.csv", RANKING_COLUMNS)
    return table.assign(**{column: float("nan") for column in EXPECTED_COLUMNS if column not in table.columns})


def _untried(rankings: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, str]]:
    """Model -> status and reason, for models that a shortlist left out."""
    return {
        row.model: {"status": row.status, "reason": row.reason}
        for table in rankings.values()
        for row in table[table["status"] == UNTRIED].itertuples()
    }


def _targets(cards: Sequence[Mapping[str, Any]], rankings: Mapping[str, Any]) -> tuple[str, ...]:
    own = [card["dataset"] for card in cards if card.get("role") == "target" and card["dataset"] in rankings]
    return tuple(own or [card["dataset"] for card in cards if card["dataset"] in rankings] or sorted(rankings))


def _evaluation(reader: Reader) -> dict[str, Any]:
    """The tables of the held-out evaluation."""
    bounds = ["mean", "ci_low", "ci_high"]
    return {
        "metrics": reader.table("evaluation/metrics.csv", ["method", "target", "metric", "value"]),
        "summary": reader.table("evaluation/summary.csv", ["method", "metric", *bounds, "higher_is_better"]),
        "differences": reader.table(
            "evaluation/differences.csv", ["method", "reference", "metric", *bounds, "won", "tied", "lost"]
        ),
        "calibration": reader.table(
            "evaluation/calibration.csv", ["quantity", "claimed", "seen", "cases", "low", "high"]
        ),
        "scores": reader.get("evaluation/scores.h5", read_scores),
    }


def _by_target(reader: Reader, targets: Sequence[str]) -> dict[str, Any]:
    """The files beside the rankings, by target."""
    weights = ["model", "source", "dcd", "weight"]
    sensitivity = ["change", "model", "share"]
    listed = {name: f"ranking/{name}.to_label.csv" for name in targets}
    return {
        "facts": {name: reader.get(f"ranking/{name}.answer.json", store.read_json) or {} for name in targets},
        "weights": {name: reader.table(f"ranking/{name}.weights.csv", weights) for name in targets},
        "sensitivity": {name: reader.table(f"ranking/{name}.sensitivity.csv", sensitivity) for name in targets},
        "to_label": {name: path for name, path in listed.items() if len(reader.table(path))},
    }


def collect(
    results: str | Path,
    *,
    models: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    benchmarks: str | Path | None = None,
) -> Run:
    """Read the results folder; see `vlmrank.report.build.build_report` for the parameters."""
    results = Path(results)
    reader = Reader(results)
    rankings = {
        name: _ranking(reader, name) for name in names(results / "ranking", ".csv") if not name.endswith(BESIDE_RANKING)
    }
    if models is None:
        models = sorted(
            set(names(results / "models", ".json")).union(*(set(table["model"]) for table in rankings.values()))
        )
    if datasets is None:
        datasets = names(results / "datasets", ".json")
    cards = [(reader.get(f"datasets/{name}.json", store.read_json) or {}) | {"dataset": name} for name in datasets]
    targets = _targets(cards, rankings)
    alignment = {model: reader.get(f"alignment/{model}.h5", store.read_alignment) for model in models}
    alignment = {model: found for model, found in alignment.items() if found is not None}
    divergences = {model: reader.get(f"dcd/{model}.h5", store.read_dcd) for model in models}
    quality, profiles = read_pairs(reader, models, datasets, targets, alignment)
    accuracy = reader.table("accuracy.csv", ["model", "dataset", "acc1", "n", "origin"])
    pairs = reader.table("pairs.csv", ["stage", "model", "dataset", "status", "reason", "seconds"])
    speeds, untried = _speeds(pairs, accuracy), _untried(rankings)
    return Run(
        models=tuple(
            _model(
                name,
                {**(reader.get(f"models/{name}.json", store.read_json) or {}), **untried.get(name, {})},
                speeds.get(name),
            )
            for name in models
        ),
        datasets=tuple(cards),
        targets=targets,
        rankings={name: rankings[name][rankings[name]["model"].isin(set(models))] for name in targets},
        accuracy=accuracy,
        unmatched=len(reader.table("accuracy_unmatched.csv")),
        pairs=pairs,
        quality=tuple(quality),
        alignment=alignment,
        divergences={model: found for model, found in divergences.items() if found is not None},
        profiles=profiles,
        timings=read_timings(Path(benchmarks) if benchmarks else None),
        **_evaluation(reader),
        **_by_target(reader, targets),
        unreadable=reader.unreadable,
    )
