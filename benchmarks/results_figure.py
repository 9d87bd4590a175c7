"""The main figure of docs/results.md: methods against NDCG@5 and regret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

KINDS = {
    "ours": "ours",
    "counterpart": "ours, one part exchanged",
    "peer": "peer",
    "labelled": "sees target labels",
    "control": "control",
}
COLOURS = ["#2d7ba0", "#7fc0dd", "#84909c", "#d1762b", "#b07aa1"]


def figure(report: Mapping[str, Any], split: str = "report") -> str:
    """The main figure as SVG: NDCG@5 and regret of the methods, with the interval over tasks."""
    methods = {row["method"]: row for row in report["methods"]}
    found = {(row["method"], row["metric"]): row for row in report["summary"] if row["split"] == split}
    order = sorted(report["figure"], key=lambda name: -found[(name, "ndcg_at_5")]["mean"])
    rows = []
    for place, name in enumerate(order):
        for metric in ("ndcg_at_5", "regret_at_1"):
            scale = 100 if metric == "regret_at_1" else 1
            numbers = {one: scale * found[(name, metric)][one] for one in ("mean", "ci_low", "ci_high")}
            kind = KINDS[methods[name]["group"]]
            rows.append({"label": methods[name]["title"], "place": place, "metric": metric, "kind": kind} | numbers)
    color = alt.Color(
        "kind:N",
        title=None,
        scale=alt.Scale(domain=list(KINDS.values()), range=COLOURS),
        legend=alt.Legend(orient="bottom"),
    )
    panels = []
    for metric, title in (
        ("ndcg_at_5", "NDCG@5 (higher is better)"),
        ("regret_at_1", "regret of the first pick, points (lower is better)"),
    ):
        axis = alt.Axis(labelLimit=420) if not panels else None
        y = alt.Y("label:N", sort=alt.EncodingSortField("place"), title=None, axis=axis)
        base = alt.Chart(pd.DataFrame([row for row in rows if row["metric"] == metric])).encode(y=y, color=color)
        bars = base.mark_rule(strokeWidth=2).encode(
            x=alt.X("ci_low:Q", title=title, scale=alt.Scale(zero=True)), x2="ci_high:Q"
        )
        panels.append(
            (bars + base.mark_point(filled=True, size=55, opacity=1).encode(x="mean:Q")).properties(width=300)
        )
    chart = alt.hconcat(*panels, background="white").configure_view(stroke=None).configure_axis(gridColor="#e6e9ee")
    return vl_convert.vegalite_to_svg(chart.to_dict())
