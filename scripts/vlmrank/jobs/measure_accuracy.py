"""The job behind the rule measure_accuracy: accuracies of one model on every dataset with labelled images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vlmrank.accuracy.measured import failed_result, lost_for_now, measure_accuracy
from vlmrank.errors import FailedPair, VlmrankError, reason_of
from vlmrank.jobs.pool import Card, JobSettings, Place, Stage, run_stage
from vlmrank.store import OK, write_json
from vlmrank.store.identities import accuracy_identity
from vlmrank.store.packs import read_pack


def measure_accuracies(model: Card, datasets: Sequence[Card], outputs: Sequence[Place], settings: JobSettings) -> None:
    """Write the accuracy of one model on each dataset (`vlmrank.jobs.pool.run_stage`).

    Parameters
    ----------
    model : model card.
    datasets : dataset cards.
    outputs : a JSON file for each.
    settings : where and with what; the precision is part of the identity.
    """
    run_stage(AccuracyStage(model, settings), datasets, outputs, settings)


class AccuracyStage(Stage):
    """Zero-shot accuracy of one model; a result is what `measure_accuracy` returns."""

    suffix = ".json"

    def __init__(self, model: Card, settings: JobSettings):
        self.model, self.settings = model, settings

    def identity(self, dataset: Card) -> str:
        return accuracy_identity(self.model, dataset, {"precision": self.settings.precision}, self.settings.code)

    def settled(self, dataset: Card) -> dict[str, Any] | None:
        if dataset.get("packed"):
            return self.packed(dataset["dataset"])
        return None if dataset.get("test") else failed_result("there are no labelled images", status=OK)

    def packed(self, source: str) -> dict[str, Any]:
        """The accuracy on a source that a pack of this model holds."""
        try:
            packs = [read_pack(path) for path in self.settings.packs]
        except VlmrankError as error:
            return failed_result(str(error))
        known = next(
            (pack.accuracy[source] for pack in packs if pack.is_of(self.model) and source in pack.accuracy), None
        )
        if known is None:
            return failed_result(
                f"the source {source} comes from a pack, and no pack knows this model's accuracy on it"
            )
        return {**failed_result("", status=OK), **known}

    def compute(self, loaded: Any, work: Iterator[tuple[str, Card]]) -> Iterator[tuple[str, dict[str, Any]]]:
        for identity, dataset in work:
            try:
                yield (
                    identity,
                    measure_accuracy(
                        loaded,
                        dataset,
                        threads=self.settings.threads,
                        identity=identity,
                        precision=self.settings.precision,
                    ),
                )
            except (FailedPair, RuntimeError, MemoryError) as error:  # out of memory, above all
                yield identity, self.failed(dataset, reason_of(error), identity)

    def failed(self, dataset: Card, reason: str, identity: str = "") -> dict[str, Any]:
        return failed_result(reason, identity)

    def write(self, result: Mapping[str, Any], dataset: Card, output: Place) -> None:
        write_json(output, result)

    def problem(self, result: Mapping[str, Any]) -> str | None:
        return None if result["status"] == OK else result["reason"]

    def is_whole(self, result: Mapping[str, Any], dataset: Card) -> bool:
        return not lost_for_now(result)

    def told(self, result: Mapping[str, Any]) -> str:
        if not result["n"]:
            return result["reason"]
        lost = len(result["failed_images"])
        images = f"{result['n']} of {result['n'] + lost} images" if lost else f"{result['n']} images"
        return f"accuracy {result['acc1']:.3f} on {images} in {result['seconds']:.1f} s"
