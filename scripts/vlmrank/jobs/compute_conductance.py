"""The pair files of one model and a chunk of datasets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vlmrank.errors import RUN_AGAIN, FailedPair
from vlmrank.jobs.pool import Card, JobSettings, Place, Stage, run_stage
from vlmrank.store import FAILED, Pair, write_pair
from vlmrank.store.identities import pair_identity

MODEL_NAMES = ("model", "architecture", "pretrained")


def compute_conductance(
    model: Card,
    datasets: Sequence[Card],
    outputs: Sequence[Place],
    options: Mapping[str, Any],
    settings: JobSettings,
    *,
    batch: int | str = "auto",
) -> None:
    """Make the pair file of every dataset (`vlmrank.jobs.pool.run_stage`).

    Parameters
    ----------
    model : model card, as `fetch_model` writes it.
    datasets : dataset cards, as `prepare_dataset` writes them.
    outputs : where the pair file of each dataset goes.
    options : the keys of `ConductanceOptions` that decide about the result.
    settings : where and with what; the precision is that of the options.
    batch : `auto`, or samples a pass.
    """
    settings = replace(settings, precision=options["precision"])
    run_stage(ConductanceStage(model, options, settings.code, batch), datasets, outputs, settings)


class ConductanceStage(Stage):
    """Layer conductance of one model; a result is a `Pair`."""

    def __init__(self, model: Card, options: Mapping[str, Any], code: str, batch: int | str = "auto"):
        self.model, self.options, self.code, self.batch = model, options, code, batch

    def lacks(self, dataset: Card) -> str:
        return "" if dataset["images"] else "the dataset has no image that can be used"

    def identity(self, dataset: Card) -> str:
        return pair_identity(self.model, dataset, self.options, self.code)

    def compute(self, loaded: Any, work: Iterator[tuple[str, Card]]) -> Iterator[tuple[str, Pair]]:
        from vlmrank.conductance.options import ConductanceOptions
        from vlmrank.conductance.pair import compute_pairs

        handed: list[Any] = []

        def tasks() -> Iterator[Any]:
            while handed:
                yield handed.pop()

        pairs = compute_pairs(loaded, tasks(), ConductanceOptions(**self.options, batch=self.batch))
        for identity, dataset in work:
            try:
                handed.append(pair_task(dataset, {"identity": identity, "code": self.code}))
            except FailedPair as error:
                yield identity, self.failed(dataset, str(error), identity)
                continue
            yield identity, next(pairs)

    def failed(self, dataset: Card, reason: str, identity: str = "") -> Pair:
        return failed_pair(self.model, dataset, reason, self.options, {"code": self.code, "identity": identity})

    def write(self, result: Pair, dataset: Card, output: Place) -> None:
        named = named_pair(result, self.model, dataset)
        if not self.problem(result) and not self.is_whole(result, dataset):  # its identity is that of the images it has
            there = {*result.image_id, *result.predicted_id}
            used = {
                part: [one for one in images if one["id"] in there] for part, images in image_lists(dataset).items()
            }
            identity = self.identity({**dataset, **used})
            named = Pair(**{**vars(named), "attributes": {**named.attributes, "identity": identity}})
        write_pair(output, named)

    def problem(self, result: Pair) -> str | None:
        return None if result.ok else result.attributes["reason"]

    def is_whole(self, result: Pair, dataset: Card) -> bool:
        every = [image["id"] for images in image_lists(dataset).values() for image in images]
        return not any(RUN_AGAIN in result.failed_images.get(name, "") for name in every)

    def told(self, result: Pair) -> str:
        images = f"{len(result.predicted_id)} images predicted, {len(result.image_id)} attributed"
        return f"{images} in {result.attributes['seconds']:.1f} s"

    def names(self, dataset: Card) -> dict[str, str]:
        return {"dataset": dataset["dataset"], **{name: self.model.get(name) or "" for name in MODEL_NAMES}}


def image_lists(dataset: Card) -> dict[str, list[Card]]:
    """The images of a dataset card that are attributed (`images`), and those beyond them that are `predicted`."""
    return {part: list(dataset.get(part) or []) for part in ("images", "predicted")}


def failed_pair(
    model: Card, dataset: Card, reason: str, options: Mapping[str, Any], attributes: Mapping[str, Any]
) -> Pair:
    """A pair without arrays: what was to be computed, and why it could not be.

    Parameters
    ----------
    options : as in `compute_conductance`.
    attributes : `code` and `identity`.
    """
    return Pair(
        failed_images={image["id"]: image["reason"] for image in dataset.get("failed_images") or []},
        attributes={
            **{name: model.get(name) or "" for name in (*MODEL_NAMES, "weights_sha256")},
            "preprocess": model.get("preprocess") or {},
            "dataset": dataset["dataset"],
            "objective": options["objective"],
            "baseline": options["baseline"],
            "quadrature": options["nodes"],
            "precision": options["precision"],
            "device": "",
            "seed": dataset.get("seed", 0),
            "class_names": list(dataset.get("classes") or []),
            "templates": list(dataset.get("templates") or []),
            "versions": {},
            "seconds": 0.0,
            "status": FAILED,
            "reason": reason,
            **attributes,
        },
    )


def named_pair(pair: Pair, model: Card, dataset: Card) -> Pair:
    """The pair with this user's names of the model and the dataset."""
    names = {"model": model["model"], "dataset": dataset["dataset"], "activation": model.get("activation") or ""}
    return Pair(**{**vars(pair), "attributes": {**pair.attributes, **names}})


def pair_task(dataset: Card, attributes: Mapping[str, Any]) -> Any:
    """Decode a dataset's images; one that cannot be decoded (any more) is left out with its reason.

    Raises
    ------
    FailedPair : an image is not the one that the card was written for.
    """
    from vlmrank.conductance.pair import PairTask
    from vlmrank.datasets.prepare import further_images, load_images
    from vlmrank.datasets.prompts import DEFAULT_TEMPLATES

    loaded = load_images(dataset)
    return PairTask(
        dataset=dataset["dataset"],
        images=loaded.images,
        image_ids=loaded.image_ids,
        classes=dataset.get("classes") or (),
        templates=dataset.get("templates") or DEFAULT_TEMPLATES,
        failed_images=loaded.failed,
        further=further_images(dataset),
        attributes={**attributes, "seed": dataset.get("seed", 0)},
    )
