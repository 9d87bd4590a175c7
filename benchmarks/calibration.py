"""How far the answer's claims come true: chance of the top five, rank intervals, expected loss, by zoo.

    python benchmarks/calibration.py --reference ../shared/reference --bench results/bench --demo results

prints a table and writes docs/results/calibration.csv. Each case is a known task, answered from the zoo's other known
tasks, for the whole zoo or for a random half of its models (the scores stay as they were given to the whole zoo).
`ece_top5_first_pick_if_true` is the calibration error that the same claims would show on the same number of tasks if
all were true: with few tasks it is not 0. `--prior` prints what `vlmrank/answer/prior.py` holds, from the bench's
choosing tasks alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from vlmrank.accuracy.formats import read_table
from vlmrank.answer.calibration import calibration_error, task_correlation
from vlmrank.answer.check import statements
from vlmrank.answer.tables import settings_for, tasks_of
from vlmrank.answer.tasks import Settings, Tasks, answer_tasks, method_quality
from vlmrank.baselines import all_methods
from vlmrank.baselines.base import Evidence
from vlmrank.evaluation.evaluate import evaluate_methods
from vlmrank.evaluation.evidence import table_of
from vlmrank.evaluation.scores import Scores, draw_halves, read_scores

COLUMNS = ["zoo", "split", "quantity", "value", "ci_low", "ci_high", "cases"]
LEVEL = 0.9


def published_scores(path: Path, layout: str) -> Scores:
    """Scores of every method that accuracies alone allow, on a published table."""
    table = read_table(path, layout)
    models, datasets = sorted(table["model"].unique()), sorted(table["dataset"].unique())
    accuracy = table_of(table, models, datasets, "acc1")
    methods = [one for one in all_methods() if one.needs_no_labels and one.group != "control"]
    found = evaluate_methods(Evidence(models=models, datasets=datasets, accuracy=accuracy), methods)
    return Scores(models, datasets, accuracy, found.scores)


def subset(tasks: Tasks, models: np.ndarray) -> Tasks:
    """The same tasks with some of the models."""
    return Tasks(
        {name: values[:, models] for name, values in tasks.scores.items()}, tasks.accuracy[models], tasks.siblings
    )


def cases(tasks: Tasks, how: Settings, wanted: Sequence[int], halves: int, seed: int) -> pd.DataFrame:
    """Claims and truth of every case: `statements` with a column `half` (0: the whole zoo), and the answer's regret."""
    count = len(tasks.accuracy)
    drawn = [np.arange(count), *draw_halves(count, halves, seed=seed)]
    parts = []
    for half, models in enumerate(drawn):
        part = subset(tasks, models)
        found = statements(answer_tasks(part, how, wanted=wanted), part.accuracy)
        parts.append(found.assign(half=half))
    return pd.concat(parts, ignore_index=True)


def error_if_true(first: pd.DataFrame, draws: int = 200, seed: int = 0) -> float:
    """Mean calibration error of claims that are true, the cases of one task hanging together (one draw a task)."""
    tasks, place = np.unique(first["task"], return_inverse=True)
    claimed, generator = first["p_top5"].to_numpy(), np.random.default_rng(seed)
    drawn = generator.random((draws, len(tasks)))[:, place] < claimed
    return float(np.mean([calibration_error(claimed, seen) for seen in drawn]))


def quantities(table: pd.DataFrame) -> dict[str, tuple[float, int]]:
    """Quantity -> value and number of cases (tasks times zoos)."""
    first = table[table["first"]]
    claimed, seen = table["p_top5"].to_numpy(), table["in_top5"].to_numpy()
    number = len(first)
    loss = first.dropna(subset=["loss_claimed", "loss_seen"])
    return {
        "ece_top5": (calibration_error(claimed, seen), number),
        "ece_top5_first_pick": (calibration_error(first["p_top5"], first["in_top5"]), number),
        "p_top5_first_pick_claimed": (float(first["p_top5"].mean()), number),
        "p_top5_first_pick_seen": (float(first["in_top5"].mean()), number),
        "coverage_rank_90": (float(table["covered"].mean()), number),
        "coverage_rank_90_first_pick": (float(first["covered"].mean()), number),
        "expected_loss_claimed": (float(loss["loss_claimed"].mean()), len(loss)),
        "expected_loss_seen": (float(loss["loss_seen"].mean()), len(loss)),
    }


def with_intervals(table: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, tuple[float, float, float, int]]:
    """Each quantity with its 95 % interval by resampling tasks."""
    tasks = dict(iter(table.groupby("task")))
    names, generator = list(tasks), np.random.default_rng(seed)
    drawn = []
    for _ in range(bootstrap):
        chosen = generator.integers(len(names), size=len(names))
        found = quantities(pd.concat([tasks[names[index]] for index in chosen]))
        drawn.append([value for value, _ in found.values()])
    limits = np.quantile(np.array(drawn), [0.025, 0.975], axis=0).T
    return {
        name: (value, *map(float, bounds), count)
        for (name, (value, count)), bounds in zip(quantities(table).items(), limits, strict=True)
    }


def hindsight(tasks: Tasks, how: Settings, wanted: Sequence[int]) -> dict[str, float]:
    """NDCG@5 of the answers, of the default and of the best single method seen afterwards, on the whole zoo."""
    answers, quality = answer_tasks(tasks, how, wanted=wanted), method_quality(tasks)
    own = [quality[answers[task].choice.method][task] for task in wanted if answers[task].pick >= 0]
    single = {name: np.mean(values[list(wanted)]) for name, values in quality.items()}
    single = {name: value for name, value in single.items() if np.isfinite(value)}
    best = max(single, key=single.get)
    return {"ndcg_answer": float(np.mean(own)), "ndcg_best_in_hindsight": float(single[best])}


def print_prior(tasks: Tasks, chosen: Sequence[int]) -> None:
    """Print the constants of `vlmrank/answer/prior.py`."""
    quality = {name: values[list(chosen)] for name, values in method_quality(tasks).items()}
    quality = {name: values for name, values in quality.items() if np.isfinite(values).all()}
    means = {name: float(values.mean()) for name, values in quality.items()}
    default = max(means, key=means.get)
    found = [task_correlation(tasks.scores[default][task], tasks.accuracy[:, task]) for task in chosen]
    a = np.arctanh(np.clip(found, -0.99, 0.99))
    print(f'DEFAULT = "{default}"')
    print("GAINS: Mapping[str, float] = {")
    for name in sorted(means, key=lambda name: -means[name]):
        print(f'    "{name}": {means[name] - means[default]:.3f},')
    print("}")
    print(f"NOISE = Noise(mean={a.mean():.2f}, spread={a.std():.2f}, tasks=5.0)")


def bench_tasks(results: Path, sheets: Path) -> tuple[Tasks, Mapping[str, list[int]]]:
    """The bench's tasks from the results of its workflow, and the indices of each split."""
    scores = read_scores(results / "evaluation" / "scores.h5")
    groups = pd.read_csv(sheets / "datasets.tsv", sep="\t").set_index("dataset")["group"].dropna().to_dict()
    splits = yaml.safe_load((sheets / "splits.yaml").read_text(encoding="utf-8"))
    place = {name: index for index, name in enumerate(scores.datasets)}
    wanted = {split: [place[name] for name in splits[split] if name in place] for split in ("choose", "report")}
    return tasks_of(scores, all_methods(), groups), wanted


def zoos(arguments: argparse.Namespace) -> list[tuple[str, str, Tasks, list[int]]]:
    """Zoo, split, tasks and the tasks to be answered."""
    found = []
    if arguments.demo and (arguments.demo / "evaluation" / "scores.h5").exists():
        tasks = tasks_of(read_scores(arguments.demo / "evaluation" / "scores.h5"), all_methods(), {})
        found.append(("demo", "all", tasks, []))
    if arguments.bench and (arguments.bench / "evaluation" / "scores.h5").exists():
        tasks, splits = bench_tasks(arguments.bench, arguments.sheets)
        found += [("bench", split, tasks, wanted) for split, wanted in splits.items()]
    for zoo, file in (("lovm", "lovm_eval_table.csv"), ("openclip", "openclip_results.csv")):
        path = arguments.reference / file
        if path.exists():
            found.append((zoo, "all", tasks_of(published_scores(path, zoo), all_methods(), {}), []))
    return [(zoo, split, tasks, wanted or known_tasks(tasks)) for zoo, split, tasks, wanted in found]


def known_tasks(tasks: Tasks) -> list[int]:
    """Tasks of which at least three accuracies are known."""
    return np.flatnonzero(np.isfinite(tasks.accuracy).sum(axis=0) >= 3).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--reference", type=Path, default=Path("../shared/reference"), help="folder of published tables"
    )
    parser.add_argument("--bench", type=Path, default=Path("results/bench"), help="results of the bench's workflow")
    parser.add_argument("--sheets", type=Path, default=Path("config/bench"), help="datasets.tsv and splits.yaml")
    parser.add_argument("--demo", type=Path, default=Path("results"), help="results of the demo")
    parser.add_argument("--halves", type=int, default=22, help="random halves of each zoo's models")
    parser.add_argument("--draws", type=int, default=1000, help="draws behind each claim")
    parser.add_argument("--bootstrap", type=int, default=300, help="resamples of the tasks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--prior", action="store_true", help="print the prior from the bench's choosing tasks, and stop"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/results/calibration.csv"))
    arguments = parser.parse_args()
    if arguments.prior:
        tasks, splits = bench_tasks(arguments.bench, arguments.sheets)
        print_prior(tasks, splits["choose"])
        return
    how = settings_for({"score": "auto", "bootstrap": arguments.draws}, arguments.seed)
    rows = []
    answered: dict[str, pd.DataFrame] = {}  # by zoo: the splits of one are answered from the same tasks
    for zoo, split, tasks, wanted in zoos(arguments):
        if zoo not in answered:
            answered[zoo] = cases(tasks, how, known_tasks(tasks), arguments.halves, arguments.seed)
        table = answered[zoo][answered[zoo]["task"].isin(wanted)]
        for name, (value, low, high, count) in with_intervals(table, arguments.bootstrap, arguments.seed).items():
            rows.append((zoo, split, name, value, low, high, count))
        expected = {"ece_top5_first_pick_if_true": error_if_true(table[table["first"]], seed=arguments.seed)}
        for name, value in (expected | hindsight(tasks, how, wanted)).items():
            rows.append((zoo, split, name, value, np.nan, np.nan, len(wanted)))
        print(pd.DataFrame(rows, columns=COLUMNS).query("zoo == @zoo and split == @split").to_string(index=False))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=COLUMNS).round(6).to_csv(arguments.out, index=False)


if __name__ == "__main__":
    main()
