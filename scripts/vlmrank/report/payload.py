"""The data of the report's table and charts, as compact JSON."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import pandas as pd

from vlmrank.report.answer import known_accuracy
from vlmrank.report.collect import EXPECTED_COLUMNS, Run, part_columns
from vlmrank.report.distances import pooled_divergence, reorder
from vlmrank.report.names import method_group, method_label, metric_label
from vlmrank.report.words import bounds

LEVELS = 255
REASONS = 6  # sources named in a model's explanation
EXPLAINED = 4000  # explanations per page, shared by its targets, but at least 20 per target


def safe_json(content: Any) -> str:
    """JSON that is safe inside a `<script>` element: no markup, no line separators, no nan.

    >>> safe_json({"name": "</script><!--"})
    '{"name":"\\\\u003c/script\\\\u003e\\\\u003c!--"}'
    """
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def number(value: Any, digits: int = 4) -> float | int | None:
    """A rounded number, None if missing.

    >>> number(0.123456), number(float("nan")), number(3.0)
    (0.1235, None, 3)
    """
    if value is None or pd.isna(value) or not math.isfinite(value):
        return None
    value = float(f"{float(value):.{digits}g}")
    return int(value) if value == int(value) else value


def pack(matrix: np.ndarray) -> list[Any]:
    """A matrix with one byte per number: [largest value, base64]; byte 255 is missing, the step is largest / 254.

    >>> pack(np.array([[0.0, 2.0], [np.nan, 1.0]]))
    [2, 'AP7/fw==']
    """
    finite = np.isfinite(matrix)
    largest = float(matrix[finite].max()) if finite.any() else 0.0
    scaled = np.full(matrix.shape, LEVELS, np.uint8)
    scaled[finite] = np.round(np.clip(matrix[finite] / (largest or 1.0), 0, 1) * (LEVELS - 1)).astype(np.uint8)
    return [number(largest, 6), base64.b64encode(scaled.tobytes()).decode("ascii")]


def payload(run: Run) -> dict[str, Any]:
    """All data that the page's scripts use."""
    index = {model.name: i for i, model in enumerate(run.models)}
    names = [card["dataset"] for card in run.datasets]
    content: dict[str, Any] = {
        "models": [
            [
                m.name,
                m.architecture,
                m.family,
                number(m.parameters, 6),
                number(m.image_parameters, 6),
                number(m.gflops),
                number(m.bytes),
                number(m.speed),
                m.code,
                m.weights,
            ]
            for m in run.models
        ],
        "datasets": names,
        "targets": [_target(run, target, index, names) for target in run.targets],
        "evaluation": _evaluation(run),
    }
    if run.divergences:
        pooled = pooled_divergence(run)
        content["pooled"] = [[number(value, 3) for value in row] for row in pooled]
        content["divergences"] = {
            index[name]: pack(reorder(divergences, names)) for name, divergences in run.divergences.items()
        }
    return content


def _target(run: Run, target: str, index: dict[str, int], names: list[str]) -> dict[str, Any]:
    table = run.rankings[target]
    room = max(20, EXPLAINED // len(run.targets))
    explained = set(table[table["rank"].notna()].sort_values("rank", kind="stable")["model"].head(room))
    parts = part_columns(table)
    rows = [
        [
            index[row.model],
            number(row.rank),
            number(row.score),
            *bounds(row.rank_low, row.rank_high),
            number(row.p_top5, 3),
            str(row.status),
            str(row.reason),
            [number(value) for value in own],
            [number(getattr(row, name), 3) for name in EXPECTED_COLUMNS],
        ]
        for row, own in zip(table.itertuples(), table[list(parts)].to_numpy(), strict=True)
    ]
    return {
        "name": target,
        "rows": rows,
        "parts": list(parts.values()),
        "truth": {index[m]: number(acc) for m, acc in known_accuracy(run, target).items() if m in index},
        "why": _why(run, target, {name: index[name] for name in explained}, names),
        "profiles": {
            index[model]: [
                [number(v, 3) for v in values] if values is not None else None
                for values in (profile.conductance, profile.importance)
            ]
            for (model, dataset), profile in run.profiles.items()
            if dataset == target and model in index and model in explained
        },
    }


def _why(run: Run, target: str, index: dict[str, int], names: list[str]) -> dict[int, list[Any]]:
    """Model -> its heaviest sources [dataset, weight, divergence, accuracy, rank there, models there]."""
    accuracy = run.accuracy[run.accuracy["acc1"].notna()]
    accuracy = accuracy[accuracy["model"].isin({model.name for model in run.models})]
    ranks = accuracy.groupby("dataset")["acc1"].rank(ascending=False, method="min")
    counts = accuracy.groupby("dataset")["acc1"].transform("size")
    known = {
        (model, dataset): (number(acc), number(rank), number(count))
        for model, dataset, acc, rank, count in zip(
            accuracy["model"], accuracy["dataset"], accuracy["acc1"], ranks, counts, strict=True
        )
    }
    place = {name: i for i, name in enumerate(names)}
    weights = run.weights[target]
    weights = weights[weights["model"].isin(index) & weights["source"].isin(place) & (weights["weight"] > 0)]
    reasons: dict[int, list[Any]] = {}
    for model, rows in weights.sort_values("weight", ascending=False, kind="stable").groupby("model", sort=False):
        heaviest = rows.head(REASONS)
        reasons[index[model]] = [
            [place[row.source], number(row.weight, 3), number(row.dcd, 3), *known.get((model, row.source), (None,) * 3)]
            for row in heaviest.itertuples()
        ]
    return reasons


def _evaluation(run: Run) -> dict[str, Any] | None:
    if run.summary.empty:
        return None
    methods = list(dict.fromkeys([*run.summary["method"], *run.differences["method"], *run.differences["reference"]]))
    values = run.metrics[run.metrics["value"].notna()]
    return {
        "labels": {method: method_label(method) for method in methods},
        "groups": {method: method_group(method) for method in methods},
        "metrics": [
            {"name": metric, "label": metric_label(metric), "higher": bool(is_true(rows["higher_is_better"].iloc[0]))}
            for metric, rows in run.summary.groupby("metric", sort=False)
        ],
        "summary": [
            [row.method, row.metric, number(row.mean), number(row.ci_low), number(row.ci_high)]
            for row in run.summary.itertuples()
        ],
        "values": [[row.method, row.metric, row.target, number(row.value, 3)] for row in values.itertuples()],
        "differences": [
            [
                *(row.method, row.reference, row.metric),
                *(number(value, 3) for value in (row.mean, row.ci_low, row.ci_high, row.won, row.tied, row.lost)),
            ]
            for row in run.differences.itertuples()
        ],
    }


def is_true(value: Any) -> bool:
    """Whether a value read from a CSV file is true."""
    return str(value).strip().lower() in ("true", "1", "1.0", "yes")
