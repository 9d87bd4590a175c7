"""The report's other sections as plain values for the templates: facts, evaluation, method, thumbnails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import yaml

from vlmrank import store
from vlmrank.accuracy.formats import is_other_task
from vlmrank.report.charts import GROUP_COLOURS
from vlmrank.report.collect import Run
from vlmrank.report.names import GROUPS, method_group
from vlmrank.report.words import duration
from vlmrank.text import plural

CLASSES = 60  # class names printed per source; those of a target are printed in full


def _ranked_by(run: Run) -> str:
    """Which method ranked, in a sentence; empty if unknown."""
    titles = dict.fromkeys(facts["title"] for facts in run.facts.values() if facts.get("title"))
    return f"The models were sorted by: {'; '.join(titles)}. " if titles else ""


def title(run: Run) -> str:
    """The heading of the page by default."""
    if len(run.targets) == 1:
        return f"Which vision-language model for {run.targets[0]}?"
    return "Which vision-language model for which task?"


def facts(run: Run) -> dict[str, str]:
    """Counts for the line under the title."""
    others = len(run.other_sources)
    sources = plural(len(run.sources) - others, "known task")
    return {
        "models": plural(len(run.models), "model"),
        "sources": f"{sources} and {plural(others, 'retrieval or multi-label set')}" if others else sources,
        "targets": plural(len(run.targets), "new task"),
    }


def evaluation(run: Run) -> dict[str, Any] | None:
    """Contents of the section on held-out tasks besides its figures, None without an evaluation."""
    if run.summary.empty:
        return None
    methods = list(dict.fromkeys(run.summary["method"]))
    present = {method_group(method) for method in methods}
    return {
        "tasks": run.metrics["target"].nunique(),
        "methods": len(methods),
        "groups": [
            {"name": name, "colour": colour}
            for name, colour in zip(GROUPS.values(), GROUP_COLOURS, strict=True)
            if name in present
        ],
        "differences": len(run.differences) > 0,
    }


def sensitivity(run: Run, target: str) -> list[dict[str, Any]]:
    """What would change the answer: each change with the models that then come first, most frequent first."""
    table = run.sensitivity.get(target)
    if table is None or table.empty:
        return []
    pick = run.facts.get(target, {}).get("model")
    return [
        {
            "change": change,
            "models": [
                {"name": row.model, "share": float(row.share), "pick": row.model == pick}
                for row in rows.sort_values("share", ascending=False, kind="stable").head(3).itertuples()
            ],
        }
        for change, rows in table.groupby("change", sort=False)
    ]


def method(run: Run, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """How the run was made."""
    good = [pair for pair in run.quality if pair.status == store.OK]
    used: Counter = Counter()
    for pair in good:
        used[pair.dataset] = max(used[pair.dataset], pair.images)
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
            "conductance divergence says what a known task leaves unused of what the target uses; the weight of a "
            "known task falls with its divergence. "
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
        "tasks": [_task(card, card["dataset"] in run.targets, used[card["dataset"]]) for card in run.datasets],
        "config": yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True) if config else "",
    }


def _plain(value: Any) -> Any:
    """Settings in types that YAML can print."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _task(card: Mapping[str, Any], whole: bool, used: int) -> dict[str, Any]:
    classes = [str(name) for name in card.get("classes") or ()]
    shown = classes if whole else classes[:CLASSES]
    return {
        "name": card["dataset"],
        "role": "retrieval or multi-label set" if is_other_task(card["dataset"]) else card.get("role") or "",
        "domain": card.get("domain") or "",
        "images": used,
        "tests": card.get("n_test") or "–",
        "number": len(classes),
        "classes": ", ".join(shown) + (f" and {len(classes) - len(shown):,} more" if len(shown) < len(classes) else ""),
        "templates": [str(template) for template in card.get("templates") or ()],
    }
