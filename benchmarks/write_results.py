"""Write docs/results.md and docs/results/bench_summary.csv from what the bench printed; no figure is typed by hand.

PYTHONPATH=scripts python benchmarks/write_results.py [--results results/bench] [--docs docs]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from vlmrank.evaluation.evaluate import HIGHER_IS_BETTER, differences, summarise
from vlmrank.store import read_csv, read_pair_attributes, write_csv
from vlmrank.store.identities import FREE_OPTIONS

OURS = ("vlmrank", "fused")
MAIN = "ndcg_at_5"
METRICS = {
    "ndcg_at_5": "NDCG@5",
    "top5_recall": "R@5",
    "kendall_tau": "tau",
    "common_top5_tau": "tau of the common top 5",
    "weighted_tau": "weighted tau",
    "regret_at_1": "regret@1",
    "regret_at_5": "regret@5",
}
GROUPS = {
    "ours": "ours",
    "peer": "no target labels",
    "counterpart": "ours with one part exchanged",
    "labelled": "sees K target labels",
    "control": "control",
}


def cell(row: pd.Series | None, digits: int = 3) -> str:
    """`mean [low, high]`."""
    if row is None or not np.isfinite(row["mean"]):
        return ""
    return f"{row['mean']:.{digits}f} [{row['ci_low']:.{digits}f}, {row['ci_high']:.{digits}f}]"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; the first column is left-aligned, the others right."""
    lines = [header, [":--", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(value).replace("|", "\\|") for value in line) + " |" for line in lines)


class Bench:
    """What one run of the bench printed, cut into its splits of datasets."""

    def __init__(self, results: Path, splits: Mapping[str, Sequence[str]], bootstrap: int = 4000) -> None:
        self.results, self.bootstrap = results, bootstrap
        folder = results / "evaluation"
        self.metrics = read_csv(folder / "metrics.csv")
        self.domains = read_csv(folder / "domain_metrics.csv")
        self.variants = read_csv(folder / "variant_metrics.csv")
        self.methods = read_csv(folder / "methods.csv").set_index("method")
        known = list(dict.fromkeys(self.metrics["target"]))
        self.splits = {name: [one for one in known if one in set(wanted)] for name, wanted in splits.items()}
        self.splits["all"] = known

    def summary(self, metrics: pd.DataFrame, split: str) -> pd.DataFrame:
        """Means and intervals, indexed by method and metric."""
        found = summarise(metrics, targets=self.splits[split], bootstrap=self.bootstrap)
        return found.set_index(["method", "metric"])

    def paired(self, split: str, methods: Sequence[str] = OURS) -> pd.DataFrame:
        """Paired differences, indexed by method, reference and metric."""
        found = differences(self.metrics, methods, targets=self.splits[split], bootstrap=self.bootstrap)
        return found.set_index(["method", "reference", "metric"])

    def in_order(self) -> list[str]:
        """Methods by group, and within a group by their NDCG@5 over all datasets."""
        mean = self.summary(self.metrics, "all")["mean"].xs(MAIN, level="metric")
        order = {group: index for index, group in enumerate(GROUPS)}
        return sorted(mean.index, key=lambda name: (order[self.methods.loc[name, "group"]], -mean[name]))

    def title(self, method: str) -> str:
        return self.methods.loc[method, "title"]


def first_paragraph(bench: Bench) -> str:
    """Where it does not win, before anything else."""
    summary, paired = bench.summary(bench.metrics, "report"), bench.paired("report")
    groups = bench.methods["group"]
    unlabelled = [name for name in bench.in_order() if groups[name] in ("peer", "counterpart")]
    swab = summary.loc[("swab", MAIN), "mean"]
    best = max(OURS, key=lambda name: summary.loc[(name, MAIN), "mean"])
    lines = [
        f"On the {len(bench.splits['report'])} report datasets, NDCG@5 and paired differences with 95 % intervals:"
    ]
    for method in OURS:
        mean = summary.loc[(method, MAIN), "mean"]
        gain = 100 * (mean / swab - 1)
        behind, unsure, ahead = [], [], []
        for name in unlabelled:
            row = paired.loc[(method, name, MAIN)]
            title = bench.title(name)
            if row["ci_low"] > 0:
                ahead.append(title)
            elif row["mean"] > 0:
                unsure.append(title)
            else:
                behind.append(f"{title} ({row['mean']:+.3f} [{row['ci_low']:+.3f}, {row['ci_high']:+.3f}])")
        lines.append(f"- **{bench.title(method)}** has {cell(summary.loc[(method, MAIN)])}, {gain:+.1f} % beside SWAB.")
        if behind:
            lines.append(f"  - It **does not win** against {'; '.join(behind)}.")
        if unsure:
            lines.append(f"  - It is ahead, but with an interval that includes zero, of {'; '.join(unsure)}.")
        if ahead:
            lines.append(f"  - It is ahead with an interval that excludes zero of {'; '.join(ahead)}.")
    above = [
        f"{bench.title(name)} ({summary.loc[(name, MAIN), 'mean']:.3f})"
        for name in bench.in_order()
        if groups[name] == "labelled" and summary.loc[(name, MAIN), "mean"] > summary.loc[(best, MAIN), "mean"]
    ]
    if above:
        lines.append(f"- Of the methods that see target labels, above the better of the two: {', '.join(above)}.")
    if ("oracle_weights", MAIN) in summary.index:
        lines.append(
            "- For scale: the same average of source ranks, with weights from the sources' true rank correlations with "
            f"the target, the same for all models, has {cell(summary.loc[('oracle_weights', MAIN)])}."
        )
    return "\n".join(lines)


def main_table(bench: Bench) -> str:
    summaries = {split: bench.summary(bench.metrics, split) for split in bench.splits}
    rows = []
    for name in bench.in_order():
        row = bench.methods.loc[name]
        title = f"**{row['title']}**" if row["group"] == "ours" else row["title"]
        cells = [cell(summaries[split].loc[(name, MAIN)]) for split in summaries]
        rows.append([title, GROUPS[row["group"]], row["looks_at"].replace(";", ","), *cells])
    heads = [f"{split} ({len(targets)})" for split, targets in bench.splits.items()]
    return table(["method", "kind", "looks at", *heads], rows)


def metric_table(bench: Bench, metrics: pd.DataFrame, split: str) -> str:
    summary = bench.summary(metrics, split)
    present = set(summary.index.get_level_values("method"))
    rows = [
        [bench.title(name), *(f"{summary.loc[(name, metric), 'mean']:.3f}" for metric in METRICS)]
        for name in bench.in_order()
        if name in present
    ]
    heads = [f"{title} {'↑' if HIGHER_IS_BETTER[metric] else '↓'}" for metric, title in METRICS.items()]
    return table(["method", *heads], rows)


def difference_table(bench: Bench, split: str) -> str:
    paired = bench.paired(split)
    rows = []
    for reference in bench.in_order():
        cells = []
        for method in OURS:
            if method == reference:
                cells += ["", ""]
                continue
            row = paired.loc[(method, reference, MAIN)]
            cells += [cell(row), f"{row['won']:.0f} / {row['tied']:.0f} / {row['lost']:.0f}"]
        rows.append([bench.title(reference), *cells])
    heads = [text for method in OURS for text in (f"{bench.title(method)} minus it", "won / tied / lost")]
    return table(["against", *heads], rows)


def _ablation(bench: Bench, variants: pd.DataFrame, base: str, names: Sequence[str]) -> str:
    """One row a variant: mean of both forms in each split, and the paired difference to the base."""
    rows = []
    for name in names:
        cells = []
        for method in OURS:
            both = variants[(variants["method"] == method) & variants["variant"].isin([base, name])]
            both = both.assign(method=both["variant"].map(lambda one: f"variant {one}"))
            for split in bench.splits:
                targets = bench.splits[split]
                mean = summarise(both, targets=targets, bootstrap=0).set_index(["method", "metric"])["mean"]
                cells.append(f"{mean.get((f'variant {name}', MAIN), np.nan):.3f}".replace("nan", ""))
            if name == base or not cells[-1]:  # without class names there is no fused score
                cells.append("")
                continue
            row = differences(
                both, [f"variant {name}"], targets=bench.splits["all"], bootstrap=bench.bootstrap
            ).set_index("metric")
            cells.append(cell(row.loc[MAIN]))
        rows.append([name or "as run", *cells])
    heads = []
    for method in OURS:
        heads += [*(f"{method}, {split}" for split in bench.splits), f"{method}: all, minus as run"]
    return table(["setting", *heads], rows)


def ablation_table(bench: Bench) -> str:
    """Settings after the conductance."""
    return _ablation(bench, bench.variants, "", list(dict.fromkeys(bench.variants["variant"])))


def conductance_tables(bench: Bench, folders: Sequence[Path]) -> str:
    """Settings of the conductance itself, each a run of its own on a part of the zoo."""
    parts = []
    for folder in folders:
        config = read_csv(folder / "evaluation" / "variant_metrics.csv")
        parts.append(config[config["variant"] == ""].assign(variant=folder.name.split("-", 1)[1]))
    together = pd.concat(parts, ignore_index=True)
    names = list(dict.fromkeys(together["variant"]))
    base = "base" if "base" in names else names[0]
    return _ablation(bench, together, base, [base, *(name for name in names if name != base)])


def cost_table(results: Path) -> str:
    """CPU seconds a model and a new target, as `benchmarks/measure_cost.py` measured them."""
    cost = pd.read_csv(results / "cost.csv")
    rows = [
        [
            row.tower,
            f"{row.conductance_s:.2f}",
            f"{row.accuracy_s:.2f}",
            f"{row.conductance_s / (row.accuracy_s / row.test_images):.0f}",
        ]
        for row in cost.itertuples()
    ]
    first = cost.iloc[0]
    heads = [f"conductance of {first.images:.0f} images, s", f"accuracy on {first.test_images:.0f} labelled images, s"]
    return table(["tower", *heads, "as many test images cost the same"], rows)


def provenance(results: Path) -> str:
    """How the conductance files came about."""
    found = [read_pair_attributes(path) for path in sorted((results / "conductance").glob("*/*.h5"))]
    outside = [one for one in found if len(str(one.get("identity") or "")) < 32]
    rules = sorted({str(one.get("quadrature")) for one in found})
    told = f"{len(found)} conductance files ({', '.join(rules)})."
    if outside:
        told += (
            f" {len(outside)} of them were computed ahead of the run by a script of the same definition and put in "
            "their place: the workflow's own conductance stage did not make them."
        )
    return told


def bench_summary(bench: Bench) -> pd.DataFrame:
    """method, split, metric, mean, ci_low, ci_high, uses_target_labels."""
    parts = []
    for split in bench.splits:
        found = bench.summary(bench.metrics, split).reset_index().assign(split=split)
        found["uses_target_labels"] = found["method"].map(bench.methods["uses_target_labels"])
        parts.append(found)
    columns = ["method", "split", "metric", "mean", "ci_low", "ci_high", "uses_target_labels"]
    return pd.concat(parts, ignore_index=True)[columns]


def write_results(results: Path, docs: Path, splits: Path, config: Mapping[str, object]) -> None:
    """Write both files."""
    bench = Bench(results, yaml.safe_load(splits.read_text(encoding="utf-8")))
    evaluation = config["evaluation"]
    used = evaluation["images"] or config["images"]["per_dataset"]
    settings = ", ".join(
        f"{block}.{key} {value}"
        for block in ("conductance", "alignment", "divergence", "ranking")
        for key, value in config[block].items()
        if block != "conductance" or key not in FREE_OPTIONS
    )
    others = sorted(path for path in results.parent.glob(f"{results.name}-*") if (path / "evaluation").is_dir())
    models = len(list((results / "conductance").iterdir()))
    parts = [
        "# Does it pick the right model?",
        "*Written by `benchmarks/write_results.py` from the outputs of the bench (`config/bench.yaml`; how its "
        "conductance files came about is said at the end); no figure on this page is typed by hand.*",
        first_paragraph(bench),
        "## NDCG@5 of every method",
        f"{models} models; each dataset in turn is the target, all others are sources; {used} images a dataset, mean "
        f"over {evaluation['draws']} draws of them. Higher is better. In brackets the 95 % interval from resampling "
        "the datasets. *choose*: the datasets on which settings may be chosen; *report*: those that only report.",
        main_table(bench),
        "Methods that see labels of the target are given as many labelled images as the method has unlabelled ones, "
        "drawn from the test images that the truth was measured on: a small advantage that they keep. The captions "
        "of ModelGPT and SWAB are the class names in the prompts of all datasets (their authors had a language model "
        "write them), and the feature that needs synonyms is left out.",
        "## Paired differences in NDCG@5, all datasets",
        "Positive: ours is better. Counted are the datasets won, tied and lost.",
        difference_table(bench, "all"),
        "### On the report datasets alone",
        difference_table(bench, "report"),
        "## All metrics, all datasets",
        metric_table(bench, bench.metrics, "all"),
        "### On the report datasets alone",
        metric_table(bench, bench.metrics, "report"),
        "## Leave one domain out",
        "All datasets of the target's domain are removed from the sources.",
        metric_table(bench, bench.domains, "all"),
        "## What each setting does",
        f"NDCG@5 of both forms under each change of one setting, over the first {evaluation['variant_draws']} draws. "
        "*K* is the number of images.",
        ablation_table(bench),
    ]
    if others:
        parts += [
            "### Settings of the conductance",
            "Each needs its own conductance, so these ran on the part of the zoo in `config/bench/models_part.tsv`, "
            "with one draw: compare them with each other only.",
            conductance_tables(bench, others),
        ]
    parts += [
        "## What it costs",
        f"CPU seconds a model and a new target, one core. The method needs {used} unlabelled images, forward and "
        f"backward at {config['conductance']['points']} points of the path, and no label; evaluating needs a labelled "
        "test set, forward once an image. With fewer test images than in the last column evaluating takes less "
        "computing than the method: what the method saves is the labelling. The sources' conductance is computed once.",
        cost_table(results),
        "## Settings of this run",
        settings + ".",
        provenance(results),
    ]
    (docs / "results").mkdir(parents=True, exist_ok=True)
    (docs / "results.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    write_csv(docs / "results" / "bench_summary.csv", bench_summary(bench))


def main() -> None:
    """Read the arguments, fill in the configuration's defaults, write."""
    from vlmrank.workflow.config import check_config, read_schema

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results/bench"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--splits", type=Path, default=Path("config/bench/splits.yaml"))
    parser.add_argument("--config", type=Path, default=Path("config/bench.yaml"))
    arguments = parser.parse_args()
    base, bench = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in (Path("config.yaml"), arguments.config))
    for key, value in bench.items():
        base[key] = {**base.get(key, {}), **value} if isinstance(value, dict) else value
    config = check_config(base, read_schema("schemas/config.schema.yaml"))
    write_results(arguments.results, arguments.docs, arguments.splits, config)


if __name__ == "__main__":
    main()
