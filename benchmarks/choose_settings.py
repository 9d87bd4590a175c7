"""Try settings on the datasets of the bench that may be looked at, and print what each does there.

PYTHONPATH=scripts python benchmarks/choose_settings.py --results results/bench --write docs/choices.md

--write puts what is printed between the two marks of a page.

Every row differs from the defaults in what it names. Columns: NDCG@5 over the zoo; NDCG@5 over random halves of the
zoo, which moves less by the luck of single models; weighted tau. Means over the datasets and draws of their images.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import yaml
from scipy.special import ndtri

from vlmrank.alignment import align_blocks, block_prior
from vlmrank.divergence import directional_conductance_divergence
from vlmrank.evaluation.evidence import table_of
from vlmrank.evaluation.gather import draw_images
from vlmrank.metrics import ndcg_at_k_score, weighted_tau_score
from vlmrank.predictions import committee_agreement, prediction_statistics
from vlmrank.ranking import fuse_scores, percentile_ranks, source_weights
from vlmrank.representation import Representation, represent
from vlmrank.store import Pair, read_csv, read_pair

ALIGNMENT = {"epsilon": 1.0, "rho": 1.0, "depth": 3.0}
DIVERGENCES = {
    "default": {},
    **{f"rank {rank}": {"rank": rank} for rank in (1, 2, 6, 8, 12)},
    "channels as they are": {"standardise": False},
    "channels as they are, rank 8": {"standardise": False, "rank": 8},
    "kl": {"kind": "kl"},
    "coverage": {"kind": "coverage"},
    "depth 0": {"depth": 0.0},
    "depth 6": {"depth": 6.0},
    "epsilon 0.25": {"epsilon": 0.25},
    "rho 0": {"rho": 0.0},
    "rho inf (no conditioning)": {"rho": np.inf},
    "not centred": {"unit": "not centred", "standardise": False},
    "each dataset centred by itself": {"unit": "own centre"},
    "first half of the blocks alone": {"unit": "early"},
    "last block alone": {"unit": "last"},
    "image embedding in place of conductance": {"unit": "embedding"},
    "4 images": {"images": 4},
    "64 images": {"images": 64, "rank": 16},
}
MARKS = ("<!-- printed by benchmarks/choose_settings.py -->", "<!-- end -->")
COSINES = ("symmetric: mean cosine of single images", "symmetric: mean absolute cosine of single images")
PARTS = ("kind", "rank", "standardise", "smoothing")


def _tasks(pairs: Sequence[Pair], unit: str, images: int, draw: int, seed: int) -> list[Representation]:
    chosen = [draw_images(len(pair.image_id), images=images, draw=draw, seed=seed) for pair in pairs]
    if unit == "embedding":
        return [represent([pair.embedding[index]]) for pair, index in zip(pairs, chosen, strict=True)]
    blocks = [[values[index] for values in pair.blocks.values()] for pair, index in zip(pairs, chosen, strict=True)]
    half = len(blocks[0]) // 2
    kept = {"last": slice(-1, None), "early": slice(0, half)}.get(unit, slice(None))
    blocks = [one[kept] for one in blocks]
    if unit == "own centre":
        blocks = [[values - values.mean(axis=0) for values in one] for one in blocks]
    return [represent(one) for one in blocks]


def _importance(tasks: Sequence[Representation], *, depth: float, epsilon: float, rho: float) -> np.ndarray:
    prior = block_prior(np.stack([task.block_profile for task in tasks]), depth=depth)
    return np.stack([align_blocks(task.block_mass, prior, epsilon=epsilon, rho=rho).importance for task in tasks])


def _divergences(pairs: Sequence[Pair], images: int, draw: int, seed: int) -> dict[str, np.ndarray]:
    """Name -> divergence [T, T] of one draw; what several settings share is computed once."""
    tasks, importance, found = {}, {}, {}
    for name, changed in DIVERGENCES.items():
        unit, size = changed.get("unit", ""), changed.get("images", images)
        settings = ALIGNMENT | {key: changed[key] for key in ALIGNMENT if key in changed}
        of_tasks, of_blocks = (unit, size), (unit, size, *settings.values())
        if of_tasks not in tasks:
            tasks[of_tasks] = _tasks(pairs, unit, size, draw, seed)
        some = tasks[of_tasks]
        if of_blocks not in importance:
            importance[of_blocks] = _importance(some, **settings)
        centre = [np.zeros(values.shape[1]) for values in some[0].blocks] if unit == "not centred" else None
        options = {key: changed[key] for key in PARTS if key in changed}
        found[name] = directional_conductance_divergence(some, importance[of_blocks], centre=centre, **options).dcd
    return found | _image_cosines(tasks["", images])


def _image_cosines(tasks: Sequence[Representation]) -> dict[str, np.ndarray]:
    """Two symmetric counterparts [T, T]: minus the mean (absolute) cosine between single images, mean over blocks."""
    owner = np.repeat(np.arange(len(tasks)), [task.n_images for task in tasks])
    member = (owner == np.arange(len(tasks))[:, None]) / np.bincount(owner)[:, None]
    total = np.zeros((2, len(tasks), len(tasks)))
    for block in range(len(tasks[0].blocks)):
        rows = np.concatenate([task.blocks[block] for task in tasks])
        rows = rows - rows.mean(axis=0)
        rows /= np.maximum(np.sqrt(np.square(rows).mean(axis=0)), 1e-300)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
        cosine = rows @ rows.T
        total -= np.stack([member @ values @ member.T for values in (cosine, np.abs(cosine))])
    return dict(zip(COSINES, total / len(tasks[0].blocks), strict=True))


def look_at_model(folder: Path, *, datasets: Sequence[str], images: int, draws: int, seed: int) -> dict:
    """All divergences [D, T, T], prediction statistics [D, T] and logits [D][T] of one model."""
    pairs = [read_pair(folder / f"{dataset}.h5") for dataset in datasets]
    chosen = [
        [draw_images(len(pair.image_id), images=images, draw=draw, seed=seed) for pair in pairs]
        for draw in range(draws)
    ]
    logits = [[pair.logits[index] for pair, index in zip(pairs, one, strict=True)] for one in chosen]
    statistics = [[prediction_statistics(values) for values in one] for one in logits]
    divergences = [_divergences(pairs, images, draw, seed) for draw in range(draws)]
    return {
        "logits": logits,
        "statistics": {
            name: np.array([[values[name] for values in one] for one in statistics]) for name in statistics[0][0]
        },
        "divergence": {name: np.stack([one[name] for one in divergences]) for name in divergences[0]},
    }


class Trial:
    """Scores under a setting, and what they are worth on the datasets that may be looked at."""

    def __init__(self, looks: Sequence[dict], accuracy: np.ndarray, targets: Sequence[int], seed: int) -> None:
        self.looks, self.accuracy, self.targets = looks, accuracy, targets
        self.draws = len(looks[0]["logits"])
        names = looks[0]["divergence"]
        self.divergence = {name: np.stack([one["divergence"][name] for one in looks], axis=1) for name in names}
        forward = self.divergence["default"]
        self.divergence["turned round: the target's cover of the source"] = forward.swapaxes(2, 3)
        self.divergence["symmetric: mean of both directions"] = (forward + forward.swapaxes(2, 3)) / 2
        generator = np.random.default_rng(seed)
        size = len(accuracy)
        self.halves = [np.sort(generator.permutation(size)[: size // 2]) for _ in range(30)]

    def others(self, target: int) -> np.ndarray:
        """The sources of a target."""
        return np.delete(np.arange(self.accuracy.shape[1]), target)

    def score(self, draw: int, target: int, *, name: str = "default", values=percentile_ranks, **options) -> np.ndarray:
        """[M] the method's score; `values` turns accuracies [M, S] into what is averaged."""
        options = {"kappa": 0.8, "shrink": 0.5} | options
        sources = self.others(target)
        weights = source_weights(self.divergence[name][draw][:, sources, target], **options)
        return (weights * values(self.accuracy[:, sources])).sum(axis=1)

    def predicted(self, draw: int, target: int, *, noise: float = 0.5, width: float = 0.3) -> np.ndarray:
        """[M] Gaussian-process prediction over datasets with the zoo's mean divergence in the kernel."""
        sources = self.others(target)
        mean = self.divergence["default"][draw]
        mean = (mean / mean.mean(axis=(1, 2), keepdims=True)).mean(axis=0)
        kernel = np.exp(-(mean + mean.T) / 2 / width)[np.ix_(sources, sources)]
        weights = np.linalg.solve(kernel + noise * np.eye(len(sources)), np.exp(-mean[sources, target] / width))
        return ndtri(percentile_ranks(self.accuracy[:, sources])) @ weights

    def against_average(self, draw: int, target: int, *, share: float) -> np.ndarray:
        """[M] the method's score minus a share of the average rank, as if far sources spoke against a model."""
        return self.score(draw, target) - share * self.average(target)

    def both_predicted(self, draw: int, target: int) -> np.ndarray:
        """[M] the method's score and the Gaussian process, both standardised."""
        return fuse_scores(self.score(draw, target), self.predicted(draw, target), 1.0)

    def average(self, target: int) -> np.ndarray:
        """[M] mean percentile rank on the sources."""
        return percentile_ranks(self.accuracy[:, self.others(target)]).mean(axis=1)

    def extra(self, draw: int, target: int, statistic: str, *, score: np.ndarray, **options) -> np.ndarray:
        """[M] a statistic of the predictions, higher is better."""
        if statistic == "agreement":
            logits = [one["logits"][draw][target] for one in self.looks]
            return committee_agreement(logits, score, **options).mean(axis=1)
        sign = -1.0 if statistic == "entropy" else 1.0
        return sign * np.array([one["statistics"][statistic][draw, target] for one in self.looks])

    def fused(self, draw: int, target: int, *, statistic="agreement", fuse=2.0, ranks=False, **options) -> np.ndarray:
        """[M] the method's score and a statistic, both standardised, or as a sum of percentile ranks."""
        score = self.score(draw, target)
        return self._sum(score, self.extra(draw, target, statistic, score=score, **options), fuse, ranks)

    def average_and(self, draw: int, target: int, *, statistic: str, fuse=2.0, ranks=False, alone=False) -> np.ndarray:
        """[M] the average rank and a statistic, or the statistic alone, for which the average rank gives the votes."""
        average = self.average(target)
        extra = self.extra(draw, target, statistic, score=average)
        return extra if alone else self._sum(average, extra, fuse, ranks)

    def with_information(self, draw: int, target: int, *, weight: float) -> np.ndarray:
        """[M] the fused score and `weight` times the mutual information, all standardised."""
        fused = self.fused(draw, target)
        information = self.extra(draw, target, "mutual_information", score=fused)
        return fused + fuse_scores(np.zeros(len(fused)), information, weight)

    def again(self, draw: int, target: int, *, times: int) -> np.ndarray:
        """[M] the fused score, for which fused scores give the votes."""
        logits = [one["logits"][draw][target] for one in self.looks]
        found = self.score(draw, target)
        for _ in range(times):
            found = fuse_scores(self.score(draw, target), committee_agreement(logits, found).mean(axis=1), 2.0)
        return found

    @staticmethod
    def _sum(score: np.ndarray, extra: np.ndarray, fuse: float, ranks: bool) -> np.ndarray:
        return score + fuse * percentile_ranks(extra[:, None])[:, 0] if ranks else fuse_scores(score, extra, fuse)

    def worth(self, score: Callable[[int, int], np.ndarray]) -> tuple[float, float, float]:
        """Means of NDCG@5, NDCG@5 of the half zoos, weighted tau."""
        cells = []
        for target in self.targets:
            truth = self.accuracy[:, target]
            for draw in range(self.draws):
                found = score(draw, target)
                halves = [ndcg_at_k_score(truth=truth[half], score=found[half]) for half in self.halves]
                whole = ndcg_at_k_score(truth=truth, score=found)
                cells.append((whole, np.mean(halves), weighted_tau_score(truth=truth, score=found)))
        return tuple(np.mean(cells, axis=0))


def rows(trial: Trial) -> Iterator[tuple[str, str, Callable[[int, int], np.ndarray]]]:
    """Part, name and score function of everything that is tried."""
    part = "The method: what is compared"
    for name in trial.divergence:
        yield part, name, partial(trial.score, name=name)
    part = "The method: how divergences become weights"
    for kappa in (0.2, 0.4, 0.6, 0.8, 1.0, 1.5, np.inf):
        yield part, f"kappa {kappa:g}", partial(trial.score, kappa=kappa)
    for shrink in (0.0, 0.25, 0.5, 0.75, 1.0):
        yield part, f"shrink {shrink:g}", partial(trial.score, shrink=shrink)
    part = "The method: what is averaged over the sources"
    yield part, "percentile ranks", trial.score
    yield part, "normal scores of the ranks", partial(trial.score, values=lambda a: ndtri(percentile_ranks(a)))
    yield part, "standardised accuracy", partial(trial.score, values=lambda a: (a - a.mean(0)) / a.std(0))
    yield part, "accuracy minus its mean", partial(trial.score, values=lambda a: a - a.mean(0))
    yield part, "squared percentile ranks", partial(trial.score, values=lambda a: percentile_ranks(a) ** 2)
    yield part, "Gaussian process over datasets", trial.predicted
    yield part, "the plain form and that Gaussian process", trial.both_predicted
    for share in (0.25, 0.5):
        yield part, f"minus {share:g} x the average rank", partial(trial.against_average, share=share)
    part = "The fused score: what is added"
    yield part, "nothing", trial.score
    for statistic in ("confidence", "entropy", "mutual_information", "agreement"):
        yield part, statistic.replace("_", " "), partial(trial.fused, statistic=statistic)
    for fuse in (0.5, 1.0, 1.5, 2.0, 3.0, 5.0):
        yield part, f"agreement, fuse {fuse:g}", partial(trial.fused, fuse=fuse)
    for fuse in (0.5, 1.0, 2.0):
        title = f"agreement, its percentile rank in place of standard deviations, fuse {fuse:g}"
        yield part, title, partial(trial.fused, fuse=fuse, ranks=True)
    for sharpness in (0.0, 1.0, 3.0, 10.0, 20.0, 30.0):
        yield part, f"agreement, sharpness {sharpness:g}", partial(trial.fused, sharpness=sharpness)
    for weight in (0.25, 0.5, 1.0):
        yield part, f"agreement and {weight:g} x mutual information", partial(trial.with_information, weight=weight)
    for times in (2, 5):
        yield part, f"agreement, votes by the fused score, {times} rounds", partial(trial.again, times=times)
    part = "Without conductance"
    yield part, "average rank", lambda _, target: trial.average(target)
    for statistic in ("confidence", "entropy", "mutual_information", "agreement"):
        title = statistic.replace("_", " ")
        yield part, f"{title} alone", partial(trial.average_and, statistic=statistic, alone=True)
        yield part, f"average rank + {title}", partial(trial.average_and, statistic=statistic)
        ranks = partial(trial.average_and, statistic=statistic, fuse=1.0, ranks=True)
        yield part, f"average rank + percentile rank of {title}", ranks


def main() -> None:
    """Read the pair files, try everything, print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results/bench"), help="folder that holds conductance/")
    parser.add_argument("--accuracy", type=Path, default=Path("benchzoo/accuracy.csv"))
    parser.add_argument("--splits", type=Path, default=Path("config/bench/splits.yaml"))
    parser.add_argument("--split", default="choose")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--write", type=Path, help="page to write the tables into")
    options = parser.parse_args()
    folders = sorted(path for path in (options.results / "conductance").iterdir() if path.is_dir())
    datasets = sorted(path.stem for path in folders[0].glob("*.h5"))
    chosen = yaml.safe_load(options.splits.read_text(encoding="utf-8"))[options.split]
    look = partial(look_at_model, datasets=datasets, images=options.images, draws=options.draws, seed=options.seed)
    with get_context("spawn").Pool(options.jobs) as pool:
        looks = pool.map(look, folders, chunksize=1)
    accuracy = table_of(read_csv(options.accuracy), [path.name for path in folders], datasets, "acc1")
    trial = Trial(looks, accuracy, [datasets.index(name) for name in chosen], options.seed)
    lines = [
        f"{len(folders)} models, {len(chosen)} of {len(datasets)} datasets ({options.split}), "
        f"{options.draws} draws of {options.images} images, seed {options.seed}"
    ]
    last = ""
    for part, name, score in rows(trial):
        if part != last:
            lines += ["", f"**{part}**", "", "| | NDCG@5 | of half the zoo | weighted tau |", "|---|---|---|---|"]
            last = part
        lines.append("| " + " | ".join([name, *(f"{value:.3f}" for value in trial.worth(score))]) + " |")
    print("\n".join(lines))
    if options.write:
        before, _, rest = options.write.read_text(encoding="utf-8").partition(MARKS[0])
        after = rest.partition(MARKS[1])[2]
        page = f"{before}{MARKS[0]}\n" + "\n".join(lines) + f"\n{MARKS[1]}{after}"
        options.write.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
