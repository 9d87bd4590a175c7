"""The job behind the rule compute_conductance: the pair files of one model and a chunk of datasets."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vlmrank.errors import RUN_AGAIN, FailedPair, VlmrankError
from vlmrank.jobs.pool import Card, JobSettings, Place, Stage, run_stage
from vlmrank.store import FAILED, Pair, ResultStore, read_pair, write_pair
from vlmrank.store.identities import TEXT_PACKAGES, deciding_options, pair_identity, row_family, versions
from vlmrank.store.packs import read_pack, why_missing
from vlmrank.store.rows import known_rows

RELATIVES = 8  # pairs of a family that are searched for known rows
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
    options : the keys of `ConductanceOptions` that decide the result.
    settings : where and with what; the precision is that of the options.
    batch : `auto`, or samples per pass.
    """
    settings = replace(settings, precision=options["precision"])
    stage = ConductanceStage(model, options, settings.code, ResultStore(settings.store, settings.say), batch)
    run_stage(stage, datasets, outputs, settings)


class ConductanceStage(Stage):
    """Layer conductance of one model; a result is a `Pair`."""

    def __init__(
        self, model: Card, options: Mapping[str, Any], code: str, results: ResultStore, batch: int | str = "auto"
    ):
        self.model, self.options, self.code, self.results, self.batch = model, options, code, results, batch

    def lacks(self, dataset: Card) -> str:
        return "" if dataset["images"] else "the dataset has no image that can be used"

    def identity(self, dataset: Card) -> str:
        return pair_identity(self.model, dataset, self.options, self.code)

    def known(self, dataset: Card) -> Pair | None:
        """Rows that the store has for the dataset's images, from any pair with this model, settings and class names."""

        def relatives() -> Iterator[Pair]:
            family = row_family(self.model, dataset, self.options, self.code)
            for path in itertools.islice(self.results.relatives(family), RELATIVES):
                with contextlib.suppress(VlmrankError, OSError):  # damaged or gone: compute its images again
                    yield read_pair(path)

        lists = image_lists(dataset)
        return known_rows(relatives(), lists["images"], lists["predicted"])

    def assembled(self, identity: str, dataset: Card) -> Pair | None:
        known, lists = self.known(dataset), image_lists(dataset)
        if known is None or len(known.image_id) < len(lists["images"]):
            return None
        if len(known.predicted_id) < sum(map(len, lists.values())):
            return None
        failed = {image["id"]: image["reason"] for image in dataset.get("failed_images") or []}
        anew = {"seconds": 0.0, "attributed_anew": 0, "predicted_anew": 0, "seed": dataset.get("seed", 0)}
        attributes = {**known.attributes, **anew, "identity": identity}
        return replace(known, failed_images=failed, attributes=attributes)

    def unpack(self, identity: str, dataset: Card, output: Place, packs: Sequence[Place]) -> str:
        settings = {
            "options": deciding_options(self.options),
            "code": self.code,
            "versions": versions(TEXT_PACKAGES),
        }
        try:
            found = [read_pack(path) for path in packs]
            if any(pack.take(identity, output, **self.names(dataset)) for pack in found):
                return ""
        except VlmrankError as error:
            return str(error)
        return why_missing(found, self.model, dataset, settings)

    def kept(self, identity: str, dataset: Card) -> None:
        self.results.relate(identity, row_family(self.model, dataset, self.options, self.code))

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
                handed.append(pair_task(dataset, {"identity": identity, "code": self.code}, self.known(dataset)))
            except FailedPair as error:
                yield identity, self.failed(dataset, str(error), identity)
                continue
            yield identity, next(pairs)

    def failed(self, dataset: Card, reason: str, identity: str = "") -> Pair:
        return failed_pair(self.model, dataset, reason, self.options, {"code": self.code, "identity": identity})

    def write(self, result: Pair, dataset: Card, output: Place) -> None:
        named = named_pair(result, self.model, dataset)
        if not self.problem(result) and not self.is_whole(result, dataset):  # its identity covers the images it has
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
        told = []
        for what, count in (("predicted", len(result.predicted_id)), ("attributed", len(result.image_id))):
            anew = result.attributes.get(f"{what}_anew", count)
            told.append(f"{count} {'images ' * (not told)}{what}" + (f" ({anew} anew)" if anew < count else ""))
        return f"{', '.join(told)} in {result.attributes['seconds']:.1f} s"

    def names(self, dataset: Card) -> dict[str, str]:
        return {"dataset": dataset["dataset"], **{name: self.model.get(name) or "" for name in MODEL_NAMES}}


def image_lists(dataset: Card) -> dict[str, list[Card]]:
    """The images of a dataset card that are attributed (`images`), and those beyond them that are `predicted`."""
    return {part: list(dataset.get(part) or []) for part in ("images", "predicted")}


def failed_pair(
    model: Card, dataset: Card, reason: str, options: Mapping[str, Any], attributes: Mapping[str, Any]
) -> Pair:
    """A failed pair: no arrays, only attributes and the reason.

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


def pair_task(dataset: Card, attributes: Mapping[str, Any], known: Pair | None = None) -> Any:
    """Decode a dataset's images; those that cannot be decoded are left out with the reason.

    Parameters
    ----------
    known : rows of images that need not be computed, under the dataset's names.

    Raises
    ------
    FailedPair : an image has changed since the card was written.
    """
    from vlmrank.conductance.pair import PairTask
    from vlmrank.datasets.prepare import further_images, load_images
    from vlmrank.datasets.prompts import DEFAULT_TEMPLATES

    lists = image_lists(dataset)
    attributed, predicted = (set(), set()) if known is None else (set(known.image_id), set(known.predicted_id))
    new = {
        "images": [image for image in lists["images"] if image["id"] not in attributed],
        "predicted": [image for image in lists["predicted"] if image["id"] not in predicted],
    }
    loaded = load_images({**dataset, **new})
    return PairTask(
        dataset=dataset["dataset"],
        images=loaded.images,
        image_ids=loaded.image_ids,
        classes=dataset.get("classes") or (),
        templates=dataset.get("templates") or DEFAULT_TEMPLATES,
        failed_images=loaded.failed,
        further=further_images({**dataset, **new}),
        sha256={image["id"]: image["sha256"] for images in lists.values() for image in images},
        known=known,
        attributes={**attributes, "seed": dataset.get("seed", 0)},
    )
