"""Boil a run of the bench down to one JSON file: means, intervals and paired differences of every method.

    python benchmarks/bench_report.py [--results results/bench] [--datasets config/bench/datasets.tsv]

It reads the outputs of the workflow's evaluation and writes <results>/bench.json, from which `write_results.py` makes
the page. Intervals resample the tasks, whole domains at a time, and, apart from these, the models.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from vlmrank.answer.choice import nested_choices
from vlmrank.answer.prior import DEFAULT, GAINS
from vlmrank.errors import VlmrankError
from vlmrank.evaluation.evaluate import HIGHER_IS_BETTER, differences, ratio_of_means, summarise
from vlmrank.evaluation.scores import Scores, draw_halves, interval_over_models, metric_on_halves, read_scores
from vlmrank.store import read_csv, write_json
from vlmrank.workflow.config import check_config, read_schema

MAIN = ("ndcg_at_5", "regret_at_1", "hit_at_5")  # metrics that the models are resampled for
PURE = "vlmrank"
AUTO = "auto"  # `ranking: score:` of a run that takes the method which the known tasks speak for
SWAB = "swab"
HALVES = 200
TRIES = 4  # of a method that draws at random, when the models are resampled
BOOTSTRAP = 4000


@dataclass(frozen=True)
class Run:
    """What the evaluation of one run wrote, and how its datasets are split."""

    metrics: pd.DataFrame
    siblings: pd.DataFrame
    methods: pd.DataFrame
    scores: Scores
    splits: Mapping[str, Sequence[str]]
    domains: Mapping[str, str]

    def drawn(self, split: str) -> dict[str, Any]:
        """Arguments of `summarise` and its like."""
        return {"targets": self.splits[split], "domains": self.domains, "bootstrap": BOOTSTRAP}

    def mean(self, split: str, metric: str) -> pd.Series:
        """Mean of each method."""
        part = self.metrics[(self.metrics["metric"] == metric) & self.metrics["target"].isin(self.splits[split])]
        return part.groupby("method")["value"].mean()

    def group(self, method: str) -> str:
        return self.methods.loc[method, "group"]


def read_run(results: Path, splits: Path, datasets: Path) -> Run:
    """Read a results folder; `splits` names the datasets of each split, `datasets` is the sheet with their domains."""
    folder = results / "evaluation"
    metrics = read_csv(folder / "metrics.csv")
    known = list(dict.fromkeys(metrics["target"]))
    wanted = yaml.safe_load(splits.read_text(encoding="utf-8"))
    sheet = pd.read_csv(datasets, sep="\t", comment="#", keep_default_na=False).set_index("dataset")
    return Run(
        metrics=metrics,
        siblings=read_csv(folder / "sibling_metrics.csv"),
        methods=read_csv(folder / "methods.csv").set_index("method"),
        scores=read_scores(folder / "scores.h5"),
        splits={name: [one for one in known if one in set(names)] for name, names in wanted.items()} | {"all": known},
        domains=sheet["domain"].to_dict() if "domain" in sheet else {},
    )


def with_choice(run: Run) -> Run:
    """The run with the method `auto`: for each task the scores of the method that the other known tasks speak for."""
    candidates = [name for name in run.scores.values if run.group(name) in ("ours", "counterpart", "peer")]
    part = run.metrics[run.metrics["metric"] == "ndcg_at_5"]
    quality = part.pivot(index="target", columns="method", values="value")[candidates]
    chosen = nested_choices({name: quality[name].to_numpy() for name in candidates}, GAINS, default=DEFAULT)
    takes = {target: choice.method for target, choice in zip(quality.index, chosen, strict=True)}
    tries = max(len(run.scores.values[name]) for name in takes.values())
    scores = np.full((tries, *run.scores.truth.shape), np.nan)
    for target, name in takes.items():
        column, values = list(run.scores.datasets).index(target), run.scores.values[name]
        scores[: len(values), :, column] = values[:, :, column]
    tables = []
    for table in (run.metrics, run.siblings):
        own = table[table["method"] == table["target"].map(takes)].assign(method=AUTO)
        tables.append(pd.concat([table, own], ignore_index=True))
    taken = ", ".join(sorted({run.methods.loc[name, "title"] for name in takes.values()}))
    like = DEFAULT if DEFAULT in run.methods.index else run.methods.index[0]
    described = run.methods.loc[[like]].rename(index={like: AUTO}).assign(title=f"vlmrank as shipped ({taken})")
    return replace(
        run,
        metrics=tables[0],
        siblings=tables[1],
        methods=pd.concat([run.methods, described]),
        scores=replace(run.scores, values={**run.scores.values, AUTO: scores}),
    )


def uses_conductance(run: Run, method: str) -> bool:
    """Whether a method looks at conductance: ours and its counterparts, but for what stands in for it."""
    return run.group(method) in ("ours", "counterpart") and not method.startswith(("average_rank", "by_embedding"))


def best(run: Run, among: Sequence[str], count: int = 1) -> list[str]:
    """The first so many by NDCG@5 on the choosing tasks."""
    mean = run.mean("choose", "ndcg_at_5")
    return sorted((name for name in among if name in mean), key=lambda name: -mean[name])[:count]


def table_rows(run: Run, shipped: str) -> list[str]:
    """The twelve methods of the page's table, chosen by rule and on the choosing tasks alone."""
    names = list(run.methods.index)
    peers = [name for name in names if run.group(name) == "peer"]
    alone = [name for name in peers if not name.startswith("average_rank")]
    seeing = [name for name in alone if "target images" in run.methods.loc[name, "looks_at"]]
    joined = [name for name in peers if name.startswith("average_rank+")]
    labelled = [name for name in names if run.group(name) == "labelled"]
    rows = [shipped, PURE, "by_embedding", *best(run, joined), *best(run, seeing, 2), SWAB, "modelgpt", "average_rank"]
    rows += [*best(run, labelled), "random", "noise_ceiling"]
    present = set(run.metrics["method"])
    rows = [name for name in dict.fromkeys(rows) if name in present]
    more = [name for name in best(run, alone, 12) if name not in rows]
    return rows[:-2] + more[: max(0, 12 - len(rows))] + rows[-2:]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    table = table.round(6).astype(object)
    return table.where(table.notna(), None).to_dict("records")


def summaries(run: Run) -> pd.DataFrame:
    """method, split, metric, mean, ci_low, ci_high, uses_target_labels."""
    parts = [summarise(run.metrics, **run.drawn(split)).assign(split=split) for split in run.splits]
    table = pd.concat(parts, ignore_index=True)
    table["uses_target_labels"] = table["method"].map(run.methods["uses_target_labels"])
    return table[["method", "split", "metric", "mean", "ci_low", "ci_high", "uses_target_labels"]]


def over_models(run: Run, methods: Sequence[str]) -> dict[tuple[str, str], np.ndarray]:
    """(method, metric) -> [H, T], the metric on halves of the models."""
    halves = draw_halves(len(run.scores.models), HALVES)
    return {
        (method, metric): metric_on_halves(run.scores.values[method], run.scores.truth, halves, metric, tries=TRIES)
        for method in methods
        for metric in MAIN
    }


def model_intervals(run: Run, halves: Mapping[tuple[str, str], np.ndarray]) -> pd.DataFrame:
    """method, split, metric, mean, ci_low, ci_high by resampling the models."""
    rows = []
    for split, targets in run.splits.items():
        columns = [list(run.scores.datasets).index(name) for name in targets]
        for (method, metric), values in halves.items():
            mean = run.mean(split, metric)[method]
            rows.append(
                (method, split, metric, mean, *interval_over_models(mean, np.nanmean(values[:, columns], axis=1)))
            )
    return pd.DataFrame(rows, columns=["method", "split", "metric", "mean", "ci_low", "ci_high"])


def paired(run: Run, methods: Sequence[str], halves: Mapping[tuple[str, str], np.ndarray]) -> pd.DataFrame:
    """Differences of `methods` to every other, with both intervals; positive: the method is better."""
    parts = [differences(run.metrics, methods, **run.drawn(split)).assign(split=split) for split in run.splits]
    table = pd.concat(parts, ignore_index=True)
    low, high = [], []
    for row in table.itertuples():
        one, other = halves.get((row.method, row.metric)), halves.get((row.reference, row.metric))
        if one is None or other is None:
            limits = (np.nan, np.nan)
        else:
            columns = [list(run.scores.datasets).index(name) for name in run.splits[row.split]]
            sign = 1.0 if HIGHER_IS_BETTER[row.metric] else -1.0
            limits = interval_over_models(row.mean, sign * np.nanmean((one - other)[:, columns], axis=1))
        low.append(limits[0])
        high.append(limits[1])
    return table.assign(models_low=low, models_high=high)


def siblings(run: Run, methods: Sequence[str]) -> pd.DataFrame:
    """method, metric, targets, without, with, difference, ci_low, ci_high, over the tasks that have siblings."""
    merged = run.metrics.merge(run.siblings, on=["method", "target", "metric"], suffixes=("", "_with"))
    merged = merged[merged["method"].isin(methods)]
    differs = merged[(merged["value"] - merged["value_with"]).abs() > 1e-12]["target"].unique()
    rows = []
    for (method, metric), part in merged[merged["target"].isin(differs)].groupby(["method", "metric"], sort=False):
        both = pd.concat(
            [part.assign(method="without"), part.assign(method="with", value=part["value_with"])], ignore_index=True
        )
        row = differences(both, ["with"], domains=run.domains, bootstrap=BOOTSTRAP).iloc[0]
        means = (part["value"].mean(), part["value_with"].mean())
        rows.append((method, metric, len(part), *means, row["mean"], row["ci_low"], row["ci_high"]))
    columns = ["method", "metric", "targets", "without", "with", "difference", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=columns)


def ratios(run: Run, methods: Sequence[str], reference: str = SWAB) -> pd.DataFrame:
    """method, reference, split, ratio of the means of NDCG@5, ci_low, ci_high."""
    present = set(run.metrics["method"])
    rows = [
        (method, reference, split, *ratio_of_means(run.metrics, method, reference, "ndcg_at_5", **run.drawn(split)))
        for split in run.splits
        for method in methods
        if {method, reference} <= present
    ]
    return pd.DataFrame(rows, columns=["method", "reference", "split", "ratio", "ci_low", "ci_high"])


def bench_report(run: Run, *, shipped: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the page says, ready for JSON."""
    if shipped not in set(run.metrics["method"]):
        raise VlmrankError(f"the run did not evaluate {shipped!r}, which it ranks by: see its log for the reason")
    rows = table_rows(run, shipped)
    present = [name for name in run.methods.index if name in set(run.metrics["method"])]
    figure = [name for name in present if run.group(name) == "peer" and not name.startswith("average_rank+")]
    judged = list(dict.fromkeys([*rows, *figure, *(name for name in (shipped, PURE) if name in present)]))
    halves = over_models(run, judged)
    ours = [name for name in dict.fromkeys([shipped, PURE]) if name in present]
    described = run.methods.loc[present].reset_index()
    described["conductance"] = [uses_conductance(run, name) for name in present]
    return {
        "shipped": shipped,
        "table": rows,
        "figure": judged,
        "models": len(run.scores.models),
        "splits": {split: list(names) for split, names in run.splits.items()},
        "domains": len({run.domains.get(name) or name for name in run.splits["all"]}),
        "best_without_conductance": best(
            run,
            [
                name
                for name in present
                if run.group(name) in ("peer", "counterpart") and not uses_conductance(run, name)
            ],
        )[0],
        "settings": settings,
        "methods": _records(described),
        "summary": _records(summaries(run)),
        "over_models": _records(model_intervals(run, halves)),
        "paired": _records(paired(run, ours, halves)),
        "siblings": _records(siblings(run, rows)),
        "ratios": _records(ratios(run, ours)),
    }


def variants(results: Path, run: Run) -> pd.DataFrame:
    """variant, method, split, mean, difference, ci_low, ci_high: NDCG@5 under each changed setting, and beside the run.

    Settings of the conductance ran on a part of the zoo, in `<results>-<setting>`: their difference is to `-base`.
    """
    tables = {"": read_csv(results / "evaluation" / "variant_metrics.csv")}
    for folder in sorted(results.parent.glob(f"{results.name}-*/evaluation/variant_metrics.csv")):
        found = read_csv(folder)
        name = folder.parents[1].name.removeprefix(f"{results.name}-")
        tables["base"] = pd.concat([tables.get("base"), found[found["variant"] == ""].assign(variant=name)])
    rows = []
    for base, table in tables.items():
        for variant in dict.fromkeys(table["variant"]):
            for method, split in product(dict.fromkeys(table["method"]), run.splits):
                part = table[(table["method"] == method) & table["variant"].isin([base, variant])]
                part = part[part["metric"] == "ndcg_at_5"]
                both = part.assign(method=part["variant"].map({base: "as run", variant: "changed"}))
                found = both[(both["variant"] == variant) & both["target"].isin(run.splits[split])]
                change = differences(both, ["changed"], **run.drawn(split))
                limits = change.iloc[0][["mean", "ci_low", "ci_high"]] if len(change) else [np.nan] * 3
                rows.append((variant, method, split, found["value"].mean(), *limits))
    return pd.DataFrame(rows, columns=["variant", "method", "split", "mean", "difference", "ci_low", "ci_high"])


def settings_of(config: Path) -> dict[str, Any]:
    """The configuration of the run, its defaults filled in."""
    base, changed = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in (Path("config.yaml"), config))
    for key, value in changed.items():
        base[key] = {**base.get(key, {}), **value} if isinstance(value, dict) else value
    return check_config(base, read_schema("schemas/config.schema.yaml"))


def print_table(report: Mapping[str, Any]) -> None:
    """The page's table, on the report tasks."""
    titles = {row["method"]: row["title"] for row in report["methods"]}
    found = {(row["method"], row["metric"]): row for row in report["summary"] if row["split"] == "report"}
    print(f"{'method':62s}{'NDCG@5':>22s}{'regret@1, points':>22s}{'hit@5':>22s}")
    for method in report["table"]:
        cells = []
        for metric in MAIN:
            row, scale = found[(method, metric)], 100 if metric.startswith("regret") else 1
            numbers = [scale * row[name] for name in ("mean", "ci_low", "ci_high")]
            digits = 1 if scale == 100 else 3
            cells.append("{0:.{3}f} [{1:.{3}f}, {2:.{3}f}]".format(*numbers, digits))
        print(f"{titles[method][:61]:62s}" + "".join(f"{cell:>22s}" for cell in cells))


def main() -> None:
    """Read the arguments and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results/bench"))
    parser.add_argument("--splits", type=Path, default=Path("config/bench/splits.yaml"))
    parser.add_argument("--datasets", type=Path, default=Path("config/bench/datasets.tsv"))
    parser.add_argument("--config", type=Path, default=Path("config/bench.yaml"))
    arguments = parser.parse_args()
    config = settings_of(arguments.config)
    if not (arguments.results / "evaluation" / "scores.h5").is_file():
        sys.exit(f"{arguments.results}/evaluation/scores.h5 is not there: run benchmarks/run_bench.py first")
    shipped = config["ranking"]["score"]
    run = read_run(arguments.results, arguments.splits, arguments.datasets)
    run = with_choice(run) if shipped == AUTO else run
    blocks = ("images", "conductance", "alignment", "divergence", "ranking", "evaluation")
    settings = json.loads(json.dumps({block: config[block] for block in blocks}, default=str))
    report = bench_report(run, shipped=shipped, settings=settings)
    report["variants"] = _records(variants(arguments.results, run))
    write_json(arguments.results / "bench.json", report)
    print_table(report)
    print(f"written to {arguments.results / 'bench.json'}")


if __name__ == "__main__":
    main()
