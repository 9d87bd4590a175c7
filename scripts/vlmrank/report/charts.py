"""The report's figures: Vega-Lite specifications made with Altair, also saved as SVG files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import vl_convert

from vlmrank import store
from vlmrank.report.collect import Run
from vlmrank.report.distances import pooled_divergence
from vlmrank.report.names import GROUPS, method_group, method_label, metric_label
from vlmrank.report.payload import is_true

ACCENT, QUIET = "#3585aa", "#8f9ba8"
GROUP_COLOURS = ["#2d7ba0", "#7fc0dd", "#84909c", "#d1762b", "#b07aa1"]
LEGEND = alt.Legend(orient="top", columns=2, labelLimit=260, symbolType="circle")  # the page has its own
SHOWN = 40  # models in the figure of a ranking
LIGHT = {
    "background": "white",
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelLimit": 360,
        "labelColor": "#3b4450",
        "titleColor": "#3b4450",
        "gridColor": "#e6e9ee",
        "titleFontWeight": "normal",
    },
}


def similarity_chart() -> alt.Chart:
    """Heat map of divergences from sources (rows) to targets (columns); table of source, target, divergence."""
    base = alt.Chart(alt.NamedData("table"))
    return base.mark_rect().encode(
        x=alt.X("target:N", sort=None, title="task stood in for", axis=alt.Axis(orient="top", labelAngle=-60)),
        y=alt.Y("source:N", sort=None, title="task that stands in"),
        color=alt.Color(
            "divergence:Q",
            scale=alt.Scale(scheme="viridis", reverse=True, domainMin=0),
            legend=alt.Legend(title="divergence", orient="bottom", gradientLength=220),
        ),
        tooltip=[
            alt.Tooltip("source:N", title="source"),
            alt.Tooltip("target:N", title="target"),
            alt.Tooltip("divergence:Q", title="divergence", format=".3f"),
        ],
    )


def evaluation_chart(legend: alt.Legend | None = None) -> alt.LayerChart:
    """One row per method: mean and interval over held-out tasks, each task a tick; data `table` and `tasks`."""
    order = alt.EncodingSortField("place")
    y = alt.Y("label:N", sort=order, title=None)
    color = alt.Color(
        "group:N",
        title=None,
        scale=alt.Scale(domain=list(GROUPS.values()), range=GROUP_COLOURS),
        legend=legend,
    )
    x = alt.X(
        "mean:Q", title="mean over held-out tasks", scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(tickCount=8)
    )
    table = alt.Chart(alt.NamedData("table"))
    ticks = (
        alt.Chart(alt.NamedData("tasks"))
        .mark_tick(opacity=0.35, thickness=1, size=10)
        .encode(
            y=y,
            x=alt.X("value:Q"),
            color=alt.value(QUIET),
            tooltip=[alt.Tooltip("task:N"), alt.Tooltip("value:Q", format=".3f")],
        )
    )
    whiskers = table.mark_rule(strokeWidth=3).encode(y=y, x=alt.X("ci_low:Q"), x2="ci_high:Q", color=color)
    dots = table.mark_point(filled=True, size=90, opacity=1).encode(
        y=y,
        x=x,
        color=color,
        tooltip=[
            alt.Tooltip("label:N", title="method"),
            alt.Tooltip("mean:Q", format=".3f"),
            alt.Tooltip("ci_low:Q", title="from", format=".3f"),
            alt.Tooltip("ci_high:Q", title="to", format=".3f"),
        ],
    )
    return alt.layer(ticks, whiskers, dots).properties(height=alt.Step(24))


def profile_chart() -> alt.LayerChart:
    """Conductance and importance of a model's blocks over depth; table of block, kind, share, last."""
    base = alt.Chart(alt.NamedData("table"))
    x = alt.X("block:Q", title="block, from the image to the embedding", axis=alt.Axis(tickMinStep=1))
    y = alt.Y("share:Q", title="share", axis=alt.Axis(format="%"))
    color = alt.Color("kind:N", scale=alt.Scale(range=["#3585aa", "#d1762b"]), legend=None)
    tooltip = ["block:Q", "kind:N", alt.Tooltip("share:Q", format=".1%")]
    lines = base.mark_line().encode(x=x, y=y, color=color)
    points = base.mark_point(filled=True, opacity=1, size=45).encode(
        x=x, y=y, color=color, shape=alt.Shape("kind:N", legend=None), tooltip=tooltip
    )
    return alt.layer(lines, points).properties(height=260)


def reliability_chart() -> alt.LayerChart:
    """Claimed against observed frequency; data `table` of claimed, seen, low, high, cases, and `diagonal`."""
    x = alt.X(
        "claimed:Q", title="chance claimed", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=5)
    )
    y = alt.Y("seen:Q", title="share that was", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=5))
    diagonal = alt.Chart(alt.NamedData("diagonal")).mark_line(color=QUIET, strokeDash=[4, 4]).encode(x="x:Q", y="y:Q")
    table = alt.Chart(alt.NamedData("table"))
    whiskers = table.mark_rule(strokeWidth=2, color=ACCENT, opacity=0.5).encode(x=x, y="low:Q", y2="high:Q")
    shown = [alt.Tooltip(name, format=".0%") for name in ("claimed:Q", "seen:Q")]
    dots = table.mark_point(filled=True, size=70, opacity=1, color=ACCENT).encode(x=x, y=y, tooltip=[*shown, "cases:Q"])
    return alt.layer(diagonal, whiskers, dots)


def specifications() -> dict[str, dict[str, Any]]:
    """The Vega-Lite specifications that the page fills with its own data."""
    charts = {
        "similarity": similarity_chart(),
        "evaluation": evaluation_chart(),
        "profile": profile_chart(),
        "reliability": reliability_chart(),
    }
    descriptions = {
        "similarity": "Map: the divergence of one task (row) to another (column).",
        "evaluation": "Dots with intervals: the chosen measure's mean for each method; numbers in the table below.",
        "profile": "Lines: share of conductance and of importance in each block, from the image to the embedding.",
        "reliability": "Dots: the chance claimed and the share that came true; on the diagonal claims are right.",
    }
    found = {}
    for name, chart in charts.items():
        spec = chart.to_dict()
        spec.pop("config", None)
        spec["description"] = descriptions[name]
        found[name] = spec
    return found


def _svg(path: Path, chart: alt.Chart | alt.LayerChart, data: dict[str, pd.DataFrame], title: str) -> None:
    spec = chart.properties(title=title).to_dict()
    spec["datasets"] = {name: table.replace({np.nan: None}).to_dict("records") for name, table in data.items()}
    spec["config"] = LIGHT
    with store.atomic(path) as partial:
        partial.write_text(vl_convert.vegalite_to_svg(spec), encoding="utf-8")


def _message(path: Path, text: str) -> None:
    table = pd.DataFrame({"text": [text]})
    _svg(path, alt.Chart(alt.NamedData("table")).mark_text().encode(text="text:N"), {"table": table}, "")


def ranking_figure(run: Run, target: str) -> alt.LayerChart:
    """Rank and rank interval of the first models."""
    del run, target
    y = alt.Y("label:N", sort=alt.EncodingSortField("rank"), title=None)
    base = alt.Chart(alt.NamedData("table"))
    x = alt.X("rank:Q", title="rank (1 is best)", scale=alt.Scale(zero=False), axis=alt.Axis(tickMinStep=1))
    whiskers = base.mark_rule(strokeWidth=3, color=QUIET).encode(y=y, x="rank_low:Q", x2="rank_high:Q")
    dots = base.mark_point(filled=True, size=90, opacity=1, color=ACCENT).encode(y=y, x=x)
    return alt.layer(whiskers, dots).properties(width=480, height=alt.Step(20))


def save_figures(run: Run, folder: str | Path) -> list[Path]:
    """Write `ranking/<target>.svg`, `similarity.svg` and `evaluation.svg`; a figure without data says so."""
    folder = Path(folder)
    written = []
    for target in run.targets:
        path = folder / "ranking" / f"{target}.svg"
        table = run.rankings[target]
        table = table[table["rank"].notna()].sort_values("rank").head(SHOWN)
        if table.empty:
            _message(path, "No model could be ranked.")
        else:
            table = table.assign(label=table["model"])
            data = table[["label", "rank", "rank_low", "rank_high"]].astype({"rank": float})
            _svg(path, ranking_figure(run, target), {"table": data}, f"Ranking for {target}")
        written.append(path)
    written += [folder / "similarity.svg", folder / "evaluation.svg"]
    if run.divergences:
        names = [card["dataset"] for card in run.datasets]
        pooled = pooled_divergence(run)
        rows = [
            {"source": names[i], "target": names[j], "divergence": float(pooled[i, j])}
            for i in range(len(names))
            for j in range(len(names))
            if np.isfinite(pooled[i, j])
        ]
        chart = similarity_chart().properties(width=alt.Step(18), height=alt.Step(18))
        _svg(written[-2], chart, {"table": pd.DataFrame(rows)}, "Divergence of each task (row) to the others (column)")
    else:
        _message(written[-2], "This run computed no divergences.")
    chosen = run.summary[run.summary["metric"] == "ndcg_at_5"]
    if chosen.empty and len(run.summary):
        chosen = run.summary[run.summary["metric"] == run.summary["metric"].iloc[0]]
    if chosen.empty:
        _message(written[-1], "This run holds no evaluation.")
        return written
    metric, higher = chosen["metric"].iloc[0], is_true(chosen["higher_is_better"].iloc[0])
    chosen = chosen.assign(label=chosen["method"].map(method_label), group=chosen["method"].map(method_group))
    chosen = chosen.sort_values("mean", ascending=not higher).assign(place=range(len(chosen)))
    place = chosen.set_index("method")["place"]
    tasks = run.metrics[(run.metrics["metric"] == metric) & run.metrics["value"].notna()]
    tasks = tasks.assign(
        label=tasks["method"].map(method_label), task=tasks["target"], place=tasks["method"].map(place)
    )
    data = {
        "table": chosen[["label", "mean", "ci_low", "ci_high", "group", "place"]],
        "tasks": tasks[["label", "task", "value", "place"]],
    }
    title = f"{metric_label(metric)}: {'higher' if higher else 'lower'} is better"
    _svg(written[-1], evaluation_chart(LEGEND).properties(width=480), data, title)
    return written
