"""The checks that concern the answer for one target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vlmrank import store
from vlmrank.report.collect import Run
from vlmrank.report.distances import pooled_divergence
from vlmrank.report.quality import Check
from vlmrank.text import plural


def target_checks(
    run: Run, target: str, *, interval: Sequence[int | None], ranked: int, images: int, record: Mapping[str, Any] | None
) -> list[Check]:
    """What speaks for and against relying on the answer.

    Parameters
    ----------
    run, target : the results, and the target's name.
    interval : lowest and highest likely rank of the first model, None if unknown.
    ranked : number of models with a rank.
    images : number of images of the target that were used.
    record : how the method did on known tasks, as `record_of` or `track_record` of `vlmrank.report.record` gives it.
    """
    found = [_sources(run, target), _images(target, images, seen=bool(run.quality)), _record(target, record)]
    if ranked > 1 and None not in interval:
        found.insert(2, _width(target, interval, ranked))
    for check in (_distance(run, target), _class_names(run, target, known=record is not None)):
        if check is not None:
            found.append(check)
    return found


def _sources(run: Run, target: str) -> Check:
    sources = len(run.sources)
    advice = "With few known tasks the nearest one may still be unlike this task; add datasets with known accuracies."
    return Check(
        "Number of known tasks",
        3 if sources < 3 else 2 if sources < 6 else 0,
        f"Decided from {plural(sources, 'known task')}.",
        advice if sources < 6 else "",
        target=target,
    )


def _images(target: str, images: int, *, seen: bool) -> Check:
    name = "Number of target images"
    if not seen:
        found = "No image of the task was looked at: the ranking follows the accuracies on the known tasks alone."
        return Check(name, 1, found, "A run with conductance adapts the ranking to the task.", target=target)
    return Check(
        name,
        3 if images < 4 else 2 if images < 8 else 0,
        f"Decided from {plural(images, 'unlabelled image')} of the task.",
        "Add images; 16 to 64 are enough." if images < 8 else "",
        target=target,
    )


def _width(target: str, interval: Sequence[int], ranked: int) -> Check:
    low, high = interval
    width = high - low + 1
    wide = width / ranked if width > 2 else 0.0
    advice = "Several models may be the best: try the shortlist on labelled images before much depends on it."
    return Check(
        "Width of the first model's interval",
        2 if wide > 0.5 else 1 if wide > 0.25 else 0,
        f"Its likely rank is {low if low == high else f'{low} to {high}'} of {ranked}.",
        advice if wide > 0.25 else "",
        target=target,
    )


def _distance(run: Run, target: str) -> Check | None:
    """Distance to the nearest known task, compared with the distances among known tasks."""
    names = [card["dataset"] for card in run.datasets]
    near = pooled_divergence(run)
    if target not in names or not np.isfinite(near).any():
        return None
    place = [i for i, name in enumerate(names) if name in run.sources]
    own = near[place, names.index(target)]
    among = near[np.ix_(place, place)].copy()
    np.fill_diagonal(among, np.nan)
    best = [np.nanmin(column) for column in among.T if np.isfinite(column).any()]
    if not np.isfinite(own).any() or not best:
        return None
    nearest = float(np.nanmin(own))
    farther, far = float(np.mean([value >= nearest for value in best])), nearest > max(best)
    advice = "This task is unlike every known one: the ranking extrapolates. Add a known task that resembles it."
    return Check(
        "Distance to the known tasks",
        2 if far else 1 if farther < 0.1 else 0,
        f"The nearest known task is at a divergence of {nearest:.2f} (0: it uses all that this task needs); known "
        f"tasks are {min(best):.2f} to {max(best):.2f} from their nearest.",
        advice if far else "",
        target=target,
    )


def _record(target: str, record: Mapping[str, Any] | None) -> Check:
    name = "Held-out evaluation"
    if record is None:
        return Check(name, 1, "None: nothing is known of how well the method does on these models.", target=target)
    if "loss_random" not in record:
        return Check(name, 1, "It holds no random choice to compare with.", target=target)
    worse = record["loss"] >= record["loss_random"]
    return Check(
        name,
        2 if worse else 1 if record["tasks"] < 5 else 0,
        f"On {plural(record['tasks'], 'task')} with known answer the first model lost {record['loss']:.1f} points of "
        f"accuracy, a random one {record['loss_random']:.1f}.",
        "On these models the method is no better than chance." if worse else "",
        target=target,
    )


def _class_names(run: Run, target: str, *, known: bool) -> Check | None:
    """What class names would add, for a target without any."""
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
    """The pick against the truth, if the run knows it."""
    lost = 100 * (truth["best"] - truth["own"])
    return Check(
        "Known answer",
        2 if lost > 5 else 1 if lost > 2 else 0,
        f"By the accuracies that this run holds for the task, the first model is {truth['place']} of {truth['count']} "
        f"and loses {lost:.1f} points to the best.",
        f"Where accuracies are known, trust them: {truth['name']} is the best." if lost > 2 else "",
        target=target,
    )
