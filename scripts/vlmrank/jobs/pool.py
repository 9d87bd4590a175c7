"""The loop of every GPU job: look results up, lease what is missing, load the model once, compute and store.

A `Stage` defines what differs: the identity of a result, how it is computed and how it is written. Whatever prevents a
result (a model that cannot be loaded or does not fit, a missing device, a crash) becomes a row with the reason; the
other results go on.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from vlmrank.errors import RUN_AGAIN, FailedPair, VlmrankError
from vlmrank.store import FAILED, OK, ResultStore
from vlmrank.store.crashes import describe
from vlmrank.store.leases import Lease, Leases
from vlmrank.store.limits import until_terminated
from vlmrank.store.share_out import share_out
from vlmrank.text import plural

Card = Mapping[str, Any]
Place = str | os.PathLike[str]
TAKEN = "taken from the store"
logger = logging.getLogger("vlmrank")


@dataclass(frozen=True)
class JobSettings:
    """Where and how a job runs. Only `code` and `precision` are part of a result's identity.

    Attributes
    ----------
    store : folder of the result store.
    code : hash of the code, part of every identity.
    cache : folder of downloaded weights.
    device : `auto`, `cpu` or `cuda`.
    precision : as `vlmrank.models.load.load_from_card` takes it.
    threads : for torch.
    given : what the scheduler granted, as far as known: `gpus`, `memory_mb`, `minutes` (the time limit).
    say : called with one line per result: what was done and what is left.
    packs : pack files of this model (`vlmrank.store.packs`).
    """

    store: Place
    code: str = ""
    cache: Place | None = None
    device: str = "auto"
    precision: str = "float32"
    threads: int = 1
    given: Mapping[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = lambda line: None
    packs: Sequence[Place] = ()

    @classmethod
    def of(cls, config: Mapping[str, Any], **given: Any) -> JobSettings:
        """The settings in a configuration, together with `given` (code, threads, given, say, packs)."""
        return cls(
            store=config["store"] or f"{config['results']}/store",
            cache=config["cache"],
            device=config["conductance"]["device"],
            precision=config["conductance"]["precision"],
            **given,
        )


class Stage(ABC):
    """What differs between the GPU stages; each has its own type of result.

    Attributes
    ----------
    model : model card.
    suffix : of the result files.
    """

    model: Card
    suffix = ".h5"

    @abstractmethod
    def identity(self, dataset: Card) -> str:
        """Name of the result in the store."""

    @abstractmethod
    def compute(self, loaded: Any, work: Iterator[tuple[str, Card]]) -> Iterator[tuple[str, Any]]:
        """Yield (identity, result) for each (identity, dataset), in order; a failure is a failed result.

        It takes one item from `work` at a time, after yielding the result before.
        """

    @abstractmethod
    def failed(self, dataset: Card, reason: str, identity: str = "") -> Any:
        """The result that stands for a failure."""

    @abstractmethod
    def write(self, result: Any, dataset: Card, output: Place) -> None:
        """Write a result of a dataset to its place."""

    @abstractmethod
    def problem(self, result: Any) -> str | None:
        """Why a result failed, or None."""

    def settled(self, dataset: Card) -> Any | None:
        """A result that needs no computation, or None."""
        return None

    def assembled(self, identity: str, dataset: Card) -> Any | None:
        """A result assembled from rows in the store, or None."""
        return None

    def kept(self, identity: str, dataset: Card) -> None:
        """Called after a result was stored."""
        return None

    def lacks(self, dataset: Card) -> str:
        """Why a valid dataset cannot be used in this stage, or an empty text."""
        return ""

    def unpack(self, identity: str, dataset: Card, output: Place, packs: Sequence[Place]) -> str:
        """Copy the result of a source from a pack, or say why that fails."""
        return f"the source {dataset['dataset']} comes from a pack, which holds no images"

    def is_whole(self, result: Any, dataset: Card) -> bool:
        """Whether a good result covers everything asked for; only then it is stored."""
        return True

    def told(self, result: Any) -> str:
        """Description of a good result."""
        return "done"

    def names(self, dataset: Card) -> dict[str, str]:
        """Attributes of a stored result that each user chooses."""
        return {}


def run_stage(stage: Stage, datasets: Sequence[Card], outputs: Sequence[Place], settings: JobSettings) -> None:
    """Make the result file of every dataset; torch and the model are loaded only if the store lacks one of them.

    It waits for a result that another living process computes. A result with repeated crashes is given up as failed
    (`vlmrank.store.share_out`).

    Parameters
    ----------
    stage : what is computed, for which model.
    datasets : dataset cards, as `prepare_dataset` writes them.
    outputs : where the file of each dataset goes.
    settings : where and with what.
    """
    pool = _Pool(stage, settings, ResultStore(settings.store, settings.say), len(datasets))
    pool.look_up(datasets, outputs)
    if pool.waiting:
        with until_terminated(settings.given.get("minutes"), started=time.monotonic()) as begin:
            pool.compute(begin)
        pool.collect()


@dataclass
class _Pool:
    """The results of one job; `waiting` maps the identity of each missing result to all its output files."""

    stage: Stage
    settings: JobSettings
    results: ResultStore
    total: int
    waiting: dict[str, list[tuple[Card, Place]]] = field(default_factory=dict)
    finished: int = 0

    def done(self, dataset: Card, what: str) -> None:
        self.finished += 1
        left = self.total - self.finished
        rest = f"{left} of {self.total} left" if left else f"all {self.total} done"
        self.settings.say(f"{self.stage.model['model']} on {dataset['dataset']}: {what} ({rest})")

    def put(self, result: Any, dataset: Card, output: Place) -> None:
        self.stage.write(result, dataset, output)
        problem = self.stage.problem(result)
        self.done(dataset, self.stage.told(result) if problem is None else f"FAILED: {problem}")

    def fail(self, dataset: Card, output: Place, reason: str, identity: str = "") -> None:
        self.put(self.stage.failed(dataset, reason, identity), dataset, output)

    def fail_all(self, places: Sequence[tuple[Card, Place, str]], reason: str) -> None:
        """Fail all (dataset, output, identity) for one reason in the model, without a line for each."""
        for dataset, output, identity in places:
            self.stage.write(self.stage.failed(dataset, reason, identity), dataset, output)
        self.finished += len(places)
        logger.info("%s on %s: FAILED: %s", self.stage.model["model"], plural(len(places), "dataset"), reason)

    def take(self, dataset: Card, output: Place, identity: str) -> bool:
        return self.results.take(identity, output, **self.stage.names(dataset))

    def look_up(self, datasets: Sequence[Card], outputs: Sequence[Place]) -> None:
        """Reuse what the store has, fail what cannot be tried, and leave the rest in `waiting`."""
        reason = unusable(self.stage.model, {})
        if reason:
            self.fail_all([(dataset, output, "") for dataset, output in zip(datasets, outputs, strict=True)], reason)
            return
        for dataset, output in zip(datasets, outputs, strict=True):
            reason = unusable({}, dataset)
            if reason:  # which the job that prepared it has reported
                self.fail_all([(dataset, output, "")], reason)
                continue
            reason = self.stage.lacks(dataset)
            settled = None if reason else self.stage.settled(dataset)
            if reason:
                self.fail(dataset, output, reason)
            elif settled is not None:
                self.put(settled, dataset, output)
            else:
                identity = self.stage.identity(dataset)
                if self.take(dataset, output, identity):
                    self.done(dataset, TAKEN)
                    continue
                whole = None if identity in self.waiting else self.stage.assembled(identity, dataset)
                if whole is not None:
                    self.put(whole, dataset, output)
                    self.publish(identity, dataset, output)
                elif dataset.get("packed"):
                    self.unpack(identity, dataset, output)
                else:
                    self.waiting.setdefault(identity, []).append((dataset, output))

    def unpack(self, identity: str, dataset: Card, output: Place) -> None:
        reason = self.stage.unpack(identity, dataset, output, self.settings.packs)
        if reason:
            self.fail(dataset, output, reason, identity)
        else:
            self.done(dataset, "taken from its pack")

    def publish(self, identity: str, dataset: Card, output: Place) -> None:
        self.results.publish(identity, output)
        self.stage.kept(identity, dataset)

    def leased(self, begin: Callable[[Lease], None]) -> Iterator[tuple[str, Card]]:
        """Yield what this process has leased; what is given up becomes a failed result."""
        given = self.settings.given
        notes = {name: given[name] for name in ("memory_mb", "minutes") if given.get(name)}
        leases = Leases(self.results.root / "leases", notes=notes)
        holds = functools.partial(self.results.holds, suffix=self.stage.suffix)
        for item in share_out(list(self.waiting), leases, holds, on_wait=self.wait):
            if isinstance(item, Lease):
                begin(item)
                yield item.key, self.waiting[item.key][0][0]
                continue
            for dataset, output in self.waiting.pop(item.key):
                self.fail(dataset, output, item.reason, item.key)

    def wait(self, identity: str, holder: Mapping[str, Any]) -> None:
        names = ", ".join(dataset["dataset"] for dataset, _ in self.waiting[identity])
        what = f"{self.stage.model['model']} on {names}"
        self.settings.say(f"{what}: waiting for another process to compute it: {describe(holder)}")

    def compute(self, begin: Callable[[Lease], None]) -> None:
        """Load the model when the first result is due, and compute one result after the other."""
        work = self.leased(begin)
        first = next(work, None)
        if first is None:
            return
        started = time.perf_counter()
        try:
            loaded = load(self.stage.model, self.settings)
        except VlmrankError as error:
            left = [(*place, identity) for identity, places in self.waiting.items() for place in places]
            self.waiting.clear()
            self.fail_all(left, str(error))
            self.settings.say(f"{self.stage.model['model']}: FAILED: {error}")
            return
        self.settings.say(f"{self.stage.model['model']}: loaded in {time.perf_counter() - started:.1f} s")
        for identity, result in self.stage.compute(loaded, chain([first], work)):
            self.keep(result, identity)

    def keep(self, result: Any, identity: str) -> None:
        """Write a computed result to its files and, if it is good and complete, to the store."""
        places = self.waiting.pop(identity)
        good = self.stage.problem(result) is None
        shared = good and self.stage.is_whole(result, places[0][0])
        for number, (dataset, output) in enumerate(places):
            if number and shared and self.take(dataset, output, identity):
                self.done(dataset, self.stage.told(result))
                continue
            self.put(result, dataset, output)
            if shared and not number:
                self.publish(identity, dataset, output)

    def collect(self) -> None:
        """Collect what other processes computed meanwhile."""
        for identity, places in self.waiting.items():
            for dataset, output in places:
                if not self.take(dataset, output, identity):
                    path = self.results.path(identity, self.stage.suffix)
                    raise VlmrankError(f"{path} went missing while it was needed; {RUN_AGAIN}")
                self.done(dataset, TAKEN)


def unusable(model: Card, dataset: Card) -> str:
    """Why a model cannot be computed on a dataset, or an empty text."""
    for what, card in (("model", model), ("dataset", dataset)):
        if card.get("status", OK) == FAILED:
            return f"the {what} cannot be used: {card['reason']}"
    return ""


def load(model: Card, settings: JobSettings) -> Any:
    """Load a model for a job.

    Raises
    ------
    VlmrankError : the model cannot be loaded or does not fit into memory, or the device is missing.
    """
    import torch

    from vlmrank.models.device import choose_device
    from vlmrank.models.load import load_from_card

    torch.set_num_threads(settings.threads)
    device = choose_device(settings.device, gpus=settings.given.get("gpus", 0))
    try:
        return load_from_card(model, cache=settings.cache, device=device, precision=settings.precision)
    except VlmrankError:
        raise
    except (RuntimeError, MemoryError) as error:  # from the move to the device
        found = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FailedPair(
            f"the model does not fit into the memory of {device} ({found}): {RUN_AGAIN} where there is more"
        ) from error
