"""Reuse results image by image: take known rows from stored pairs and compute only the others.

A row is the conductance or the prediction of one image. It depends on no other image, so a new pair reuses known rows
and computes only the others. K attributed images, P predicted ones, as in `vlmrank.store.pair`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vlmrank.store.pair import Pair

Record = Mapping[str, Any]
ATTRIBUTED = ("score", "delta", "pseudo_label", "error")
PREDICTED = ("logits", "embedding")


def known_rows(pairs: Iterable[Pair], images: Sequence[Record], predicted: Sequence[Record]) -> Pair | None:
    """Rows of stored pairs for the images of a dataset card, under the card's names; None if there are none.

    Parameters
    ----------
    pairs : of one model, with the same settings and class names; read until every image is found.
    images, predicted : the card's records (id, sha256) of attributed images, and of those that are only predicted.
    """
    wanted = {record["sha256"] for record in images if record["sha256"]}
    every = wanted | {record["sha256"] for record in predicted if record["sha256"]}
    rows: dict[str, tuple[Pair, int]] = {}
    seen: dict[str, tuple[Pair, int]] = {}
    for pair in pairs:
        content = dict(zip(pair.predicted_id, pair.predicted_sha256, strict=True))
        for index, name in enumerate(pair.image_id):
            if content.get(name) in wanted:
                rows.setdefault(content[name], (pair, index))
        for index, digest in enumerate(pair.predicted_sha256):
            if digest in every:
                seen.setdefault(digest, (pair, index))
        if rows.keys() == wanted and seen.keys() == every:
            break
    named = [(record["id"], record["sha256"]) for record in [*images, *predicted] if record["sha256"] in seen]
    if not named:
        return None
    attributed = [record for record in images if record["sha256"] in rows and record["sha256"] in seen]
    places = [rows[record["sha256"]] for record in attributed]
    views = [seen[digest] for _, digest in named]
    first = views[0][0]
    return Pair(
        blocks={path: _gathered(places, lambda pair, path=path: pair.blocks[path]) for path in first.blocks}
        if places
        else {},
        image_id=tuple(record["id"] for record in attributed),
        alphas=max((pair.alphas for pair, _ in places), key=len, default=first.alphas),
        predicted_id=tuple(name for name, _ in named),
        predicted_sha256=tuple(digest for _, digest in named),
        class_embedding=first.class_embedding,
        attributes=first.attributes,
        **{name: _gathered(places, lambda pair, name=name: getattr(pair, name)) for name in ATTRIBUTED if places},
        **{name: _gathered(views, lambda pair, name=name: getattr(pair, name)) for name in PREDICTED},
    )


def merge_rows(first: Pair, second: Pair, names: Sequence[str]) -> Pair:
    """`second` with the rows of `first` added, in the order of `names`; everything else is that of `second`.

    No image may be attributed in both; if one is predicted in both, `second` wins.
    """
    order = {name: place for place, name in enumerate(names)}
    whole = [pair for pair in (first, second) if len(pair.image_id)]
    image_id = [name for pair in whole for name in pair.image_id]
    rows = sorted(range(len(image_id)), key=lambda row: order[image_id[row]])
    both = [pair for pair in (first, second) if len(pair.predicted_id)]
    predicted = [name for pair in both for name in pair.predicted_id]
    digests = [digest for pair in both for digest in pair.predicted_sha256]
    last = {name: view for view, name in enumerate(predicted)}  # `second` wins
    views = sorted(last.values(), key=lambda view: order[predicted[view]])
    merged = {name: _joined([getattr(pair, name) for pair in whole], rows) for name in ATTRIBUTED if whole}
    merged |= {name: _joined([getattr(pair, name) for pair in both], views) for name in PREDICTED if both}
    return replace(
        second,
        blocks={path: _joined([pair.blocks[path] for pair in whole], rows) for path in whole[0].blocks}
        if whole
        else {},
        image_id=tuple(image_id[row] for row in rows),
        alphas=max((pair.alphas for pair in whole), key=len, default=second.alphas),
        predicted_id=tuple(predicted[view] for view in views),
        predicted_sha256=tuple(digests[view] for view in views),
        class_embedding=second.class_embedding if second.class_embedding is not None else first.class_embedding,
        **merged,
    )


def _gathered(places: Sequence[tuple[Pair, int]], part: Callable[[Pair], np.ndarray | None]) -> np.ndarray | None:
    values = [(part(pair), index) for pair, index in places]
    return None if any(rows is None for rows, _ in values) else np.stack([rows[index] for rows, index in values])


def _joined(parts: Sequence[np.ndarray | None], order: Sequence[int]) -> np.ndarray | None:
    return None if any(part is None for part in parts) else np.concatenate(parts)[np.asarray(order, int)]
