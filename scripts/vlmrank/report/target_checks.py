"""Quality checks of one target: how far its answer can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vlmrank import store
from vlmrank.report.collect import Run
from vlmrank.report.distances import pooled_divergence
from vlmrank.report.picks import Pick
from vlmrank.report.quality import Check, plural


def target_checks(run: Run, target: str, picks: list[Pick], images: tuple[int, int], record: Any) -> list[Check]:
    """The checks that concern one target.

    Parameters
    ----------
    picks : its ranked models.
    images : of the target, how many were looked at, and of how many the conductance was computed.
    record : how the method did on known tasks (`vlmrank.report.answer.track_record`), None where nothing is known.
    """
    found = [
        _sources(target, len(run.sources)),
        _images(target, *images, seen=bool(run.quality)),
        _interval(target, picks),
        _distance(run, target),
        _held_out(target, record),
        _class_names(run, target, known=record is not None),
    ]
    return [check for check in found if check is not None]


def image_counts(predicted: int, attributed: int) -> str:
    """How many images were looked at, and of how many the conductance was computed.

    >>> image_counts(128, 16), image_counts(16, 16)
    ('128 unlabelled images of the task (conductance of 16 of them)', '16 unlabelled images of the task')
    """
    part = f" (conductance of {attributed} of them)" if attributed < predicted else ""
    return f"{plural(predicted, 'unlabelled image')} of the task{part}"


def _images(target: str, images: int, attributed: int, *, seen: bool) -> Check:
    name = "Number of target images"
    if not seen:
        found = "No image of the task was looked at: the ranking follows the accuracies on the known tasks alone."
        return Check(name, 1, found, "A run with conductance adapts the ranking to the task.", target=target)
    return Check(
        name,
        3 if images < 4 else 2 if images < 8 else 0,
        f"Decided from {image_counts(images, attributed)}.",
        "Add images; 16 to 64 are enough." if images < 8 else "",
        target=target,
    )


def _sources(target: str, sources: int) -> Check:
    return Check(
        "Number of known tasks",
        3 if sources < 3 else 2 if sources < 6 else 0,
        f"Decided from {plural(sources, 'source task')}.",
        "With few sources the nearest one may still be unlike the task; add datasets with known accuracies."
        if sources < 6
        else "",
        target=target,
    )


def _interval(target: str, picks: list[Pick]) -> Check | None:
    if len(picks) < 2 or picks[0].high is None:
        return None
    width = picks[0].high - picks[0].low + 1
    wide = width / len(picks)
    return Check(
        "Width of the first model's interval",
        2 if wide > 0.5 and width > 2 else 1 if wide > 0.25 and width > 2 else 0,
        f"Its likely rank is {picks[0].interval} of {len(picks)}.",
        "Other images or sources would have put another model first; test the first few on labelled images."
        if wide > 0.25 and width > 2
        else "",
        target=target,
    )


def _distance(run: Run, target: str) -> Check | None:
    near, names = pooled_divergence(run), [card["dataset"] for card in run.datasets]
    if not np.isfinite(near).any() or target not in names:
        return None
    place = [i for i, name in enumerate(names) if name in run.sources]
    own = near[place, names.index(target)]
    among = near[np.ix_(place, place)].copy()
    np.fill_diagonal(among, np.nan)
    best = [np.nanmin(column) for column in among.T if np.isfinite(column).any()]
    if not np.isfinite(own).any() or not best:
        return None
    nearest = float(np.nanmin(own))
    farther = float(np.mean([value >= nearest for value in best]))
    far = nearest > max(best)
    return Check(
        "Distance to the known tasks",
        2 if far else 1 if farther < 0.1 else 0,
        f"The nearest source leaves {nearest:.2f} of the target uncovered; among the sources themselves "
        f"this is {min(best):.2f} to {max(best):.2f}.",
        "The task is unlike every known one: the ranking extrapolates. Add a source that resembles it." if far else "",
        target=target,
    )


def _held_out(target: str, record: Mapping[str, Any] | None) -> Check | None:
    name = "Held-out evaluation"
    if record is None:
        return Check(name, 1, "None: nothing is known of how well the method does on this zoo.", target=target)
    if "loss_random" not in record:
        return None
    worse = record["loss"] >= record["loss_random"]
    return Check(
        name,
        2 if worse else 1 if record["tasks"] < 5 else 0,
        f"On {plural(record['tasks'], 'task')} with known answer the first model lost "
        f"{record['loss']:.1f} points, a random one {record['loss_random']:.1f}.",
        "On this zoo the method is no better than chance." if worse else "",
        target=target,
    )


def _class_names(run: Run, target: str, *, known: bool) -> Check | None:
    """What class names would add, for a target without any whose images were looked at."""
    card = next((card for card in run.datasets if card["dataset"] == target), {})
    if card.get("classes") or not run.quality or card.get("status") == store.FAILED:
        return None
    other = " The record on known tasks was measured with class names." if known else ""
    return Check(
        "Class names",
        1,
        f"The task has none: models are compared by what their image towers do, not by what they predict.{other}",
        "With a file of class names (column classes of the datasets sheet) predictions on them count as well.",
        target=target,
    )


def known_answer(target: str, truth: Mapping[str, Any]) -> Check:
    """How good the first model really is, where the accuracies on the target are known."""
    lost = 100 * (truth["best"] - truth["own"])
    return Check(
        "Known answer",
        2 if lost > 5 else 1 if lost > 2 else 0,
        f"By the accuracies that this run holds for the task, the first model is {truth['place']} of {truth['count']} "
        f"and loses {lost:.1f} points to the best.",
        f"Where accuracies are known, trust them: {truth['label']} is the best." if lost > 2 else "",
        target=target,
    )
