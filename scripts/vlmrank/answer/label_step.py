"""One round of labelling: update the ranking with the labels at hand, and choose what to label next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vlmrank.answer import label_update
from vlmrank.answer.labels import Labels
from vlmrank.answer.tasks import Settings, TaskAnswer, with_labels

COVERED = 0.9  # chance that the best model is among the near ties
Read = Callable[[int], tuple[Sequence[str], np.ndarray] | None]


@dataclass(frozen=True)
class LabelStep:
    """The answer after the labels, and what to label next.

    Attributes
    ----------
    answer : updated by the labels, if any can be used.
    near_ties : index of a model -> chance that it is the best, most likely first. The smallest set that contains the
        best with a chance of `COVERED`, at most `label_update.SHORTLIST` models. Empty if nothing is known.
    ask : identifiers of the images to label next, most informative first.
    reason : why there are none to label, else empty.
    parts : title -> [M]; their sum is the score after the labels.
    """

    answer: TaskAnswer
    near_ties: Mapping[int, float] = field(default_factory=dict)
    ask: Sequence[str] = ()
    reason: str = ""
    parts: Mapping[str, np.ndarray] = field(default_factory=dict)


def label_step(answer: TaskAnswer, read: Read, labels: Labels, how: Settings) -> LabelStep:
    """Use the labels and choose the next images.

    Parameters
    ----------
    answer : for the target, without labels.
    read : index of a model -> identifiers of the images that it predicted and their logits [K, C], or None.
    labels : known labels of the target's images.
    how : settings of the answer.
    """
    if answer.drawn is None:
        return LabelStep(
            answer, reason="no accuracy is known on any other task, so there is nothing to weigh labels with"
        )
    prior = label_update.tighten(answer.drawn, answer.loss_factor)
    listed = label_update.shortlist(prior)
    found = {int(model): read(int(model)) for model in listed if np.isfinite(prior[:, model]).all()}
    there = {model: one for model, one in found.items() if one is not None}
    if len(there) < 2:
        return LabelStep(answer, reason="fewer than two of the best models predicted classes of its images")
    images, known = _committee(prior, there)
    place = {image: index for index, image in enumerate(images)}
    used = {place[image]: label for image, label in labels.known.items() if image in place}
    models, after, drawn = np.array(list(there)), answer, prior
    parts: Mapping[str, np.ndarray] = {}
    if used:
        drawn = label_update.update_draws(prior, models, known, used, seed=how.seed)
        after = with_labels(answer, drawn, len(used), how)
        before = answer.expected.accuracy
        parts = {"what was expected before any label": before, "the labels": after.expected.accuracy - before}
    chance = label_update.chance_of_best(drawn)
    ties = _near_ties(chance, models)
    if len(ties) < 2:
        return LabelStep(after, ties, (), "one model is the best with a chance of at least .9", parts)
    taken = [place[image] for image in (*labels.known, *labels.unknown) if image in place]
    ask = label_update.choose_images(drawn, models, known, taken=taken)
    reason = "" if ask else "the best models differ on no image that is not labelled"
    return LabelStep(after, ties, [images[index] for index in ask], reason, parts)


def _committee(
    drawn: np.ndarray, there: Mapping[int, tuple[Sequence[str], np.ndarray]]
) -> tuple[list[str], label_update.Committee]:
    """The images that all these models predicted, in the first model's order, and the models' committee on them."""
    first, *others = (set(ids) for ids, _ in there.values())
    common = first.intersection(*others)
    order = [image for image in next(iter(there.values()))[0] if image in common]
    logits = []
    for ids, values in there.values():
        row = {image: index for index, image in enumerate(ids)}
        logits.append(values[[row[image] for image in order]])
    models = list(there)
    weight = label_update.chance_of_best(drawn)[models] + 1 / len(drawn)
    return order, label_update.committee(logits, weight, float(drawn[:, models].mean()))


def _near_ties(chance: np.ndarray, models: np.ndarray) -> dict[int, float]:
    """The most likely models, until the best is among them with a chance of `COVERED`."""
    ordered = models[np.argsort(-chance[models], kind="stable")]
    count = int(np.searchsorted(np.cumsum(chance[ordered]), COVERED)) + 1
    return {int(model): float(chance[model]) for model in ordered[:count]}
