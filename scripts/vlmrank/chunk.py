"""All pairs of one model and a chunk of datasets: from the result store what is finished, with one load the rest."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmrank.claims import Claims, Poison, share_out
from vlmrank.errors import FailedPair
from vlmrank.identity import ResultStore, pair_identity
from vlmrank.store import FAILED, OK, Pair, write_pair

Card = Mapping[str, Any]


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
    outputs: Sequence[str | os.PathLike[str]],
    *,
    options: Mapping[str, Any],
    free: Mapping[str, Any],
    code: str,
    store: str | os.PathLike[str],
    cache: str | os.PathLike[str] | None = None,
    threads: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Make the pair file of every dataset; torch and the model are loaded only if one of them is not in the store yet.

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
    say : takes a line for each pair: what was done, seconds, what is left.
    """
    results = ResultStore(store)
    claims = Claims(Path(store) / "claims")
    waiting: dict[str, list[tuple[Card, str | os.PathLike[str]]]] = {}
    left = len(datasets)

    def done(dataset: Card, what: str) -> None:
        nonlocal left
        left -= 1
        rest = f"{left} of {len(datasets)} left" if left else f"all {len(datasets)} done"
        say(f"{model['model']} on {dataset['dataset']}: {what} ({rest})")

    def fail(dataset: Card, output: str | os.PathLike[str], reason: str, identity: str = "") -> None:
        write_pair(output, failed_pair(model, dataset, reason, options=options, code=code, identity=identity))
        done(dataset, f"FAILED: {reason}")

    def take(dataset: Card, output: str | os.PathLike[str], identity: str) -> None:
        names = {name: model.get(name) or "" for name in ("model", "architecture", "pretrained")}
        results.link(identity, output, dataset=dataset["dataset"], **names)

    for dataset, output in zip(datasets, outputs, strict=True):
        reason = _reason(model, dataset)
        if reason:
            fail(dataset, output, reason)
            continue
        identity = pair_identity(model, dataset, options, code)
        if results.holds(identity):
            take(dataset, output, identity)
            done(dataset, "taken from the store")
        else:
            waiting.setdefault(identity, []).append((dataset, output))
    if not waiting:
        return

    started = time.perf_counter()
    import torch

    from vlmrank.pairs import ConductanceOptions, PairTask, compute_pairs
    from vlmrank.zoo import load_model

    torch.set_num_threads(threads)
    chosen = ConductanceOptions(**options, **free, seed=datasets[0].get("seed", 0))
    try:
        loaded = load_model(
            model["architecture"],
            model.get("pretrained") or None,
            cache=cache,
            device=chosen.device,
            precision=chosen.precision,
        )
    except FailedPair as error:
        for identity, places in waiting.items():
            for dataset, output in places:
                fail(dataset, output, str(error), identity)
        return
    say(f"{model['model']}: loaded in {time.perf_counter() - started:.1f} s")
    handed: list[str] = []

    def tasks() -> Iterator[PairTask]:
        for claim in share_out(list(waiting), claims, results.holds):
            if isinstance(claim, Poison):
                for dataset, output in waiting.pop(claim.key):
                    fail(dataset, output, claim.reason, claim.key)
                continue
            with claim:
                handed.append(claim.key)
                yield _task(PairTask, waiting[claim.key][0][0], {"identity": claim.key, "code": code})

    for pair in compute_pairs(loaded, tasks(), chosen):
        identity = handed[-1]
        places = waiting.pop(identity)
        for dataset, output in places[:1] if pair.ok else places:
            named = {**pair.attributes, "model": model["model"], "dataset": dataset["dataset"]}
            write_pair(output, Pair(**{**vars(pair), "attributes": named}))
            if not pair.ok:
                done(dataset, f"FAILED: {pair.attributes['reason']}")
        if pair.ok:
            results.publish(identity, places[0][1])
            for dataset, output in places[1:]:
                take(dataset, output, identity)
            for dataset, _ in places:
                done(dataset, f"{len(pair.image_id)} images in {pair.attributes['seconds']:.1f} s")
    for identity, places in waiting.items():  # another process computed them meanwhile
        for dataset, output in places:
            take(dataset, output, identity)
            done(dataset, "taken from the store")


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
    from vlmrank.images import ImageError, open_image

    failed = {image["id"]: image["reason"] for image in dataset.get("failed_images") or []}
    images = {}
    for image in dataset["images"]:
        try:
            images[image["id"]] = open_image(image["path"])
        except ImageError as error:
            failed[image["id"]] = str(error)
    return task(
        dataset=dataset["dataset"],
        images=list(images.values()),
        image_ids=list(images),
        classes=dataset.get("classes") or (),
        templates=dataset.get("templates") or ("a photo of a {c}.",),
        failed_images=failed,
        attributes={**attributes, "seed": dataset.get("seed", 0)},
    )
