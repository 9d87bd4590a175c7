"""Zero-shot accuracy of a model on labelled images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vlmrank.errors import FailedPair
from vlmrank.images import ImageError, open_image
from vlmrank.prompts import class_embeddings
from vlmrank.store import write_json
from vlmrank.zoo import LoadedModel, load_model


def measure_accuracy(loaded: LoadedModel, record: Mapping[str, Any], *, batch: int = 64) -> dict[str, Any]:
    """Zero-shot acc1, acc5, mean per-class recall and per-class accuracies on the labelled images of a dataset card."""
    import torch
    import torch.nn.functional as F

    started = time.perf_counter()
    classes, entries = record["classes"], record["test"] or []
    device = next(loaded.model.parameters()).device
    text = class_embeddings(loaded.model, loaded.tokenizer, classes, record["templates"])
    ranks, labels = [], []
    for start in range(0, len(entries), batch):
        images, kept = [], []
        for entry in entries[start : start + batch]:
            try:
                images.append(loaded.preprocess(open_image(entry["path"])))
            except ImageError:
                continue
            kept.append(entry["label"])
        if not kept:
            continue
        with torch.no_grad():
            embedding = F.normalize(loaded.model.encode_image(torch.stack(images).to(device)), dim=-1)
            logits = embedding @ text.T
            own = logits.gather(1, torch.tensor(kept, device=device)[:, None])
            ranks += (logits > own).sum(1).tolist()
        labels += kept
    if not labels:
        raise FailedPair("there is no labelled image that can be read")
    per_class = {}
    for index, name in enumerate(classes):
        mine = [rank == 0 for rank, label in zip(ranks, labels, strict=True) if label == index]
        if mine:
            per_class[name] = [sum(mine) / len(mine), len(mine)]
    return {
        "acc1": sum(rank < 1 for rank in ranks) / len(ranks),
        "acc5": sum(rank < 5 for rank in ranks) / len(ranks),
        "mean_per_class_recall": sum(value for value, _ in per_class.values()) / len(per_class),
        "n": len(ranks),
        "per_class": per_class,
        "seconds": time.perf_counter() - started,
        "status": "ok",
        "reason": "",
    }


def measure_accuracies(
    model: Mapping[str, Any],
    datasets: Sequence[Mapping[str, Any]],
    outputs: Sequence[str],
    *,
    options: Mapping[str, Any],
    device: str,
    code: str,
    store: str,
    cache: str | None = None,
    threads: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Measure one model on several datasets, each written to its own file as soon as it is ready."""
    import torch

    torch.set_num_threads(threads)
    empty = {"acc1": None, "acc5": None, "mean_per_class_recall": None, "n": 0, "per_class": {}, "seconds": 0.0}
    loaded, reason = None, model["reason"]
    if model["status"] == "ok":
        try:
            loaded = load_model(model["architecture"], model.get("pretrained") or None, cache=cache, device=device)
        except FailedPair as error:
            reason = str(error)
    for dataset, output in zip(datasets, outputs, strict=True):
        try:
            if loaded is None or dataset["status"] != "ok":
                raise FailedPair(reason or dataset["reason"])
            if not dataset["test"]:
                result = {**empty, "status": "ok", "reason": "no labelled images"}
            else:
                result = measure_accuracy(loaded, dataset)
        except (FailedPair, RuntimeError) as error:
            result = {**empty, "status": "failed", "reason": str(error)}
        write_json(output, {"model": model["model"], "dataset": dataset["dataset"], **result})
        say(f"{model['model']} on {dataset['dataset']}: accuracy {result['acc1']} of {result['n']} images")
