"""Evaluate by leave-one-dataset-out: each dataset in turn is the target, and every method ranks the zoo for it.

Leave one dataset out: the sources are all other datasets except its siblings, which share its pictures. Leave one
domain out: datasets of the target's domain are left out too. A metric of a method on a target is the mean over the
draws of the target's images. Intervals resample whole domains, since tasks of one domain resemble each other. M models,
T datasets.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from vlmrank import metrics
from vlmrank.baselines import vlmrank_method as ours
from vlmrank.baselines.base import SOURCE_ACCURACIES, SOURCE_IMAGES, Evidence, Method, Unavailable, View

PROTOCOLS = ("dataset", "domain", "siblings")
CLUSTERS = 5  # with fewer domains than this the tasks themselves are resampled
METRICS: Mapping[str, Callable[..., float]] = {
    "ndcg_at_5": functools.partial(metrics.ndcg_at_k_score, k=5),
    "ndcg_at_10": functools.partial(metrics.ndcg_at_k_score, k=10),
    "hit_at_5": functools.partial(metrics.hit_at_k_score, k=5),
    "top5_recall": functools.partial(metrics.topk_recall_score, k=5),
    "kendall_tau": metrics.kendall_tau_score,
    "common_top5_tau": metrics.common_top5_tau_score,
    "weighted_tau": metrics.weighted_tau_score,
    "regret_at_1": functools.partial(metrics.regret_at_k_error, k=1),
    "regret_at_5": functools.partial(metrics.regret_at_k_error, k=5),
}
HIGHER_IS_BETTER = {name: not name.startswith("regret") for name in METRICS}


@dataclass(frozen=True)
class Evaluation:
    """Outcome of `evaluate_methods`.

    Attributes
    ----------
    metrics : columns method, target, metric, value.
    left_out : method -> why this run could not score it on any target.
    scores : method -> float64 [R, M, T], one score per try, model and target; nan where a target was not scored.
    """

    metrics: pd.DataFrame
    left_out: Mapping[str, str]
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)


def sources_of(evidence: Evidence, target: int, protocol: str = "dataset") -> np.ndarray:
    """Indices of a target's sources: datasets with a known accuracy, without the target itself and its siblings.

    Parameters
    ----------
    evidence : with the groups of siblings.
    target : index of the dataset.
    protocol : `dataset`; `domain` leaves out the target's domain too; `siblings` leaves out the target alone.

    Raises
    ------
    ValueError : unknown protocol.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}: one of {', '.join(PROTOCOLS)}")
    known = np.isfinite(evidence.accuracy).any(axis=0)
    known[target] = False
    others = range(len(evidence.datasets))
    if protocol != "siblings":
        known &= np.array([not evidence.are_siblings(other, target) for other in others])
    if protocol == "domain":
        own = evidence.domain_of(target)
        known &= np.array([evidence.domain_of(other) != own for other in others])
    return np.flatnonzero(known)


def score_target(
    method: Method, evidence: Evidence, target: int, sources: Sequence[int], *, draw: int = 0, seed: int = 0
) -> np.ndarray:
    """Scores [R, M] of one method for one target and one draw of its images; higher is better.

    Raises
    ------
    Unavailable : the evidence lacks what the method needs.
    """
    view = View(evidence, target, sources, method.looks_at, draw=draw, seed=seed)
    scores = np.atleast_2d(np.asarray(method.score(view), np.float64))
    if scores.shape[1] != len(evidence.models):
        raise ValueError(f"{method.name} gave scores {scores.shape} for {len(evidence.models)} models")
    return scores


def _mean_metrics(truth: np.ndarray, tries: np.ndarray) -> dict[str, float]:
    return {
        name: float(np.mean([metric(truth=truth, score=score) for score in tries])) for name, metric in METRICS.items()
    }


def evaluate_methods(
    evidence: Evidence,
    methods: Sequence[Method],
    *,
    protocol: str = "dataset",
    seed: int = 0,
    draws: int | None = None,
    targets: Sequence[int] | None = None,
) -> Evaluation:
    """Score every method on every target with at least one source; compute metrics if two accuracies are known.

    Targets without known accuracies are scored by the methods that see neither labels nor truth; if no accuracy is
    known at all, without a source.

    Parameters
    ----------
    evidence : what is known of the zoo.
    methods : to be compared.
    protocol : what is left out of the sources, as in `sources_of`.
    seed : of the methods that draw at random.
    draws : number of draws of the images to use; all by default.
    targets : only these datasets, by index; all by default.
    """
    available = min(evidence.draws, draws or evidence.draws)
    nothing_known = not np.isfinite(evidence.accuracy).any()
    rows, left_out, scores = [], {}, {}
    for method in methods:
        scored = {}
        for target in range(len(evidence.datasets)) if targets is None else targets:
            dataset, truth = evidence.datasets[target], evidence.accuracy[:, target]
            sources = sources_of(evidence, target, protocol)
            compared = np.isfinite(truth).sum() > 1
            if not (len(sources) or nothing_known) or not (compared or method.needs_no_labels):
                continue
            chosen = range(available if method.sees_images else 1)
            try:
                tries = [score_target(method, evidence, target, sources, draw=draw, seed=seed) for draw in chosen]
            except Unavailable as error:
                left_out[method.name] = str(error)
                continue
            tries = np.concatenate(tries)
            if not np.isfinite(tries[:, np.isfinite(truth)] if compared else tries).any():
                left_out[method.name] = "no model could be scored"
                continue
            scored[target] = tries
            values = _mean_metrics(truth, tries) if compared else {}
            rows += [(method.name, dataset, name, value) for name, value in values.items()]
        if scored:
            left_out.pop(method.name, None)
            scores[method.name] = _by_target(scored, len(evidence.datasets))
    return Evaluation(pd.DataFrame(rows, columns=["method", "target", "metric", "value"]), left_out, scores)


def score_parts(
    evidence: Evidence, methods: Sequence[Method], targets: Sequence[int], *, seed: int = 0
) -> dict[str, dict[str, np.ndarray]]:
    """The parts whose sum is each method's score, for methods that need no labels; first draw of the images.

    Returns
    -------
    method -> title of the part -> float64 [M, T], nan where a target was not asked for.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for method in methods:
        if method.parts is None or not method.needs_no_labels:
            continue
        for target in targets:
            sources = sources_of(evidence, target)
            if not len(sources):
                continue
            view = View(evidence, target, sources, method.looks_at, seed=seed)
            with contextlib.suppress(Unavailable):
                for title, values in method.parts(view).items():
                    empty = np.full(evidence.accuracy.shape, np.nan)
                    found.setdefault(method.name, {}).setdefault(title, empty)[:, target] = values
    return found


def _by_target(scored: Mapping[int, np.ndarray], datasets: int) -> np.ndarray:
    """[R, M, T] from target -> [R, M]."""
    models = next(iter(scored.values())).shape[1]
    found = np.full((max(map(len, scored.values())), models, datasets), np.nan)
    for target, values in scored.items():
        found[: len(values), :, target] = values
    return found


def evaluate_protocol(
    evidence: Evidence, methods: Sequence[Method], known: Evaluation, *, protocol: str, seed: int = 0
) -> pd.DataFrame:
    """Metrics under another protocol; values that cannot differ from `known` (protocol `dataset`) are reused.

    Those are methods that use no source, and targets whose sources stay the same.
    """
    changed, emptied = [], []
    for target, dataset in enumerate(evidence.datasets):
        sources = sources_of(evidence, target, protocol)
        if not len(sources):
            emptied.append(dataset)
        elif not np.array_equal(sources, sources_of(evidence, target)):
            changed.append(target)
    asking = [method for method in methods if method.looks_at & {SOURCE_ACCURACIES, SOURCE_IMAGES}]
    again = evaluate_methods(evidence, asking, protocol=protocol, seed=seed, targets=changed).metrics
    names, places = [method.name for method in asking], [evidence.datasets[target] for target in changed]
    old = known.metrics
    stale = (old["method"].isin(names) & old["target"].isin(places)) | old["target"].isin(emptied)
    order = {name: place for place, name in enumerate(dict.fromkeys(old["method"]))}
    table = pd.concat([old[~stale], again], ignore_index=True)
    return table.sort_values("method", key=lambda column: column.map(order), kind="stable", ignore_index=True)


def evaluate_variants(
    evidence: Evidence,
    variants: Mapping[str, Mapping[str, Mapping[str, float]]],
    *,
    draws: int | None = None,
    **settings: float,
) -> pd.DataFrame:
    """The method and its fused form under the run's settings (variant empty) and under each named change.

    Parameters
    ----------
    evidence : with a divergence `dcd[name]` for each variant that changes more than the ranking.
    variants : name -> settings that differ.
    draws : number of draws for which the variants were computed.
    settings : of the run, as in `vlmrank.baselines.vlmrank_method.variant`.

    Returns
    -------
    variant, method, target, metric, value.
    """
    tables = []
    for name, changed in {"": {}, **variants}.items():
        found = evaluate_methods(evidence, ours.variant(name, changed, **settings), draws=draws).metrics
        tables.append(found.assign(variant=name))
    columns = ["variant", "method", "target", "metric", "value"]
    return pd.concat(tables, ignore_index=True)[columns]


@functools.lru_cache(maxsize=8)
def _resamples(count: int, bootstrap: int, seed: int) -> np.ndarray:
    """[bootstrap, count], how often each is drawn; equal for all methods, so that differences are paired."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(count, np.full(count, 1.0 / count), size=bootstrap).astype(np.float64)


def clusters_of(targets: Sequence[str], domains: Mapping[str, str] | None) -> np.ndarray:
    """[T] cluster that each target is resampled with: its domain, or itself if unknown.

    With fewer than `CLUSTERS` clusters each target is its own cluster, since so few cannot be resampled.
    """
    names = [(domains or {}).get(target) or f"only {target}" for target in targets]
    clusters = np.unique(names, return_inverse=True)[1] if names else np.empty(0, int)
    return clusters if len(set(names)) >= CLUSTERS else np.arange(len(names))


def mean_with_interval(
    values: np.ndarray, *, clusters: np.ndarray | None = None, bootstrap: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of `values` over datasets, nan left out, and its 95 % interval by resampling clusters of datasets.

    A resample draws as many clusters as there are, with replacement, each with all its datasets; the mean is over the
    datasets drawn (the percentile interval of the cluster bootstrap).

    Parameters
    ----------
    values : [T].
    clusters : int [T], as `clusters_of` numbers them; by default each dataset is one.
    bootstrap : number of resamples; 0 gives nan limits.
    seed : of the resamples.

    References
    ----------
    Field and Welsh: Bootstrapping clustered data, JRSS B 2007.
    """
    known = np.isfinite(values)
    if not known.any():
        return np.nan, np.nan, np.nan
    mean = float(values[known].mean())
    if not bootstrap:
        return mean, np.nan, np.nan
    clusters = np.arange(len(values)) if clusters is None else np.asarray(clusters)
    times = _resamples(int(clusters.max()) + 1, bootstrap, seed)[:, clusters[known]]
    total = times.sum(axis=1)
    means = (times @ values[known])[total > 0] / total[total > 0]
    low, high = np.quantile(means, [0.025, 0.975])
    return mean, float(low), float(high)


def _wide(table: pd.DataFrame, metric: str, targets: Sequence[str] | None) -> pd.DataFrame:
    """Targets x methods of one metric, targets in the order in which they come."""
    part = table[table["metric"] == metric]
    targets = list(dict.fromkeys(part["target"])) if targets is None else list(targets)
    methods = list(dict.fromkeys(part["method"]))
    return part.pivot(index="target", columns="method", values="value").reindex(index=targets, columns=methods)


def summarise(
    table: pd.DataFrame,
    *,
    targets: Sequence[str] | None = None,
    domains: Mapping[str, str] | None = None,
    bootstrap: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean of each method and metric over the targets, with a 95 % bootstrap interval over the targets.

    Parameters
    ----------
    table : `Evaluation.metrics`.
    targets : only these; all by default.
    domains : target -> domain; targets of one domain are drawn together.
    bootstrap : number of resamples.
    seed : of the resamples.

    Returns
    -------
    method, metric, mean, ci_low, ci_high, higher_is_better.
    """
    rows = []
    for metric in dict.fromkeys(table["metric"]):
        wide = _wide(table, metric, targets)
        drawn = {"clusters": clusters_of(list(wide.index), domains), "bootstrap": bootstrap, "seed": seed}
        for method in wide:
            mean, low, high = mean_with_interval(wide[method].to_numpy(), **drawn)
            rows.append((method, metric, mean, low, high, HIGHER_IS_BETTER[metric]))
    rows = pd.DataFrame(rows, columns=["method", "metric", "mean", "ci_low", "ci_high", "higher_is_better"])
    order = {method: index for index, method in enumerate(dict.fromkeys(table["method"]))}
    return rows.sort_values("method", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def differences(
    table: pd.DataFrame,
    methods: Sequence[str] = ("vlmrank", "fused"),
    *,
    targets: Sequence[str] | None = None,
    domains: Mapping[str, str] | None = None,
    bootstrap: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Paired differences over the targets of each of `methods` against every other method.

    A positive mean says that the method is better than the reference, for metrics of either direction. The other
    arguments are those of `summarise`.

    Returns
    -------
    method, reference, metric, mean, ci_low, ci_high, won, tied, lost (numbers of targets; tied: equal to 1e-9).
    """
    rows = []
    for metric in dict.fromkeys(table["metric"]):
        wide = _wide(table, metric, targets)
        drawn = {"clusters": clusters_of(list(wide.index), domains), "bootstrap": bootstrap, "seed": seed}
        sign = 1.0 if HIGHER_IS_BETTER[metric] else -1.0
        for method in methods:
            for reference in wide if method in wide else ():
                if reference == method:
                    continue
                gain = sign * (wide[method] - wide[reference]).to_numpy()
                mean, low, high = mean_with_interval(gain, **drawn)
                won, lost = int((gain > 1e-9).sum()), int((gain < -1e-9).sum())
                tied = int(np.isfinite(gain).sum()) - won - lost
                rows.append((method, reference, metric, mean, low, high, won, tied, lost))
    columns = ["method", "reference", "metric", "mean", "ci_low", "ci_high", "won", "tied", "lost"]
    return pd.DataFrame(rows, columns=columns)


def ratio_of_means(
    table: pd.DataFrame,
    method: str,
    reference: str,
    metric: str,
    *,
    targets: Sequence[str] | None = None,
    domains: Mapping[str, str] | None = None,
    bootstrap: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Ratio of two methods' means over the targets that both were scored on, and its 95 % interval.

    The same clusters of targets are drawn for both. The other arguments are those of `summarise`.
    """
    wide = _wide(table, metric, targets)[[method, reference]].dropna()
    clusters = clusters_of(list(wide.index), domains)
    times = _resamples(int(clusters.max()) + 1, bootstrap, seed)[:, clusters]
    sums = times @ wide.to_numpy()
    drawn = sums[sums[:, 1] > 0]
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    return float(wide[method].mean() / wide[reference].mean()), float(low), float(high)
