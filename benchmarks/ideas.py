"""Try ideas for a better score on the bench's choosing tasks and write docs/results/ideas.csv.

    python benchmarks/ideas.py [--arrays results/ideas] [--bench benchzoo] [--page docs/choices.md]

`benchmarks/idea_arrays.py` computes the arrays. Every form is compared with a reference, and where conductance is in it
also with the same thing from the last embedding in place of conductance (rows that end in `against the embedding`). A
positive difference is better; it is paired over the targets, with a 95 % interval that resamples whole domains. A
target's siblings are never its sources. The ideas' letters: a what is attributed, b what is compared, c right and
wrong, d which sources, e across models, f how it joins with predictions.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from idea_forms import Inside, by_probability, interpolated, low_rank
from idea_zoo import Zoo

from vlmrank.evaluation.evaluate import mean_with_interval
from vlmrank.metrics import ndcg_at_k_score, regret_at_k_error, weighted_tau_score
from vlmrank.predictions import committee_agreement
from vlmrank.ranking import average_ranks, fuse_scores, source_weights

COMMAND = "python benchmarks/ideas.py"
METRICS = {"ndcg_at_5": ndcg_at_k_score, "weighted_tau": weighted_tau_score, "regret_at_1": regret_at_k_error}
SHIPPED = {"kappa": 0.6, "shrink": 1.0}  # of the source weights; the rank of the subspaces is 8
BEFORE = {"kappa": 0.8, "shrink": 0.5}  # with the rank 4
MARKS = ("<!-- printed by benchmarks/ideas.py -->", "<!-- end -->")
SCALARS = ("centred", "margin", "logodds", "entropy")
Score = Callable[[int], np.ndarray]


class Table:
    """Collects rows; a form is compared with forms of the same idea that were added before."""

    def __init__(self) -> None:
        self.rows, self.values = [], {}

    def add(self, zoo: Zoo, idea: str, form: str, score: Score, reference: str = "", embedding: str = "") -> None:
        """Score every target; rows against the reference, and against the form that has embeddings."""
        started = time.perf_counter()
        found = {name: [] for name in METRICS}
        for target in zoo.targets:
            values, truth = np.asarray(score(target), np.float64), zoo.accuracy[:, target]
            for name, metric in METRICS.items():
                found[name].append(metric(truth=truth, score=values))
        seconds = round(time.perf_counter() - started, 1)
        self.values[idea, form] = {name: np.array(values) for name, values in found.items()}
        self._rows(zoo, (idea, form), form, reference, seconds)
        if embedding:
            self._rows(zoo, (idea, form), f"{form}, against the embedding", embedding, seconds)

    def _rows(self, zoo: Zoo, key: tuple[str, str], title: str, other: str, seconds: float) -> None:
        for name, values in self.values[key].items():
            difference = (np.nan, np.nan, np.nan)
            if other:
                gain = (-1.0 if name.startswith("regret") else 1.0) * (values - self.values[key[0], other][name])
                difference = mean_with_interval(gain, clusters=zoo.clusters, bootstrap=4000)
            self.rows.append([key[0], title, name, values.mean(), *difference, seconds, COMMAND])
            if name == "ndcg_at_5":
                mean, low, high = difference
                print(f"{key[0]} | {title} | {values.mean():.3f} | {mean:+.3f} [{low:+.3f}, {high:+.3f}]", flush=True)

    def write(self, path: Path) -> pd.DataFrame:
        """One row a form and metric; the table."""
        columns = ["idea", "form", "metric", "mean", "difference", "ci_low", "ci_high", "seconds", "command"]
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame(self.rows, columns=columns)
        table.to_csv(path, index=False, float_format="%.4g")
        return table


def write_page(table: pd.DataFrame, page: Path) -> None:
    """Put the NDCG@5 of all forms between the marks of a page."""
    lines = []
    for idea, rows in table[table["metric"] == "ndcg_at_5"].groupby("idea", sort=True):
        lines += ["", f"**{idea}**", "", "| form | NDCG@5 | difference |", "|---|---|---|"]
        for row in rows.itertuples():
            interval = f"{row.difference:+.3f} [{row.ci_low:+.3f}, {row.ci_high:+.3f}]"
            lines.append(f"| {row.form} | {row.mean:.3f} | {interval if np.isfinite(row.difference) else ''} |")
    before, _, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    page.write_text(f"{before}{MARKS[0]}\n" + "\n".join(lines) + f"\n{MARKS[1]}{after}", encoding="utf-8")


def weighted(zoo: Zoo, divergence: np.ndarray, **options: float) -> Score:
    """Percentile ranks on the sources, weighted by a divergence [M, T, T]."""

    def score(target: int) -> np.ndarray:
        sources = zoo.sources(target)
        return (source_weights(divergence[:, sources, target], **options) * zoo.ranks[:, sources]).sum(axis=1)

    return score


def average(zoo: Zoo) -> Score:
    """The average rank."""
    return lambda target: average_ranks(zoo.accuracy[:, zoo.sources(target)])


def agreement(zoo: Zoo, prior: Score, **options: float) -> Score:
    """Agreement with a committee whose votes rise with a prior score."""
    return lambda target: committee_agreement(list(zoo.logits(target)), prior(target), **options).mean(axis=1)


def fused(first: Score, second: Score, fuse: float) -> Score:
    """Both standardised, the second `fuse` times."""
    return lambda target: fuse_scores(first(target), second(target), fuse)


def which_sources(zoo: Zoo, table: Table) -> None:
    """d: sharper weights, common weights, bigger subspaces, more source images."""
    idea = "d which sources"
    settings = {
        "rank 4, kappa 0.8, shrink 0.5": (4, BEFORE),
        "rank 4, kappa 0.4, shrink 0.5": (4, {"kappa": 0.4, "shrink": 0.5}),
        "rank 4, kappa 0.6, shrink 1": (4, SHIPPED),
        "rank 8, kappa 0.8, shrink 0.5": (8, BEFORE),
        "rank 8, kappa 0.3, shrink 1": (8, {"kappa": 0.3, "shrink": 1.0}),
        "rank 8, kappa 0.6, shrink 1": (8, SHIPPED),
    }
    first = next(iter(settings))
    table.add(zoo, idea, "average rank", average(zoo))
    for what in ("embedding", "attributed", "logit-target"):
        for name, (rank, options) in settings.items():
            title = {"embedding": "embedding, ", "attributed": "embedding times text, "}.get(what, "") + name
            score = weighted(zoo, zoo.divergence(what, rank), **options)
            inside = what == "logit-target"
            before = first if inside and name != first else "average rank"
            table.add(zoo, idea, title, score, before, f"embedding, {name}" if inside else "")
    score = weighted(zoo, zoo.divergence("embedding of all images", 8), **SHIPPED)
    table.add(zoo, idea, "embedding of all images, rank 8, kappa 0.6, shrink 1", score, "average rank")
    score = weighted(zoo, zoo.divergence("conductance of 32 images", 8), **SHIPPED)
    other = "rank 8, kappa 0.6, shrink 1"
    table.add(zoo, idea, "32 source images, rank 8, kappa 0.6, shrink 1", score, other, f"embedding, {other}")


def across_models(zoo: Zoo, table: Table) -> None:
    """e: what is known of all models on all sources, with the divergences as side information."""
    idea = "e across models"
    table.add(zoo, idea, "weighted ranks", weighted(zoo, zoo.divergence(), **SHIPPED))
    for title, form in (("Gaussian process over datasets", interpolated), ("low rank", low_rank)):
        table.add(zoo, idea, f"{title}, embedding", form(zoo, zoo.divergence("embedding")), "weighted ranks")
        score = form(zoo, zoo.divergence())
        table.add(zoo, idea, title, score, "weighted ranks", f"{title}, embedding")


def with_predictions(zoo: Zoo, table: Table) -> None:
    """f: how predictions are read, and what conductance adds to them."""
    idea, base = "f with predictions", "agreement"
    prior = {
        "conductance": weighted(zoo, zoo.divergence(), **SHIPPED),
        "embedding": weighted(zoo, zoo.divergence("embedding"), **SHIPPED),
    }
    plain = agreement(zoo, average(zoo))
    table.add(zoo, idea, "probabilities, not balanced", lambda target: by_probability(zoo, target))
    for title, options in (("not balanced", {"balance": 0.0}), ("exactly balanced", {"balance": np.inf})):
        table.add(
            zoo, idea, f"agreement, {title}", agreement(zoo, average(zoo), **options), "probabilities, not balanced"
        )
    table.add(zoo, idea, base, plain, "probabilities, not balanced")
    table.add(zoo, idea, "average rank + 2 x agreement", fused(average(zoo), plain, 2.0), base)
    for what in ("embedding", "conductance"):
        other = {"conductance": "embedding"}.get(what, "")
        for title, score in (
            ("votes by ranks weighted by", agreement(zoo, prior[what])),
            ("2 x agreement + ranks weighted by", fused(prior[what], plain, 2.0)),
        ):
            table.add(zoo, idea, f"{title} {what}", score, base, f"{title} {other}" if other else "")


def from_inside(zoo: Zoo, table: Table) -> None:
    """b and c: labelled source images."""
    found = {what: Inside(zoo, what) for what in ("embedding", "conductance")}
    for idea, names in (
        ("b what is compared", [name for name in found["embedding"].found if "nearest" in name]),
        ("c right and wrong", ["ridge", "difference of means"]),
    ):
        table.add(zoo, idea, "weighted ranks", weighted(zoo, zoo.divergence(), **SHIPPED))
        plain = agreement(zoo, average(zoo))
        table.add(zoo, idea, "agreement", plain)
        for name in names:
            for what, inside in found.items():
                other = f"{name}, embedding" if what == "conductance" else ""
                table.add(zoo, idea, f"{name}, {what}", inside.score(name), "weighted ranks", other)
            both = fused(found["conductance"].score(name), plain, 4.0)
            table.add(zoo, idea, f"4 x agreement + {name}, conductance", both, "agreement")


def what_is_attributed(arrays: Path, bench: Path, table: Table) -> None:
    """a: other scalars than the pseudo-label's logit, on a part of the zoo."""
    there = [kind for kind in SCALARS if list((arrays / f"{kind}-target").glob("*.npz"))]
    if not there:
        return
    zoo, idea = Zoo(arrays, bench, kinds=[f"{kind}-target" for kind in there]), "a what is attributed"
    table.add(zoo, idea, f"embedding ({len(zoo.models)} models)", weighted(zoo, zoo.divergence("embedding"), **SHIPPED))
    base = f"logit ({len(zoo.models)} models)"
    table.add(zoo, idea, base, weighted(zoo, zoo.divergence(), **SHIPPED), "", table.rows[-1][1])
    for kind in there:
        score = weighted(zoo, zoo.divergence(f"{kind}-target"), **SHIPPED)
        table.add(zoo, idea, f"{kind} ({len(zoo.models)} models)", score, base, f"embedding ({len(zoo.models)} models)")


def main() -> None:
    """Try everything, print a line a form, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arrays", type=Path, default=Path("results/ideas"))
    parser.add_argument("--bench", type=Path, default=Path("benchzoo"))
    parser.add_argument("--write", type=Path, default=Path("docs/results/ideas.csv"))
    parser.add_argument("--page", type=Path, help="page to put the NDCG@5 of all forms into")
    options = parser.parse_args()
    zoo, table = Zoo(options.arrays, options.bench, kinds=["logit-target", "logit-test"]), Table()
    print(f"{len(zoo.models)} models, {len(zoo.targets)} targets; NDCG@5, difference with its interval")
    for part in (with_predictions, which_sources, across_models, from_inside):
        part(zoo, table)
        table.write(options.write)
    what_is_attributed(options.arrays, options.bench, table)
    rows = table.write(options.write)
    if options.page:
        write_page(rows, options.page)


if __name__ == "__main__":
    main()
