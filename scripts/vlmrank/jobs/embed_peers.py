"""The job behind the rule embed_peers: features for peers, of one model on every dataset."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vlmrank.errors import RUN_AGAIN, FailedPair, reason_of
from vlmrank.evaluation.peer_features import (
    PeerFeatures,
    caption_templates,
    draw_labelled,
    embed_dataset,
    write_features,
)
from vlmrank.jobs.pool import Card, JobSettings, Place, Stage, run_stage
from vlmrank.store import FAILED, OK
from vlmrank.store.identities import accuracy_identity


def embed_for_peers(
    model: Card,
    datasets: Sequence[Card],
    outputs: Sequence[Place],
    options: Mapping[str, int],
    settings: JobSettings,
) -> None:
    """Write one model's features on each dataset (`vlmrank.jobs.pool.run_stage`).

    Parameters
    ----------
    model : model card.
    datasets : dataset cards; the captions are made from the templates of all of them.
    outputs : a file for each.
    options : `images`, labelled images to embed at most, and `seed` of their draw.
    settings : where and with what; always in float32.
    """
    templates = caption_templates(datasets, seed=options["seed"])
    settings = replace(settings, precision="float32")
    run_stage(PeersStage(model, templates, options, settings.code), datasets, outputs, settings)


class PeersStage(Stage):
    """Embeddings of labelled images and captions by one model; a result is `PeerFeatures`."""

    def __init__(self, model: Card, templates: Sequence[str], options: Mapping[str, int], code: str):
        self.model, self.templates, self.options, self.code = model, templates, options, code

    def identity(self, dataset: Card) -> str:
        drawn = draw_labelled(dataset, images=self.options["images"], seed=self.options["seed"])
        options = {"peers": list(self.templates)}
        return accuracy_identity(self.model, {**dataset, "test": drawn}, options, self.code)

    def compute(self, loaded: Any, work: Iterator[tuple[str, Card]]) -> Iterator[tuple[str, PeerFeatures]]:
        for identity, dataset in work:
            started = time.perf_counter()
            try:
                found = embed_dataset(loaded, dataset, self.templates, **self.options)
            except (FailedPair, RuntimeError, MemoryError) as error:  # out of memory, above all
                yield identity, self.failed(dataset, reason_of(error), identity)
                continue
            seconds = time.perf_counter() - started
            attributes = {"status": OK, "reason": "", "seconds": seconds, "identity": identity}
            yield identity, replace(found, attributes=attributes)

    def failed(self, dataset: Card, reason: str, identity: str = "") -> PeerFeatures:
        attributes = {"status": FAILED, "reason": reason, "seconds": 0.0, "identity": identity}
        return PeerFeatures(attributes=attributes)

    def write(self, result: PeerFeatures, dataset: Card, output: Place) -> None:
        write_features(output, replace(result, attributes={**result.attributes, **self.names(dataset)}))

    def problem(self, result: PeerFeatures) -> str | None:
        return None if result.attributes["status"] == OK else result.attributes["reason"]

    def is_whole(self, result: PeerFeatures, dataset: Card) -> bool:
        return not any(RUN_AGAIN in reason for reason in result.failed_images.values())

    def told(self, result: PeerFeatures) -> str:
        return f"{len(result.labels)} labelled images in {result.attributes['seconds']:.1f} s"

    def names(self, dataset: Card) -> dict[str, str]:
        return {"model": self.model["model"], "dataset": dataset["dataset"]}
