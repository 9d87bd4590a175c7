"""What a few labels of the target are worth: chosen ones against none, random ones, ModelPicker's and CODA's.

    python benchmarks/labelling.py --bench results/bench --arrays results/ideas --zoo benchzoo

Each case is a task of the bench, all models or a random half of them, and 128 of its labelled images; the prior is the
calibrated answer of `vlmrank.answer`, learned from the other tasks. Labels come in the order in which each rule asks;
the regret of the model that it then takes is measured on the bench's truth, which rests on more images.

- chosen: `label_update.choose_images`, 24 at a time, and `update_draws`.
- random: images at random, the same update.
- model_picker: exponential weights from the prior's chances to be best, the image of the largest vote entropy (Karimi
  et al., AISTATS 2021).
- coda: a Dirichlet confusion matrix a model (`labelling.Labelling`), the image of the largest expected fall of entropy
  after each label.

Settings were chosen on the choosing tasks. Prints, and writes docs/results/labelling.csv: split, rule, labels,
quantity, value, ci_low, ci_high, cases. Quantities: regret; gain_over_none and gain_over_random (regret saved);
within_a_point (share of cases); labels_to_a_point (the least number of labels of those tried with a mean regret of at
most one point); loss_claimed, p_top5_claimed, top5 (what the answer claims of its pick after the labels, and how often
it was in the top five). Intervals resample whole groups of tasks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import softmax

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from calibration import bench_tasks
from idea_zoo import Zoo

from vlmrank.answer import label_update
from vlmrank.answer.labelling import Labelling, LabellingPrior
from vlmrank.answer.tables import settings_for
from vlmrank.answer.tasks import TOP, answer_tasks
from vlmrank.evaluation.scores import draw_halves

COUNTS = (8, 16, 24, 48, 96)
POOL, POINT = 128, 0.01
PICKER_RATE = 0.5  # what a right answer adds to the log of a model's weight, chosen on the choosing tasks
CODA_CONSENSUS = 40.0
COLUMNS = ["split", "rule", "labels", "quantity", "value", "ci_low", "ci_high", "cases"]


@dataclass(frozen=True)
class Case:
    """One task, some of the models, some of its labelled images."""

    task: str
    group: str
    logits: np.ndarray
    labels: np.ndarray
    accuracy: np.ndarray
    score: np.ndarray
    drawn: np.ndarray
    seed: int


@dataclass(frozen=True)
class Pick:
    """The model that is taken, and what is claimed of it where a rule claims anything."""

    model: int
    loss: float = np.nan
    p_top5: float = np.nan


Picks = dict[int, Pick]  # by the number of labels


def cases(zoo: Zoo, wanted: Sequence[int], answers: dict, halves: int, seed: int) -> Iterator[Case]:
    """The cases of each task, the whole zoo first."""
    count, generator = len(zoo.models), np.random.default_rng(seed)
    parts = [np.arange(count), *draw_halves(count, halves, seed=seed)] if halves else [np.arange(count)]
    for task in wanted:
        name, found = zoo.datasets[task], answers[task]
        logits = np.stack([zoo.model_logits(model, name, "test") for model in zoo.models]).astype(np.float32)
        labels = zoo.images[f"{name}/labels"]
        for models in parts:
            images = np.sort(generator.permutation(len(labels))[:POOL])
            part = logits[models][:, images]
            drawn = label_update.tighten(found.drawn[:, models], found.loss_factor)
            given = (labels[images], zoo.accuracy[models, task], found.score[models], drawn)
            yield Case(name, str(zoo.groups[task]), part, *given, int(generator.integers(1 << 31)))


def _setting(case: Case) -> tuple[np.ndarray, label_update.Committee]:
    models = label_update.shortlist(case.drawn)
    weight = label_update.chance_of_best(case.drawn)[models]
    level = float(case.drawn[:, models].mean())
    return models, label_update.committee(case.logits[models], weight + 1 / len(case.drawn), level)


def _taken(case: Case, models: np.ndarray, known: label_update.Committee, labels: dict[int, int]) -> Pick:
    after = label_update.update_draws(case.drawn, models, known, labels, seed=case.seed)
    pick = int(np.argmax(after.mean(axis=0)))
    above = (after > after[:, pick, None]).sum(axis=1)
    return Pick(pick, float((after.max(axis=1) - after[:, pick]).mean()), float((above < TOP).mean()))


def chosen(case: Case) -> Picks:
    """Ours, in batches of `label_update.IMAGES`."""
    models, known = _setting(case)
    labels: dict[int, int] = {}
    found, drawn = {}, case.drawn
    while len(labels) < COUNTS[-1]:
        asked = label_update.choose_images(drawn, models, known, taken=labels)
        if not asked:
            break
        for image in asked:
            labels[image] = int(case.labels[image])
            if len(labels) in COUNTS:
                found[len(labels)] = _taken(case, models, known, labels)
        drawn = label_update.update_draws(case.drawn, models, known, labels, seed=case.seed)
    last = found[max(found)] if found else _taken(case, models, known, labels)
    return {count: found.get(count, last) for count in COUNTS}


def random(case: Case) -> Picks:
    """Images at random, the same update."""
    models, known = _setting(case)
    order = np.random.default_rng(case.seed).permutation(len(case.labels))
    return {
        count: _taken(case, models, known, {int(k): int(case.labels[k]) for k in order[:count]}) for count in COUNTS
    }


def model_picker(case: Case) -> Picks:
    """Exponential weights; the image on which the weighted votes have the largest entropy."""
    models = label_update.shortlist(case.drawn)
    votes = case.logits[models].argmax(axis=2)
    weights = np.log(label_update.chance_of_best(case.drawn)[models] + 1 / len(case.drawn))
    one_hot = votes[:, :, None] == np.arange(case.logits.shape[2])
    open_, found = np.ones(len(case.labels), bool), {}
    for count in range(1, min(COUNTS[-1], len(case.labels)) + 1):
        shares = np.einsum("m,mkc->kc", softmax(weights), one_hot)
        surprise = -(shares * np.log(np.maximum(shares, 1e-12))).sum(axis=1)
        image = int(np.argmax(np.where(open_, surprise, -1.0)))
        open_[image] = False
        weights = weights + PICKER_RATE * (votes[:, image] == case.labels[image])
        if count in COUNTS:
            found[count] = Pick(int(models[np.argmax(weights)]))
    return found


def coda(case: Case) -> Picks:
    """Dirichlet confusion matrices, one image after the other, up to `label_update.IMAGES` (it takes long)."""
    models = label_update.shortlist(case.drawn)
    drawn = case.drawn[:, models]
    state = Labelling(
        case.logits[models],
        expected=drawn.mean(axis=0),
        deviation=float(drawn.std(axis=0).mean()),
        weight=label_update.chance_of_best(case.drawn)[models] + 1 / len(case.drawn),
        prior=LabellingPrior(consensus=CODA_CONSENSUS),
    )
    found = {}
    for count in range(1, label_update.IMAGES + 1):
        image = state.ask()
        if image is None:
            break
        state.add(image, int(case.labels[image]))
        if count in COUNTS:
            found[count] = Pick(int(models[np.argmax(state.posterior().mean)]))
    return found


RULES: dict[str, Callable[[Case], Picks]] = {f.__name__: f for f in (chosen, random, model_picker, coda)}


def regrets(found: Iterator[Case], rules: Sequence[str]) -> pd.DataFrame:
    """One row a case, rule and number of labels: regret, the loss and the chance of the top five as claimed, and if it
    was in it; rule `none` has 0 labels.
    """
    rows = []
    for number, case in enumerate(found):
        best = case.accuracy.max()
        rows.append((number, case.group, "none", 0, best - case.accuracy[int(np.argmax(case.score))], *[np.nan] * 3))
        for rule in rules:
            for count, pick in RULES[rule](case).items():
                own = case.accuracy[pick.model]
                hit = float((case.accuracy > own).sum() < TOP)
                rows.append((number, case.group, rule, count, best - own, pick.loss, pick.p_top5, hit))
    return pd.DataFrame(rows, columns=["case", "group", "rule", "labels", "regret", "loss", "p_top5", "hit"])


def _row(values: pd.Series, group: pd.Series, bootstrap: int, seed: int) -> tuple[float, float, float, int]:
    """Mean with its 95 % interval by resampling groups of tasks, and the number of cases."""
    sums = values.groupby(group).agg(["sum", "count"]).to_numpy(np.float64)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(bootstrap, len(sums)))
    total = sums[drawn].sum(axis=1)
    return float(values.mean()), *map(float, np.quantile(total[:, 0] / total[:, 1], [0.025, 0.975])), len(values)


def summary(table: pd.DataFrame, split: str, bootstrap: int, seed: int) -> pd.DataFrame:
    """The rows of docs/results/labelling.csv of one split."""
    wide = table.pivot(index="case", columns=["rule", "labels"], values="regret")
    group = table.drop_duplicates("case").set_index("case")["group"]
    none, rows = wide[("none", 0)], []
    for rule, count in wide.columns:
        own = wide[(rule, count)].dropna()
        compared = {"regret": own, "within_a_point": (own <= POINT + 1e-9).astype(float)}
        if rule != "none":
            compared["gain_over_none"] = none - own
        if rule not in ("none", "random") and ("random", count) in wide:
            compared["gain_over_random"] = wide[("random", count)] - own
        for quantity, values in compared.items():
            known = values.dropna()
            rows.append((split, rule, count, quantity, *_row(known, group[known.index], bootstrap, seed)))
    for (rule, count), part in table.dropna(subset=["loss"]).groupby(["rule", "labels"], sort=False):
        for quantity in ("loss", "p_top5", "hit"):
            found = _row(part[quantity], part["group"], bootstrap, seed)
            rows.append(
                (split, rule, count, {"loss": "loss_claimed", "p_top5": "p_top5_claimed"}.get(quantity, "top5"), *found)
            )
    for rule in dict.fromkeys(rule for rule, _ in wide.columns if rule != "none"):
        tried = [0, *(count for one, count in wide.columns if one == rule)]
        means = [none.mean(), *(wide[(rule, count)].mean() for count in tried[1:])]
        enough = next((count for count, mean in zip(tried, means, strict=True) if mean <= POINT), np.nan)
        rows.append((split, rule, -1, "labels_to_a_point", enough, np.nan, np.nan, len(wide)))
    return pd.DataFrame(rows, columns=COLUMNS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, default=Path("results/bench"), help="results of the bench's workflow")
    parser.add_argument("--arrays", type=Path, default=Path("results/ideas"), help="of benchmarks/idea_arrays.py")
    parser.add_argument("--zoo", type=Path, default=Path("benchzoo"), help="the bench, unpacked")
    parser.add_argument("--sheets", type=Path, default=Path("config/bench"), help="datasets.tsv and splits.yaml")
    parser.add_argument("--splits", nargs="+", default=["choose", "report"], choices=["choose", "report"])
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=list(RULES))
    parser.add_argument("--halves", type=int, default=2, help="random halves of the models beside the whole zoo")
    parser.add_argument("--draws", type=int, default=1000, help="draws behind the prior")
    parser.add_argument("--bootstrap", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/results/labelling.csv"))
    options = parser.parse_args()
    tasks, splits = bench_tasks(options.bench, options.sheets)
    zoo = Zoo(options.arrays, options.zoo, kinds=["forward"])
    how = settings_for({"score": "auto", "bootstrap": options.draws}, options.seed)
    rows = []
    for split in options.splits:
        answers = answer_tasks(tasks, how, wanted=splits[split])
        found = cases(zoo, splits[split], answers, options.halves, options.seed)
        part = summary(regrets(found, options.rules), split, options.bootstrap, options.seed)
        print(part.to_string(index=False, float_format="%.4f"), flush=True)
        rows.append(part)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    pd.concat(rows).round(6).to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
