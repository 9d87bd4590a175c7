"""Compare all methods on the bench from the arrays of `benchmarks/idea_arrays.py`, without a run of the workflow.

    python benchmarks/idea_methods.py [--arrays results/ideas] [--bench benchzoo] [--out results/ideas/evaluation]
        [--summary docs/results/bench_summary.csv]

Predictions are of all target images; conductance is of 16 of them at 4 points of the path. Every method that needs no
labelled image of the target takes part; SWAB's class names are embedded by the sentence encoder that it uses. Printed
are NDCG@5 and regret@1 on both splits with intervals that resample whole domains, what the shipped method gains over
every other one on the report tasks, its ratio to SWAB's, the accuracy of the best five models' averaged predictions on
labelled images beside the pick's, and the constants of `vlmrank/answer/prior.py` (from the choosing tasks alone).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy.special import softmax

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from idea_zoo import Zoo

from vlmrank.answer.calibration import task_correlation
from vlmrank.baselines import SHIPPED, Evidence, all_methods, describe_methods
from vlmrank.baselines.statistics import unlabelled_statistics
from vlmrank.evaluation.class_similarity import relate_by_sentences
from vlmrank.evaluation.evaluate import evaluate_methods, mean_with_interval
from vlmrank.evaluation.scores import Scores, write_scores
from vlmrank.predictions import prediction_statistics

SPLITS = ("choose", "report")


def gather(zoo: Zoo) -> Evidence:
    """What the methods may look at."""
    models, datasets = len(zoo.models), len(zoo.datasets)
    statistics: dict[str, np.ndarray] = {}
    logits = []
    for index, name in enumerate(zoo.datasets):
        values = zoo.logits(index)
        ids = tuple(map(str, range(values.shape[1])))
        logits.append([[(one, ids)] for one in values])
        for row, model in enumerate(zoo.models):
            text = zoo.forward(model)[f"{name}/text"].astype(np.float64)
            found = unlabelled_statistics(values[row], zoo.embedding(model, name, "target"), text)
            for key, value in (prediction_statistics(values[row]) | found).items():
                statistics.setdefault(key, np.full((1, models, datasets), np.nan))[0, row, index] = value
    sheets = [yaml.safe_load((zoo.bench / "datasets" / d / "dataset.yaml").read_text()) for d in zoo.datasets]
    cards = [
        {"dataset": name, "classes": [str(one) for one in sheet["classes"]], "templates": sheet["templates"]}
        for name, sheet in zip(zoo.datasets, sheets, strict=True)
    ]
    table = pd.read_csv(zoo.bench / "datasets.tsv", sep="\t").set_index("dataset").loc[zoo.datasets]
    return Evidence(
        models=zoo.models,
        datasets=zoo.datasets,
        accuracy=zoo.accuracy,
        images=np.tile(table["truth_images"].to_numpy(np.float64), (models, 1)),
        domain=list(table["domain"]),
        group=list(zoo.groups),
        statistics=statistics,
        divergence={"dcd": zoo.divergence()[None], "embedding": zoo.divergence("embedding")[None]},
        logits={"": logits},
        class_names=[card["classes"] for card in cards],
        class_accuracy=zoo.class_accuracy,
        class_similarity=relate_by_sentences(cards).blocks(),
    )


def best_five(zoo: Zoo, score: np.ndarray, target: int) -> tuple[float, float, float]:
    """Accuracy on labelled images of the averaged predictions of the best five, of the pick, and of the best model."""
    name = zoo.datasets[target]
    p = softmax(np.stack([zoo.model_logits(model, name, "test") for model in zoo.models]), axis=2)
    labels, first = zoo.images[f"{name}/labels"], np.argsort(-np.nan_to_num(score, nan=-np.inf))[:5]
    single = (p.argmax(axis=2) == labels).mean(axis=1)
    together = (p[first].mean(axis=0).argmax(axis=1) == labels).mean()
    return float(together), float(single[first[0]]), float(single[np.argmax(zoo.accuracy[:, target])])


def summary_of(metrics: pd.DataFrame, zoos: dict[str, Zoo], labels: dict[str, bool]) -> pd.DataFrame:
    """Means and intervals of all metrics in the columns of docs/results/bench_summary.csv."""
    rows = []
    for split, zoo in zoos.items():
        names = [zoo.datasets[target] for target in zoo.targets]
        for metric in dict.fromkeys(metrics["metric"]):
            values = metrics[metrics["metric"] == metric].pivot(index="target", columns="method", values="value")
            for method, column in values.loc[names].items():
                found = mean_with_interval(column.to_numpy(), clusters=zoo.clusters, bootstrap=4000)
                rows.append([method, split, metric, *found, labels[method]])
    columns = ["method", "split", "metric", "mean", "ci_low", "ci_high", "uses_target_labels"]
    return pd.DataFrame(rows, columns=columns)


def print_prior(values: pd.DataFrame, zoo: Zoo, score: np.ndarray) -> None:
    """The constants of `vlmrank/answer/prior.py`: gains [method] over the shipped method, and its noise."""
    means = values.mean(axis=0).sort_values(ascending=False)
    found = [task_correlation(score[task], zoo.accuracy[:, task]) for task in zoo.targets]
    a = np.arctanh(np.clip(found, -0.99, 0.99))
    print(f'DEFAULT = "{SHIPPED}"\nGAINS: Mapping[str, float] = {{')
    for name, mean in means.items():
        print(f'    "{name}": {mean - means[SHIPPED]:.3f},')
    print(f"}}\nNOISE = Noise(mean={a.mean():.2f}, spread={a.std():.2f}, tasks=5.0)")


def main() -> None:
    """Evaluate, print, write scores.h5, metrics.csv, methods.csv and summary.csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arrays", type=Path, default=Path("results/ideas"))
    parser.add_argument("--bench", type=Path, default=Path("benchzoo"))
    parser.add_argument("--out", type=Path, default=Path("results/ideas/evaluation"))
    parser.add_argument("--splits", nargs="+", default=SPLITS, choices=SPLITS)
    parser.add_argument("--summary", type=Path, help="table of all metrics to write besides")
    options = parser.parse_args()
    zoos = {split: Zoo(options.arrays, options.bench, split, kinds=["logit-target"]) for split in options.splits}
    zoo = next(iter(zoos.values()))
    methods = [method for method in all_methods() if method.group != "labelled"]
    evidence = gather(zoo)
    found = evaluate_methods(evidence, methods)
    options.out.mkdir(parents=True, exist_ok=True)
    scores = Scores(evidence.models, evidence.datasets, evidence.accuracy, found.scores)
    write_scores(options.out / "scores.h5", scores)  # for benchmarks/calibration.py --bench
    describe_methods(methods).to_csv(options.out / "methods.csv", index=False)
    titles, groups = ({one.name: getattr(one, key) for one in methods} for key in ("title", "group"))
    kept = [zoo.datasets[target] for one in zoos.values() for target in one.targets]
    found.metrics[found.metrics["target"].isin(kept)].to_csv(options.out / "metrics.csv", index=False)
    if options.summary:
        labels = describe_methods(methods).set_index("method")["uses_target_labels"].to_dict()
        summary_of(found.metrics, zoos, labels).to_csv(options.summary, index=False, float_format="%.4f")
    wide = {
        m: found.metrics[found.metrics["metric"] == m].pivot(index="target", columns="method", values="value")
        for m in ("ndcg_at_5", "regret_at_1")
    }
    rows = []
    for split, one in zoos.items():
        names = [zoo.datasets[target] for target in one.targets]
        for metric, table in wide.items():
            values = table.loc[names]
            for method in values:
                mean, low, high = mean_with_interval(values[method].to_numpy(), clusters=one.clusters, bootstrap=4000)
                gain = (values[SHIPPED] - values[method]).to_numpy() * (-1 if metric.startswith("regret") else 1)
                ahead = mean_with_interval(gain, clusters=one.clusters, bootstrap=4000)
                rows.append([method, titles[method], groups[method], split, metric, mean, low, high, *ahead])
    columns = ["method", "title", "group", "split", "metric", "mean", "ci_low", "ci_high"]
    summary = pd.DataFrame(rows, columns=[*columns, "shipped_ahead", "ahead_low", "ahead_high"])
    summary.to_csv(options.out / "summary.csv", index=False, float_format="%.4f")
    shown = summary[summary["metric"] == "ndcg_at_5"].sort_values(["split", "mean"], ascending=[True, False])
    print(shown.drop(columns=["title", "metric"]).round(3).to_string(index=False))
    for split, one in zoos.items():
        names = [zoo.datasets[target] for target in one.targets]
        first, second = (wide["ndcg_at_5"].loc[names, name].to_numpy() for name in ("vlmrank", "swab"))
        times = np.random.default_rng(0).integers(0, one.clusters.max() + 1, (4000, one.clusters.max() + 1))
        parts = np.stack([[v[one.clusters == c].sum() for c in range(one.clusters.max() + 1)] for v in (first, second)])
        drawn = parts[0][times].sum(axis=1) / parts[1][times].sum(axis=1)
        low, high = np.quantile(drawn, [0.025, 0.975])
        print(
            f"{split}: vlmrank / SWAB, ratio of mean NDCG@5: {first.mean() / second.mean():.3f} [{low:.3f}, {high:.3f}]"
        )
        three = np.array([best_five(zoo, found.scores[SHIPPED][0, :, target], target) for target in one.targets]).mean(
            axis=0
        )
        print(f"{split}: the best five together {three[0]:.3f}, the pick {three[1]:.3f}, the best model {three[2]:.3f}")
    if "choose" in zoos:
        one = zoos["choose"]
        values = wide["ndcg_at_5"].loc[[zoo.datasets[target] for target in one.targets]]
        free = [name for name in values if groups[name] != "control"]
        print_prior(values[free].dropna(axis=1), one, found.scores[SHIPPED][0].T)


if __name__ == "__main__":
    main()
