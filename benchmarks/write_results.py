"""Write docs/results.md, its figure and its tables from the bench's JSON; no figure is typed by hand.

    python benchmarks/write_results.py [--results results/bench] [--docs docs] [--without-run]

It reads <results>/bench.json (of `bench_report.py`) and, where they are there, <results>/cost.csv (of
`measure_cost.py`) and <docs>/results/ideas.csv.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from results_figure import figure

from vlmrank.store import write_csv

METRICS = {"ndcg_at_5": "NDCG@5", "regret_at_1": "regret, points", "hit_at_5": "hit@5", "kendall_tau": "tau"}
SHOWN = 6  # peers named in a sentence
TABLES = {
    "bench_summary": "summary",
    "differences": "paired",
    "over_models": "over_models",
    "siblings": "siblings",
    "variants": "variants",
}


class Page:
    """The bench's JSON with its rows where one looks for them."""

    def __init__(self, report: Mapping[str, Any]) -> None:
        self.report = report
        self.shipped, self.table, self.splits = report["shipped"], report["table"], report["splits"]
        self.methods = {row["method"]: row for row in report["methods"]}
        self.summary = {(row["method"], row["split"], row["metric"]): row for row in report["summary"]}
        self.over_models = {(row["method"], row["split"], row["metric"]): row for row in report["over_models"]}
        self.paired = {(row["method"], row["reference"], row["split"], row["metric"]): row for row in report["paired"]}

    def title(self, method: str) -> str:
        return self.methods[method]["title"]

    def number(self, method: str, metric: str, *, split: str = "report", name: str = "mean") -> float:
        """A number as it is shown: regrets in points."""
        value = self.summary[(method, split, metric)][name]
        return 100 * value if metric.startswith("regret") else value

    def cell(self, method: str, metric: str, split: str = "report") -> str:
        return interval(self.summary.get((method, split, metric)), metric)

    def difference(self, reference: str, metric: str, *, method: str = "", split: str = "report") -> Mapping | None:
        """The paired difference of the shipped method (or `method`) to another."""
        return self.paired.get((method or self.shipped, reference, split, metric))

    def needs(self, method: str) -> str:
        """What a method asks for."""
        row = self.methods[method]
        if row["uses_target_labels"]:
            return "target labels"
        if row["conductance"]:
            return "images, forward and backward"
        if "target images" in row["looks_at"]:
            return "images, forward"
        return {"random": "nothing", "biggest": "size"}.get(
            method, "truth" if "true" in row["looks_at"] else "no image"
        )


def interval(row: Mapping[str, Any] | None, metric: str = "", *, low: str = "ci_low", high: str = "ci_high") -> str:
    """`mean [low, high]`, regrets in points."""
    if row is None or row.get("mean") is None:
        return ""
    points = metric.startswith("regret")
    scale, form = (100, "{:.1f}") if points else (1, "{:.3f}")
    mean, *limits = (form.format(scale * row[name]) for name in ("mean", low, high) if row[name] is not None)
    return f"{mean} [{', '.join(limits)}]" if len(limits) == 2 else mean


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; the first column is left-aligned, the others right."""
    lines = [header, [":--", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(value).replace("|", "\\|") for value in line) + " |" for line in lines)


def verdict(row: Mapping[str, Any] | None) -> str:
    """Ahead, level or behind, by whether the interval leaves zero out."""
    if row is None or row["ci_low"] is None:
        return "level"
    return "ahead" if row["ci_low"] > 0 else "behind" if row["ci_high"] < 0 else "level"


def first_paragraph(page: Page) -> str:
    """Five sentences that anybody understands."""
    tasks, shipped = len(page.splits["report"]), page.shipped
    lost, hit = page.cell(shipped, "regret_at_1"), page.number(shipped, "hit_at_5")
    rival = page.report["best_without_conductance"]
    if rival == shipped:
        rival = next(name for name in page.table if name != shipped and page.methods[name]["group"] == "peer")
    row = page.difference(rival, "ndcg_at_5")
    against = {
        "ahead": "which vlmrank beats by more than chance explains",
        "level": "from which vlmrank differs by no more than chance explains",
        "behind": "which beats vlmrank by more than chance explains",
    }[verdict(row)]
    lines = [
        f"Each of {tasks} tasks in turn was taken for new: {page.report['models']} models were ranked for it without a "
        "look at its labels, and the order was compared with accuracies measured on up to 1,600 labelled images.",
        f"The model that vlmrank names first is {lost} points less accurate than the best of them, on average (in "
        "brackets: the 95 % interval).",
        f"Taking the model that is best on other tasks costs {page.number('average_rank', 'regret_at_1'):.1f} points, "
        f"a random one {page.number('random', 'regret_at_1'):.1f}, and even measuring the accuracies a second time "
        f"{page.number('noise_ceiling', 'regret_at_1'):.1f}.",
        f"In {100 * hit:.0f} % of the tasks the best model is among vlmrank's first five.",
        f"The strongest competitor that needs no labels and no conductance is *{page.title(rival)}* "
        f"({page.cell(rival, 'regret_at_1')} points), {against}.",
    ]
    return " ".join(lines)


def images_a_second(page: Page, method: str, cost: pd.DataFrame | None) -> str:
    """Images that one model of the median tower takes in a second for this method."""
    needs = page.needs(method)
    if cost is None or not needs.startswith("images"):
        return ""
    column = "conductance_per_s" if "backward" in needs else "forward_per_s"
    return f"{cost[column].median():.0f}"


def main_table(page: Page, cost: pd.DataFrame | None) -> str:
    """Twelve methods on the report tasks."""
    rows = []
    for method in page.table:
        title = f"**{page.title(method)}**" if method == page.shipped else page.title(method)
        cells = [page.cell(method, metric) for metric in METRICS]
        row = page.difference(method, "ndcg_at_5")
        rows.append([title, page.needs(method), images_a_second(page, method, cost), *cells, interval(row)])
    heads = [f"{title} {'↓' if metric.startswith('regret') else '↑'}" for metric, title in METRICS.items()]
    return table(["method", "needs of the new task", "images/s", *heads, "shipped minus it, NDCG@5"], rows)


def where_not_ahead(page: Page) -> str:
    """Peers without labels that the shipped method is not ahead of."""
    level, behind = [], []
    for name, row in page.methods.items():
        if row["group"] not in ("peer", "counterpart") or name == page.shipped:
            continue
        found = page.difference(name, "ndcg_at_5")
        place = {"level": level, "behind": behind}.get(verdict(found))
        if place is not None and found is not None:
            place.append((found["mean"], f"{row['title']} ({found['mean']:+.3f})"))
    lines = []
    for text, found in (("It is **behind**", behind), ("It is level (the interval holds zero) with", level)):
        if found:
            names = [name for _, name in sorted(found)]
            more = f"; and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            lines.append(f"{text} {'; '.join(names[:SHOWN])}{more}.")
    return " ".join(lines) or "None: it is ahead of every peer and counterpart with an interval that leaves zero out."


def conductance_share(page: Page) -> str:
    """What conductance itself adds, whichever way it came out."""
    lines = []
    for one, other, text in (
        (
            page.shipped,
            page.report["best_without_conductance"],
            "The shipped method minus the best without conductance",
        ),
        ("vlmrank", "by_embedding", "Conductance minus embeddings in the same weights of the sources"),
        ("vlmrank", "average_rank", "Conductance minus the average rank"),
    ):
        if one == other:
            lines.append(f"- {text}: they are the same, *{page.title(one)}*: it uses no conductance.")
            continue
        cells = [
            interval(page.difference(other, metric, method=one), metric) for metric in ("ndcg_at_5", "regret_at_1")
        ]
        if cells[0]:
            word = verdict(page.difference(other, "ndcg_at_5", method=one))
            lines.append(f"- {text} (*{page.title(other)}*): NDCG@5 {cells[0]}, regret {cells[1]} points: {word}.")
    for row in page.report["ratios"]:
        if row["split"] == "report":
            lines.append(
                f"- *{page.title(row['method'])}* has {row['ratio']:.3f} "
                f"[{row['ci_low']:.3f}, {row['ci_high']:.3f}] times the NDCG@5 of SWAB."
            )
    return "\n".join(lines)


def other_models(page: Page) -> str:
    """The paired differences with intervals over tasks and over models."""
    rows = []
    for method in page.table:
        if method == page.shipped:
            continue
        row = page.difference(method, "ndcg_at_5")
        rows.append([page.title(method), interval(row), interval(row, low="models_low", high="models_high")])
    return table(["shipped minus", "NDCG@5, other tasks", "NDCG@5, other models"], rows)


def sibling_table(page: Page) -> str:
    """What it would change to let siblings in."""
    rows = [
        [
            page.title(row["method"]),
            f"{row['without']:.3f}",
            f"{row['with']:.3f}",
            interval(row | {"mean": row["difference"]}),
        ]
        for row in page.report["siblings"]
        if row["metric"] == "ndcg_at_5"
    ]
    return table(["method", "without siblings", "with siblings", "difference in NDCG@5"], rows) if rows else ""


def cost_table(cost: pd.DataFrame) -> str:
    """Images a second of the passes that methods need."""
    rows = [
        [
            row.tower,
            f"{row.forward_per_s:.1f}",
            f"{row.conductance_per_s:.2f}",
            f"{row.forward_per_s / row.conductance_per_s:.0f}",
        ]
        for row in cost.itertuples()
    ]
    heads = ["tower", "forward pass, images/s", "conductance, images/s", "forward passes for one conductance"]
    return table(heads, rows)


def ideas_table(ideas: pd.DataFrame) -> str:
    """The best form of each idea that was tried on the choosing tasks, by NDCG@5."""
    compared = ideas[(ideas["metric"] == "ndcg_at_5") & ideas["difference"].notna()]
    best = compared.sort_values("difference", ascending=False).drop_duplicates("idea").sort_index()
    rows = []
    for row in best.to_dict("records"):
        change = f"{row['difference']:+.3f} [{row['ci_low']:+.3f}, {row['ci_high']:+.3f}]"
        rows.append([row["idea"], row["form"], f"{row['mean']:.3f}", change, "yes" if row["ci_low"] > 0 else "no"])
    return table(["idea", "its best form", "NDCG@5", "difference", "above zero"], rows)


def tried(ideas: pd.DataFrame | None) -> list[str]:
    """The section on what was tried; empty where nothing is written down."""
    if ideas is None or ideas.empty:
        return []
    return [
        "## What was tried",
        "On the choosing tasks alone; each difference is paired, to the form that the idea changes, with a 95 % "
        "interval that resamples whole domains. One line an idea, with its best form; all forms, with seconds and "
        "commands, are in [ideas.csv](results/ideas.csv), which `python benchmarks/ideas.py` writes.",
        ideas_table(ideas),
    ]


def without_run(splits: Mapping[str, Sequence[str]], ideas: pd.DataFrame | None) -> str:
    """The page before the bench has run: what it is, how it is run, and what is known from the choosing tasks."""
    choose, report = len(splits["choose"]), len(splits["report"])
    parts = [
        "# Does it pick the right model?",
        "**No figure of the report tasks stands here yet: the bench was made anew and has not run to its end.**",
        f"The bench holds 50 small trained OpenCLIP models (five towers, ten corpora each) and {choose + report} tasks "
        f"of ten domains with their true accuracies: {choose} tasks to choose settings and methods on, {report} to "
        "report. Each task in turn is taken for new; the models are ranked for it without a look at its labels, from "
        "all other tasks but those that share its pictures. These commands run it and write this page: the method, its "
        "peers and controls against NDCG@5 and regret, intervals over tasks and over models, and what it costs.",
        "```console\n$ python benchmarks/run_bench.py --bench FOLDER --main-only\n"
        "$ python benchmarks/measure_cost.py\n$ python benchmarks/write_results.py\n```",
        *tried(ideas),
    ]
    return "\n\n".join(parts) + "\n"


def markdown(page: Page, cost: pd.DataFrame | None, ideas: pd.DataFrame | None) -> str:
    """The page."""
    counts = {split: len(names) for split, names in page.splits.items()}
    used = page.report["settings"]
    parts = [
        "# Does it pick the right model?",
        first_paragraph(page),
        "![Methods against NDCG@5 and regret](images/results.svg)",
        f"The {counts['report']} report tasks; points are means, bars 95 % intervals. Below, twelve of these methods: "
        "ours, the peers that did best on the choosing tasks, and controls. All others, the choosing tasks and all "
        "metrics are in [bench_summary.csv](results/bench_summary.csv).",
        main_table(page, cost),
        "- **NDCG@5**: how much of the true top five stands at the top, 1 at most. **Regret**: points of accuracy "
        "between the best model and the first pick. **hit@5**: whether the best model is among the first five. "
        "**tau**: Kendall's, over all models.\n"
        "- **Ceiling**: the truth measured again on as many images; no method can be expected to do better.\n"
        f"- **Shipped**: what a run ranks by without further settings, *{page.title(page.shipped)}*.",
        "## Where it is not ahead",
        where_not_ahead(page),
        "## What conductance adds",
        conductance_share(page),
    ]
    if cost is not None:
        parts += [
            "## What it costs",
            "Images a second on one core of a CPU. A peer that looks at predictions needs the forward pass alone; "
            f"conductance needs forward and backward at {cost['points'].iloc[0]} points of the path. *images/s* in "
            "the table above is that of the median tower. Ranking itself takes seconds. Measured by `python "
            "benchmarks/measure_cost.py`.",
            cost_table(cost),
        ]
    parts += [
        "## Other tasks, other models",
        "How far would the outcome differ on other tasks of these kinds, and with other models of this kind in the "
        "zoo? Paired differences on the report tasks; positive: the shipped method is better.",
        other_models(page),
    ]
    told = sibling_table(page)
    if told:
        targets = page.report["siblings"][0]["targets"]
        parts += [
            "## Siblings",
            "Tasks that share pictures (other labels or renderings of the same images) never serve each other as "
            f"sources. If they did, the {targets} tasks that have siblings would come out so:",
            told,
        ]
    parts += tried(ideas)
    parts += [
        "## How it was measured",
        f"- {page.report['models']} models, {counts['all']} tasks of {page.report['domains']} domains: "
        f"{counts['choose']} to choose settings and methods on, {counts['report']} to report. Each is the target in "
        "turn; the sources are all other tasks but its siblings.\n"
        "- Intervals over tasks resample whole domains with replacement. Those over models are from random halves of "
        "the models, which vary about their mean as much as new zoos of full size would.\n"
        "- The peers that see target labels get as many labelled images as ours gets unlabelled ones.\n"
        f"- Images a task: {used['images']['per_dataset']} for conductance. Files: "
        "[differences.csv](results/differences.csv) (every paired difference, both intervals), "
        "[over_models.csv](results/over_models.csv), [siblings.csv](results/siblings.csv), "
        "[variants.csv](results/variants.csv) (every setting changed on its own).\n"
        "- Written by `python benchmarks/write_results.py` from what `python benchmarks/bench_report.py` made of the "
        "outputs of `python benchmarks/run_bench.py`.",
    ]
    return "\n\n".join(parts) + "\n"


def write_results(report: Mapping[str, Any], docs: Path, cost: Path | None = None) -> None:
    """Write the page, its figure and its tables.

    Parameters
    ----------
    report : as `bench_report.py` makes it.
    docs : folder of the documentation.
    cost : of `measure_cost.py`; None, or a file that is not there: no section on cost.
    """
    page, ideas = Page(report), docs / "results" / "ideas.csv"
    text = markdown(
        page,
        pd.read_csv(cost) if cost is not None and cost.is_file() else None,
        pd.read_csv(ideas) if ideas.is_file() else None,
    )
    (docs / "images").mkdir(parents=True, exist_ok=True)
    (docs / "results.md").write_text(text, encoding="utf-8")
    (docs / "images" / "results.svg").write_text(figure(page.report), encoding="utf-8")
    for name, rows in TABLES.items():
        write_csv(docs / "results" / f"{name}.csv", pd.DataFrame(report.get(rows, [])))


def main() -> None:
    """Read the arguments, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results/bench"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--without-run", action="store_true", help="the page before the bench has run")
    arguments = parser.parse_args()
    source, ideas = arguments.results / "bench.json", arguments.docs / "results" / "ideas.csv"
    if arguments.without_run:
        splits = yaml.safe_load(Path("config/bench/splits.yaml").read_text(encoding="utf-8"))
        text = without_run(splits, pd.read_csv(ideas) if ideas.is_file() else None)
        (arguments.docs / "results.md").write_text(text, encoding="utf-8")
        return
    if not source.is_file():
        sys.exit(
            f"{source} is not there: run benchmarks/run_bench.py first, or benchmarks/bench_report.py on its outputs"
        )
    write_results(json.loads(source.read_text(encoding="utf-8")), arguments.docs, arguments.results / "cost.csv")


if __name__ == "__main__":
    main()
