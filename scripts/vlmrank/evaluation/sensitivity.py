"""What would change the answer: how often each model comes first when something is taken away.

Images and known tasks are drawn again with replacement, and the method that ranked ranks again: as it is, without the
known task that is nearest, with half the images, and from the known tasks alone. M models, T datasets.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from vlmrank.baselines.base import TARGET_IMAGES, Evidence, Method, Unavailable
from vlmrank.evaluation.evaluate import score_target, sources_of
from vlmrank.predictions import prediction_statistics

AS_IT_IS, WITHOUT_NEAREST = "nothing changed", "without the nearest known task"
HALF, ALONE = "with half the images", "without agreement: by the average rank on the known tasks"
KNOWN_TASKS_ALONE = "average_rank"
DRAWS, FEWEST_DRAWS, MOST_IMAGES = 50, 10, 256
LOGITS = 2e9  # that the draws of one change may look at together, beyond the fewest draws
COLUMNS = ["change", "model", "share"]


def sensitivity(
    evidence: Evidence,
    methods: Mapping[str, Method],
    target: int,
    chosen: str,
    *,
    draws: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """How often each model comes first for a target under each change.

    Predictions are drawn again, at most `MOST_IMAGES` a draw; divergences and what was computed from embeddings stay.

    Parameters
    ----------
    evidence : what is known of the models.
    methods : by name; of them the chosen one and the average rank are used.
    target : index of the dataset.
    chosen : name of the method that ranks.
    draws : number of draws for each change; by default `DRAWS`, fewer where the predictions are many.
    seed : of the draws, which are the same for all changes.

    Returns
    -------
    change, model, share (of the draws in which it comes first; those of a change sum to 1), most often first. A change
    that cannot be made is left out: no nearest task without divergences, no half of the images without predictions.
    """
    sources = sources_of(evidence, target)
    images = _images(evidence, target)
    method = methods.get(chosen)
    if method is None or not len(sources):
        return pd.DataFrame(columns=COLUMNS)
    draws = draws or _affordable(evidence, target, min(len(images), MOST_IMAGES))
    nearest, alone = _nearest(evidence, target, sources), methods.get(KNOWN_TASKS_ALONE)
    plan = [(AS_IT_IS, method, sources, len(images))]
    if nearest is not None and len(sources) > 1:
        plan.append((WITHOUT_NEAREST, method, sources[sources != nearest], len(images)))
    if TARGET_IMAGES in method.looks_at:
        if len(images) > 1:
            plan.append((HALF, method, sources, len(images) // 2))
        if alone is not None:
            plan.append((ALONE, alone, sources, len(images)))
    rows = []
    for change, one, tasks, count in plan:
        first = _first_picks(evidence, one, target, tasks, images, min(count, MOST_IMAGES), draws, seed)
        total = sum(first.values())
        rows += [(change, evidence.models[model], times / total) for model, times in first.most_common()]
    return pd.DataFrame(rows, columns=COLUMNS)


def _first_picks(
    evidence: Evidence,
    method: Method,
    target: int,
    sources: np.ndarray,
    images: Sequence[str],
    count: int,
    draws: int,
    seed: int,
) -> Counter:
    """Model -> number of draws in which it comes first."""
    first: Counter = Counter()
    for draw in range(draws):
        generator = np.random.default_rng([seed, target, draw])
        tasks = np.unique(generator.choice(sources, len(sources)))
        chosen = generator.choice(len(images), count) if count else np.empty(0, int)
        given = redrawn(evidence, target, [images[place] for place in chosen]) if count else evidence
        try:
            tries = score_target(method, given, target, tasks)
        except Unavailable:
            break
        score = np.where(np.isfinite(tries), tries, -np.inf).mean(axis=0)
        if np.isfinite(score).any():
            first[int(np.argmax(score))] += 1
    return first


def _affordable(evidence: Evidence, target: int, images: int) -> int:
    """Number of draws, fewer where a draw holds many logits."""
    classes = len(evidence.class_names[target]) if len(evidence.class_names) else 1
    each = max(1, len(evidence.models) * images * classes)
    return int(np.clip(LOGITS / each, FEWEST_DRAWS, DRAWS))


def _images(evidence: Evidence, target: int) -> list[str]:
    """Identifiers of the target's images that have predictions, of the first draw."""
    found: dict[str, None] = {}
    for draws in evidence.logits[""][target] if "" in evidence.logits else ():
        found |= dict.fromkeys(map(str, draws[0][1]) if draws else ())
    return list(found)


def _nearest(evidence: Evidence, target: int, sources: np.ndarray) -> int | None:
    """The source of the smallest divergence to the target, on average over the models."""
    if "dcd" not in evidence.divergence:
        return None
    values = evidence.divergence["dcd"][0][:, sources, target]
    known = np.isfinite(values)
    if not known.any():
        return None
    mean = np.where(known, values, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return int(sources[np.argmin(np.where(known.any(axis=0), mean, np.inf))])


def redrawn(evidence: Evidence, target: int, images: Sequence[str]) -> Evidence:
    """The evidence with these images of the target alone, some of them more than once."""
    logits = [list(draws) for draws in evidence.logits[""]]
    statistics = {name: values[:1].copy() for name, values in evidence.statistics.items()}
    for model, draws in enumerate(logits[target]):
        if not draws:
            continue
        values, names = draws[0]
        place = {str(name): row for row, name in enumerate(names)}
        kept = [(f"{number}: {name}", place[name]) for number, name in enumerate(images) if name in place]
        drawn = np.asarray(values)[[row for _, row in kept]]
        logits[target][model] = [(drawn, [name for name, _ in kept])]
        for name, value in (prediction_statistics(drawn) if len(kept) else {}).items():
            if name in statistics:
                statistics[name][0, model, target] = value
    made = dataclasses.replace(evidence, logits={**evidence.logits, "": logits}, statistics=statistics)
    # What was computed from other datasets' predictions holds; keys end with the dataset and the draw.
    for key, found in evidence._found.items():
        if isinstance(key, tuple) and len(key) >= 3 and key[-2] != target:
            made._found[key] = found
    return made
