"""The report's other sections as plain values for the templates: facts, evaluation, method, thumbnails."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from vlmrank import store
from vlmrank.datasets.decode import ImageError, read_image
from vlmrank.errors import VlmrankError
from vlmrank.report.answer import find_own_method
from vlmrank.report.collect import Run
from vlmrank.report.names import method_group, method_label, metric_label
from vlmrank.report.payload import is_true
from vlmrank.report.quality import plural

THUMBNAIL = 160  # pixels of the longer side
CLASSES = 60  # class names printed of a source; a target's are printed in full


def _ranked_by(run: Run) -> str:
    """Which method ranked, in a sentence; empty where the run does not say."""
    titles = dict.fromkeys(facts["title"] for facts in run.facts.values() if facts.get("title"))
    return f"The models were sorted by: {'; '.join(titles)}. " if titles else ""


def count_words(value: float | None) -> str:
    """A count in three digits.

    >>> count_words(151_277_313.0), count_words(12_345.0), count_words(None)
    ('151 M', '12.3 k', 'unknown')
    """
    if not value:
        return "unknown"
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{float(f'{value / size:.3g}'):g} {letter}"
    return f"{value:.0f}"


def digits(value: float | None) -> str:
    """A number in three digits."""
    return "unknown" if value is None else f"{float(f'{value:.3g}'):g}"


def percent(share: float) -> str:
    """A share in whole per cent, halves upwards as the page's scripts round them.

    >>> percent(0.925), percent(0.004)
    ('93%', '0%')
    """
    return f"{int(100 * share + 0.5)}%"


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(3.14159), duration(75), duration(7320)
    ('3.1 s', '1 min 15 s', '2 h 02 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600):,} h {int(seconds % 3600 // 60):02d} min"


def title(run: Run) -> str:
    """The heading where the user gives none."""
    if len(run.targets) == 1:
        return f"Which vision-language model for {run.targets[0]}?"
    return "Which vision-language model for which task?"


def facts(run: Run) -> dict[str, str]:
    """Counts for the line under the title."""
    return {
        "models": plural(len(run.models), "model"),
        "sources": plural(len(run.sources), "known task"),
        "targets": plural(len(run.targets), "new task"),
    }


def _cell(row: Any) -> tuple[str | None, str | None, str | None]:
    return tuple(None if pd.isna(v) else f"{v:.3f}" for v in (row.ci_low, row.mean, row.ci_high))


def evaluation(run: Run, preferred: str | None) -> dict[str, Any] | None:
    """The tables of the held-out evaluation, None where there is none."""
    if run.summary.empty:
        return None
    methods = list(dict.fromkeys(run.summary["method"]))
    own = find_own_method(methods, preferred)
    metrics = list(dict.fromkeys(run.summary["metric"]))
    cells = {(row.method, row.metric): _cell(row) for row in run.summary.itertuples()}
    higher = dict(zip(run.summary["metric"], run.summary["higher_is_better"].map(is_true), strict=True))
    return {
        "tasks": run.metrics["target"].nunique(),
        "oracle": any("oracle" in method for method in methods),
        "metrics": [{"label": metric_label(metric), "higher": higher[metric]} for metric in metrics],
        "rows": [
            {
                "label": method_label(method),
                "group": method_group(method),
                "own": method == own,
                "cells": [cells.get((method, metric), (None, None, None)) for metric in metrics],
            }
            for method in methods
        ],
        "differences": [
            {
                "method": method_label(row.method),
                "reference": method_label(row.reference),
                "metric": metric_label(row.metric),
                "cell": _cell(row),
                "won": row.won,
                "tied": row.tied,
                "lost": row.lost,
            }
            for row in run.differences.itertuples()
        ],
    }


def method(run: Run, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """How the run was made."""
    good = [pair for pair in run.quality if pair.status == store.OK]
    versions: dict[str, Counter] = {}
    for pair in good:
        for package, version in pair.versions.items():
            versions.setdefault(str(package), Counter())[str(version)] += 1
    seconds: Counter = Counter()
    for pair in good:
        seconds[pair.device or "unknown device"] += pair.seconds
    devices = ", ".join(f"{duration(total)} on {device}" for device, total in seconds.most_common())
    if good:
        points = int(np.median([pair.points for pair in good]))
        objectives = ", ".join(name for name, _ in Counter(pair.objective for pair in good).most_common() if name)
        text = (
            "For each model and task, the conductance of every block of the image tower was measured on up to "
            f"{max(pair.images for pair in good)} images ({objectives or 'unknown'} objective, {points} path steps in "
            "the median pair). Blocks were weighted for each target by entropic optimal transport; the directional "
            "conductance divergence says what a source leaves uncovered of the target; the model's ranks on the "
            "sources were averaged with weights that fall with the divergence. "
            f"{_ranked_by(run)}"
            "The idea is published "
            "(arXiv 2602.01346); its formulas are not, so these are ours: docs/method.md."
        )
    else:
        text = "This run measured no conductance: the models were ranked by a baseline method."
    return {
        "text": text,
        "versions": [
            (name, ", ".join(version for version, _ in found.most_common())) for name, found in versions.items()
        ],
        "devices": f"Conductance took {devices}, summed over the pairs." if devices else "",
        "timings": [
            {
                "rule": row.rule,
                "jobs": row.jobs,
                "seconds": duration(row.seconds),
                "median": duration(row.median),
                "longest": duration(row.longest),
                "memory": "–" if pd.isna(row.memory) else f"{row.memory:,.0f} MB",
            }
            for row in run.timings.itertuples()
        ],
        "tasks": [_task(card, card["dataset"] in run.targets) for card in run.datasets],
        "config": yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True) if config else "",
    }


def _plain(value: Any) -> Any:
    """Settings as YAML can print them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _task(card: Mapping[str, Any], whole: bool) -> dict[str, Any]:
    classes = [str(name) for name in card.get("classes") or ()]
    shown = classes if whole else classes[:CLASSES]
    return {
        "name": card["dataset"],
        "role": card.get("role") or "",
        "domain": card.get("domain") or "",
        "images": len(card.get("images") or ()) + len(card.get("predicted") or ()),
        "attributed": len(card.get("images") or ()),
        "tests": card.get("n_test") or "–",
        "number": len(classes),
        "classes": ", ".join(shown) + (f" and {len(classes) - len(shown):,} more" if len(shown) < len(classes) else ""),
        "templates": [str(template) for template in card.get("templates") or ()],
    }


def _thumbnail(record: Mapping[str, Any]) -> str:
    """A small JPEG as a data URI."""
    if record.get("torchvision"):
        raise ImageError("torchvision's datasets are not opened here")
    small = read_image(record)
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _guesses(run: Run, target: str, results: Path, classes: list[str]) -> dict[str, list[str]]:
    """Image -> what the first two models took it for."""
    table = run.rankings[target]
    first = table[table["rank"].notna()].sort_values("rank")["model"].head(2)
    guesses: dict[str, list[str]] = {}
    for place, model in enumerate(first, start=1):
        try:
            pair = store.read_pair(results / "conductance" / model / f"{target}.h5", blocks=False)
        except (VlmrankError, OSError):
            continue
        for image, label in zip(pair.image_id, pair.pseudo_label, strict=True):
            if 0 <= label < len(classes):
                guesses.setdefault(image, []).append(f"{place}. {classes[label]}")
    return guesses


def thumbnails(run: Run, results: Path) -> list[dict[str, Any]]:
    """The target images, small, with what the first two models took them for."""
    found = []
    for index, target in enumerate(run.targets):
        card = next((card for card in run.datasets if card["dataset"] == target), {})
        classes = [str(name) for name in card.get("classes") or ()]
        guesses = _guesses(run, target, results, classes)
        images = []
        for image in card.get("images") or ():
            entry = {
                "id": str(image.get("id")),
                "data": "",
                "reason": "",
                "guesses": guesses.get(str(image.get("id")), []),
            }
            try:
                entry["data"] = _thumbnail(image)
            except (ImageError, KeyError) as error:
                entry["reason"] = f"no picture: {error}"
            images.append(entry)
        found.append({"index": index, "name": target, "classes": classes, "images": images})
    return found
