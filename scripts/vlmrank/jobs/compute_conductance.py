"""All pairs of one model and a chunk of datasets: from the result store what is finished, with one load the rest."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from vlmrank.errors import RUN_AGAIN, FailedPair, VlmrankError
from vlmrank.store import FAILED, OK, Pair, ResultStore, write_pair
from vlmrank.store.crashes import describe
from vlmrank.store.identities import pair_identity
from vlmrank.store.leases import Lease, Leases
from vlmrank.store.limits import until_terminated
from vlmrank.store.share_out import share_out

Card = Mapping[str, Any]
Place = str | os.PathLike[str]


def failed_pair(
    model: Card, dataset: Card, reason: str, *, options: Mapping[str, Any], code: str, identity: str = ""
) -> Pair:
    """A pair without arrays: what was to be computed, and why it could not be."""
    return Pair(
        failed_images={image["id"]: image["reason"] for image in dataset.get("failed_images") or []},
        attributes={
            **{name: model.get(name) or "" for name in ("model", "architecture", "pretrained", "weights_sha256")},
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
            "code": code,
            "versions": {},
            "seconds": 0.0,
            "status": FAILED,
            "reason": reason,
            "identity": identity,
        },
    )


def compute_conductance(
    model: Card,
    datasets: Sequence[Card],
    outputs: Sequence[Place],
    *,
    options: Mapping[str, Any],
    free: Mapping[str, Any],
    code: str,
    store: str | os.PathLike[str],
    cache: str | os.PathLike[str] | None = None,
    threads: int = 1,
    given: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Make the pair file of every dataset; torch and the model are loaded only if one of them is not in the store yet.

    A pair that another living process computes is waited for. One at which processes died becomes a failed pair
    (`vlmrank.store.share_out.share_out`), so that it takes no other down.

    Parameters
    ----------
    model : model card, as `fetch_model` writes it.
    datasets : dataset cards, as `prepare_dataset` writes them.
    outputs : where the pair file of each dataset goes.
    options : the keys of `ConductanceOptions` that decide about the result.
    free : those that do not: device, batch.
    code : hash of the code, part of the identity.
    store : folder of the result store.
    cache : folder of downloaded weights.
    threads : for torch.
    given : what the job was given: `gpus`, `memory_mb` and `minutes` (its time limit), as far as known.
    say : takes a line for each pair: what was done, seconds, what is left.
    """
    work = _Chunk(model, options, free, code, ResultStore(store, say), cache, threads, given or {}, say, len(datasets))
    work.look_up(datasets, outputs)
    if work.waiting:
        with until_terminated((given or {}).get("minutes"), started=time.monotonic()) as begin:
            work.compute(begin)
        work.collect()


@dataclass
class _Chunk:
    """The pairs of one job; `waiting` has those that are not there yet, by identity, with all places they go to."""

    model: Card
    options: Mapping[str, Any]
    free: Mapping[str, Any]
    code: str
    results: ResultStore
    cache: str | os.PathLike[str] | None
    threads: int
    given: Mapping[str, Any]
    say: Callable[[str], None]
    total: int
    waiting: dict[str, list[tuple[Card, Place]]] = field(default_factory=dict)
    finished: int = 0

    def done(self, dataset: Card, what: str) -> None:
        self.finished += 1
        left = self.total - self.finished
        rest = f"{left} of {self.total} left" if left else f"all {self.total} done"
        self.say(f"{self.model['model']} on {dataset['dataset']}: {what} ({rest})")

    def fail(self, dataset: Card, output: Place, reason: str, identity: str = "") -> None:
        pair = failed_pair(self.model, dataset, reason, options=self.options, code=self.code, identity=identity)
        write_pair(output, pair)
        self.done(dataset, f"FAILED: {reason}")

    def take(self, dataset: Card, output: Place, identity: str) -> bool:
        names = {name: self.model.get(name) or "" for name in ("model", "architecture", "pretrained")}
        return self.results.take(identity, output, dataset=dataset["dataset"], **names)

    def look_up(self, datasets: Sequence[Card], outputs: Sequence[Place]) -> None:
        """Take what the store has, fail what cannot be tried, and leave the rest in `waiting`."""
        for dataset, output in zip(datasets, outputs, strict=True):
            reason = _reason(self.model, dataset)
            if reason:
                self.fail(dataset, output, reason)
                continue
            identity = pair_identity(self.model, dataset, self.options, self.code)
            if self.take(dataset, output, identity):
                self.done(dataset, "taken from the store")
            else:
                self.waiting.setdefault(identity, []).append((dataset, output))

    def leased(self) -> Iterator[Lease]:
        """Yield what is this process's to compute; what is given up becomes a failed pair."""
        notes = {name: self.given[name] for name in ("memory_mb", "minutes") if self.given.get(name)}
        leases = Leases(self.results.root / "leases", notes=notes)
        for item in share_out(list(self.waiting), leases, self.results.holds, on_wait=self.wait):
            if isinstance(item, Lease):
                yield item
                continue
            for dataset, output in self.waiting.pop(item.key):
                self.fail(dataset, output, item.reason, item.key)

    def wait(self, identity: str, holder: Mapping[str, Any]) -> None:
        names = ", ".join(dataset["dataset"] for dataset, _ in self.waiting[identity])
        self.say(f"{self.model['model']} on {names}: waiting for another process to compute it: {describe(holder)}")

    def compute(self, begin: Callable[[Lease], None]) -> None:
        """Load the model once there is something to do with it, and compute pair after pair."""
        todo = self.leased()
        first = next(todo, None)
        if first is None:
            return
        begin(first)
        loaded, chosen = self.load(first)
        if loaded is None:
            return
        from vlmrank.conductance.pair import PairTask, compute_pairs

        handed: list[str] = []

        def tasks() -> Iterator[PairTask]:
            for lease in chain([first], todo):
                begin(lease)
                try:
                    task = _task(PairTask, self.waiting[lease.key][0][0], {"identity": lease.key, "code": self.code})
                except FailedPair as error:
                    for dataset, output in self.waiting.pop(lease.key):
                        self.fail(dataset, output, str(error), lease.key)
                    continue
                handed.append(lease.key)
                yield task

        for pair in compute_pairs(loaded, tasks(), chosen):
            self.keep(pair, handed[-1])

    def load(self, first: Lease) -> tuple[Any, Any]:
        """Return the loaded model and the options, (None, None) if it cannot be loaded and all pairs failed."""
        started = time.perf_counter()
        import torch

        from vlmrank.conductance.options import ConductanceOptions
        from vlmrank.models.device import choose_device
        from vlmrank.models.load import load_from_card

        torch.set_num_threads(self.threads)
        device = choose_device(self.free.get("device", "auto"), gpus=self.given.get("gpus", 0))
        seed = self.waiting[first.key][0][0].get("seed", 0)
        chosen = ConductanceOptions(**{**self.options, **self.free, "device": device, "seed": seed})
        try:
            loaded = load_from_card(self.model, cache=self.cache, device=device, precision=chosen.precision)
        except FailedPair as error:
            while self.waiting:
                identity, places = self.waiting.popitem()
                for dataset, output in places:
                    self.fail(dataset, output, str(error), identity)
            return None, None
        self.say(f"{self.model['model']}: loaded in {time.perf_counter() - started:.1f} s")
        return loaded, chosen

    def keep(self, pair: Pair, identity: str) -> None:
        """Write a computed pair to its places and, if it is good and of all its images, to the store."""
        places = self.waiting.pop(identity)
        drawn = places[0][0]["images"]
        whole = not any(RUN_AGAIN in pair.failed_images.get(image["id"], "") for image in drawn)
        for dataset, output in places[:1] if pair.ok and whole else places:
            named = {**pair.attributes, "model": self.model["model"], "dataset": dataset["dataset"]}
            named["activation"] = self.model.get("activation") or ""
            if not whole:  # its identity is that of the images it has
                used = [image for image in dataset["images"] if image["id"] in set(pair.image_id)]
                named["identity"] = pair_identity(self.model, {**dataset, "images": used}, self.options, self.code)
            write_pair(output, Pair(**{**vars(pair), "attributes": named}))
            if not pair.ok:
                self.done(dataset, f"FAILED: {pair.attributes['reason']}")
        if pair.ok:
            if whole:
                self.results.publish(identity, places[0][1])
            for dataset, output in places[1:] if whole else ():
                if not self.take(dataset, output, identity):
                    write_pair(output, Pair(**{**vars(pair), "attributes": {**named, "dataset": dataset["dataset"]}}))
            for dataset, _ in places:
                self.done(dataset, f"{len(pair.image_id)} images in {pair.attributes['seconds']:.1f} s")

    def collect(self) -> None:
        """Take what other processes computed meanwhile."""
        for identity, places in self.waiting.items():
            for dataset, output in places:
                if not self.take(dataset, output, identity):
                    raise VlmrankError(f"{self.results.path(identity)} went missing while it was needed; run again")
                self.done(dataset, "taken from the store")


def _reason(model: Card, dataset: Card) -> str:
    """Why a pair cannot even be tried, or an empty text."""
    if model.get("status", OK) == FAILED:
        return f"the model cannot be used: {model['reason']}"
    if dataset.get("status", OK) == FAILED:
        return f"the dataset cannot be used: {dataset['reason']}"
    if not dataset["images"]:
        return "the dataset has no image that can be used"
    return ""


def _task(task, dataset: Card, attributes: Mapping[str, Any]):
    """Decode a dataset's images; one that cannot be decoded (any more) is left out with its reason."""
    from vlmrank.datasets.prepare import load_images

    loaded = load_images(dataset)
    return task(
        dataset=dataset["dataset"],
        images=loaded.images,
        image_ids=loaded.image_ids,
        classes=dataset.get("classes") or (),
        templates=dataset.get("templates") or ("a photo of a {c}.",),
        failed_images=loaded.failed,
        attributes={**attributes, "seed": dataset.get("seed", 0)},
    )
