"""The quality table: one row per check, with a severity from 0 (fine) to 3 (serious)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vlmrank import store
from vlmrank.errors import UNTRIED
from vlmrank.report.collect import Run
from vlmrank.text import plural

SEVERITIES = ("fine", "note", "caution", "serious")
LISTED = 12


@dataclass(frozen=True)
class Check:
    """One row of the quality table.

    Attributes
    ----------
    name : what was checked.
    severity : 0 fine, 1 worth knowing, 2 lowers the trust in the answer, 3 the answer should not be used as it is.
    found : what was found, one sentence with its numbers.
    advice : what it means and what to do, empty if all is well.
    affected : the first affected items, as text.
    more : number of further affected items.
    target : the target concerned, empty for the whole run.
    """

    name: str
    severity: int
    found: str
    advice: str = ""
    affected: tuple[str, ...] = ()
    more: int = 0
    target: str = ""

    @property
    def word(self) -> str:
        """The severity as a word."""
        return SEVERITIES[self.severity]


def _graded(share: float, steps: Sequence[float] = (0.0, 0.05, 0.25)) -> int:
    """0 for nothing, 1 up to the second step, 2 up to the third, 3 beyond.

    >>> [_graded(share) for share in (0.0, 0.01, 0.2, 0.5)]
    [0, 1, 2, 3]
    """
    return sum(share > step for step in steps)


def _list(things: Iterable[str]) -> dict:
    things = list(things)
    return {"affected": tuple(things[:LISTED]), "more": max(len(things) - LISTED, 0)}


def run_checks(run: Run) -> list[Check]:
    """All checks that concern the run as a whole, in the order of the stages."""
    checks = [_models(run), _datasets(run)]
    if run.quality:
        checks += [_pairs(run), _images(run), _completeness(run)]
        if any(np.isfinite(pair.error) for pair in run.quality):
            checks.append(_refinement(run))
    if run.alignment:
        checks.append(_transport(run))
    checks += [_accuracies(run), _accuracy_images(run), _mismatches(run)]
    if run.quality:
        checks.append(_one_setting(run))
    if run.unreadable:
        files = [f"{name}: {reason}" for name, reason in run.unreadable.items()]
        advice = "Delete them and run again."
        checks.append(
            Check("Result files", 3, f"{plural(len(files), 'file')} could not be read.", advice, **_list(files))
        )
    return checks


def _models(run: Run) -> Check:
    reasons = {model.name: model.reason for model in run.models if model.status not in (store.OK, UNTRIED)}
    untried = sum(model.status == UNTRIED for model in run.models)
    for ranking in run.rankings.values():
        bad = ranking[ranking["status"] == store.FAILED]
        reasons |= dict(zip(bad["model"], bad["reason"], strict=True))
    total = len(run.models) - untried
    if untried and not reasons:
        return Check(
            "Models",
            1,
            f"{plural(untried, 'model')} of {len(run.models)} {'was' if untried == 1 else 'were'} not tried.",
            "The ranking gives the reason for each; the best model may be among them.",
        )
    if not reasons:
        return Check(
            "Models", 0, f"All {plural(total, 'model')} could be used." if total != 1 else "The model could be used."
        )
    share = len(reasons) / max(total, 1)
    return Check(
        "Models",
        max(_graded(share, (0.0, 0.1, 0.5)), 1),
        f"{len(reasons)} of {plural(total, 'model')} could not be ranked.",
        "They stand last in the ranking with their reason; the best model may be among them.",
        **_list(f"{name}: {reason}" for name, reason in reasons.items()),
    )


def _datasets(run: Run) -> Check:
    bad = [f"{d['dataset']}: {d.get('reason') or ''}" for d in run.datasets if d.get("status", store.OK) != store.OK]
    if not bad:
        return Check("Datasets", 0, f"All {plural(len(run.datasets), 'dataset')} could be read.")
    share = len(bad) / len(run.datasets)
    advice = "Nothing was learned from these tasks."
    return Check(
        "Datasets", max(_graded(share), 2), f"{plural(len(bad), 'dataset')} could not be read.", advice, **_list(bad)
    )


def _pairs(run: Run) -> Check:
    good = [model.name for model in run.models if model.status == store.OK]
    expected = {(model, d["dataset"]) for model in good for d in run.datasets if d.get("status", store.OK) == store.OK}
    have = {(pair.model, pair.dataset) for pair in run.quality}
    bad = {(p.model, p.dataset): p.reason for p in run.quality if p.status != store.OK}
    bad |= dict.fromkeys(expected - have, "no result file")
    later = run.pairs[(run.pairs["status"] == store.FAILED) & (run.pairs["model"] != "") & (run.pairs["dataset"] != "")]
    for row in later.itertuples():
        bad.setdefault((row.model, row.dataset), f"{row.stage}: {row.reason}")
    if not bad:
        return Check("Pairs of model and dataset", 0, f"All {plural(len(have), 'pair')} were computed.")
    share = len(bad) / max(len(expected), 1)
    return Check(
        "Pairs of model and dataset",
        _graded(share),
        f"{len(bad):,} of {plural(max(len(expected), len(bad)), 'pair')} failed ({share:.1%}).",
        "A failed pair drops one source from one model's ranking, or the model itself when it is the target's pair.",
        **_list(f"{model} on {dataset}: {reason}" for (model, dataset), reason in sorted(bad.items())),
    )


def _images(run: Run) -> Check:
    bad: dict[tuple[str, str], str] = {}
    for card in run.datasets:
        for image in card.get("failed_images") or ():
            bad[card["dataset"], str(image.get("id"))] = str(image.get("reason"))
    for pair in run.quality:
        for image, reason in pair.failed_images:
            bad.setdefault((pair.dataset, image), reason)
    total = sum(len(card.get(part) or ()) for card in run.datasets for part in ("images", "predicted"))
    if not bad:
        return Check("Images", 0, f"All {plural(total, 'drawn image')} could be decoded and used.")
    return Check(
        "Images",
        _graded(len(bad) / max(total, 1)),
        f"{plural(len(bad), 'image')} could not be used.",
        "They were left out; the others of their dataset still count.",
        **_list(f"{dataset}, {image}: {reason}" for (dataset, image), reason in sorted(bad.items())),
    )


def _completeness(run: Run) -> Check:
    gaps = {(p.model, p.dataset): p.gap for p in run.quality if np.isfinite(p.gap)}
    if not gaps:
        return Check("Completeness of the conductance", 2, "No gap is known.", "The attributions cannot be judged.")
    median, worst = float(np.median(list(gaps.values()))), max(gaps, key=gaps.__getitem__)
    wide = sorted((key for key, gap in gaps.items() if gap > 0.1), key=lambda key: -gaps[key])
    severity = max(_graded(median, (0.05, 0.15, 0.4)), _graded(len(wide) / len(gaps), (0.0, 0.25, 0.75)))
    return Check(
        "Completeness of the conductance",
        severity,
        f"A block's attributions should add up to the change of the score; they miss it by {median:.1%} in the median "
        f"pair, {gaps[worst]:.1%} in the worst, by more than 10% in {plural(len(wide), 'pair')}.",
        "Raise conductance.points (ReLU towers need more than LayerNorm towers)." if severity else "",
        **_list(f"{model} on {dataset}: {gaps[model, dataset]:.1%}" for model, dataset in wide),
    )


def _refinement(run: Run) -> Check:
    errors = {(p.model, p.dataset): p.error for p in run.quality if np.isfinite(p.error)}
    wide = [f"{model} on {dataset}: {e:.1%}" for (model, dataset), e in errors.items() if e > 0.05]
    severity = _graded(len(wide) / len(errors), (0.0, 0.25, 0.75))
    found = f"At the last refinement of the path the attributions changed by {np.median(list(errors.values())):.1%}."
    return Check(
        "Convergence of the path integral",
        severity,
        found,
        "Raise conductance.max_points." if severity else "",
        **_list(wide),
    )


def _transport(run: Run) -> Check:
    worst, where, stuck, unset, iterations = 0.0, [], [], 0, 0
    for model, alignment in run.alignment.items():
        error = np.asarray(alignment.marginal_error, float)
        unset += int(np.isnan(error).sum())
        iterations = max(iterations, int(np.max(alignment.iterations, initial=0)))
        stuck += [
            f"{model} on {alignment.datasets[i]}: not converged" for i in np.flatnonzero(alignment.iterations < 0)
        ]
        if np.isfinite(error).any():
            worst = max(worst, float(np.nanmax(error)))
            where += [
                f"{model} on {alignment.datasets[i]}: {error[i]:.1e}"
                for i in np.flatnonzero(np.nan_to_num(error) > 1e-6)
            ]
    severity = 3 if stuck else _graded(worst, (1e-6, 1e-4, 1e-2))
    text = f"Largest marginal error of the plans {worst:.1e}, at most {plural(iterations, 'iteration')}."
    if unset:
        text += f" {plural(unset, 'failed pair')} left out."
    return Check(
        "Transport between images and blocks",
        severity,
        text,
        "Block importances of these pairs are inexact; raise alignment.epsilon." if severity else "",
        **_list(stuck + where),
    )


def _accuracies(run: Run) -> Check:
    failed = {m.name for m in run.models if m.status != store.OK}
    known = run.accuracy[run.accuracy["acc1"].notna()] if len(run.accuracy) else run.accuracy
    have = set(zip(known["model"], known["dataset"], strict=True))
    models = [m.name for m in run.models if m.name not in failed]
    missing = [f"{model} on {source}" for model in models for source in run.sources if (model, source) not in have]
    total = len(models) * len(run.sources)
    origins = ", ".join(f"{count:,} {origin}" for origin, count in Counter(known["origin"]).most_common(4))
    if run.unmatched:
        origins += f"; {plural(run.unmatched, 'table row')} matched no model or dataset"
    if not total:
        return Check(
            "Known accuracies",
            3,
            "There is no source task with known accuracies.",
            "Add sources to the datasets sheet.",
        )
    if not missing:
        return Check("Known accuracies", 0, f"Every model has its accuracy on every source ({origins}).")
    return Check(
        "Known accuracies",
        _graded(len(missing) / total, (0.0, 0.1, 0.5)),
        f"{len(missing):,} of {total:,} accuracies are missing ({origins or 'none known'}).",
        "A model without an accuracy on a source learns nothing from it.",
        **_list(missing),
    )


def _accuracy_images(run: Run) -> Check:
    number = pd.to_numeric(run.accuracy["n"], errors="coerce")
    table = run.accuracy[number.notna() & run.accuracy["dataset"].isin(run.sources)]
    if table.empty:
        return Check("Size of the source tests", 1, "It is not known on how many images the accuracies were measured.")
    per_source = table.groupby("dataset")["n"].median()
    small = per_source[per_source < 200].sort_values()
    severity = _graded(len(small) / len(per_source), (0.0, 0.5, 1.0))
    return Check(
        "Size of the source tests",
        severity,
        f"Accuracies were measured on {per_source.median():,.0f} images in the median source.",
        "With few test images the true order of close models cannot be seen." if severity else "",
        **_list(f"{name}: {n:,.0f} images" for name, n in small.items()),
    )


def _mismatches(run: Run) -> Check:
    bad = [f"{model.name}: {mismatch}" for model in run.models for mismatch in model.mismatches]
    first = {name for table in run.rankings.values() for name in table.loc[table["rank"] <= 5, "model"]}
    near_top = any(model.mismatches and model.name in first for model in run.models)
    if not bad:
        return Check(
            "Activation and preprocessing",
            0,
            "Every model runs with the activation and preprocessing it was trained with.",
        )
    return Check(
        "Activation and preprocessing",
        2 if near_top else 1,
        f"{plural(len(bad), 'mismatch', 'mismatches')} with what the weights were trained with"
        f"{', among the first five too' if near_top else ''}.",
        "Such a mismatch lowers accuracy silently; choose the architecture that fits the weights (-quickgelu).",
        **_list(bad),
    )


def _one_setting(run: Run) -> Check:
    mixed = []
    good = [pair for pair in run.quality if pair.status == store.OK]
    for name in ("precision", "device", "objective"):
        counts = Counter(getattr(pair, name) for pair in good)
        if len(counts) > 1:
            mixed.append(
                f"{name}: " + ", ".join(f"{value or 'unknown'} ({count:,})" for value, count in counts.most_common())
            )
    packages: dict[str, Counter] = {}
    for pair in good:
        for package, version in pair.versions.items():
            packages.setdefault(package, Counter())[str(version)] += 1
    mixed += [
        f"{package}: " + ", ".join(f"{v} ({n:,})" for v, n in counts.most_common())
        for package, counts in packages.items()
        if len(counts) > 1
    ]
    if not mixed:
        return Check(
            "One setting for all pairs",
            0,
            "All pairs were computed with the same versions, precision, device and objective.",
        )
    return Check(
        "One setting for all pairs",
        1,
        "Pairs were computed with different settings.",
        "Harmless as a rule (a source without class names uses another objective); compare if a result surprises.",
        **_list(mixed),
    )
