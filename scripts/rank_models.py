"""Rank all models for one target."""

import numpy as np
import pandas as pd

from vlmrank.accuracy.chance import near_chance
from vlmrank.answer.label_step import LabelStep, label_step
from vlmrank.answer.labels import Labels, list_to_label, read_labels
from vlmrank.answer.tables import answer_facts, ranking_rows, settings_for, step_facts, tasks_of, with_untried
from vlmrank.answer.tasks import answer_tasks
from vlmrank.baselines import all_methods
from vlmrank.evaluation.scores import read_scores
from vlmrank.ranking import NO_ACCURACY, source_weights
from vlmrank.store import (
    FAILED,
    read_csv,
    read_dcd,
    read_json,
    read_logits,
    read_pair_attributes,
    write_csv,
    write_json,
)
from vlmrank.text import plural
from vlmrank.workflow.job_log import announce, job


def main(snakemake) -> None:
    """Rank all models for one target."""
    params, options, target = snakemake.params, snakemake.params.options, snakemake.wildcards.target
    models, sources = params.models, sorted(params.sources)
    scores = read_scores(snakemake.input.scores)
    methods = all_methods(**{key: options[key] for key in ("kappa", "shrink", "fuse")})
    place = list(scores.datasets).index(target)
    how = settings_for(options, params.seed)
    answer = answer_tasks(tasks_of(scores, methods, params.groups), how, wanted=[place])[place]
    labels, step = _labels(snakemake.input, answer, how)
    answer = step.answer
    parts = {title: values[:, place] for title, values in scores.parts.get(answer.choice.method, {}).items()}
    parts = step.parts or parts
    table = read_csv(snakemake.input.accuracy)
    wide = (table.pivot(index="model", columns="dataset", values=one) for one in ("acc1", "n"))
    accuracy, tested = (one.reindex(index=models, columns=sources).to_numpy(np.float64) for one in wide)
    files = (snakemake.input.models, snakemake.input.pairs)
    reasons = [_reason(*paths, known) for *paths, known in zip(*files, accuracy, strict=True)]
    ranking = ranking_rows(answer, models, reasons=reasons, parts=parts)
    classes = {card["dataset"]: len(card["classes"]) for card in map(read_json, snakemake.input.sources)}
    warnings = dict(zip(models, near_chance(accuracy, [classes[name] for name in sources], tested), strict=True))
    ranking["reason"] = [row.reason or warnings[row.model] for row in ranking.itertuples()]
    write_csv(snakemake.output.ranking, with_untried(ranking, params.untried))
    title = next((one.title for one in methods if one.name == answer.choice.method), answer.choice.method)
    facts = answer_facts(answer, models, title=title, level=how.level) | step_facts(step, labels, models)
    write_json(snakemake.output.answer, facts)
    write_csv(snakemake.output.to_label, _to_label(step, labels, read_json(snakemake.input.dataset)))
    write_csv(snakemake.output.weights, _weights(snakemake.input.dcd, target, accuracy, models, sources, options))
    ranked = sum(row.status != FAILED for row in ranking.itertuples())
    announce(f"ranking of {target}: {plural(ranked, 'model')}, sorted by {title}")
    for model, warning in warnings.items():
        if warning:
            announce(f"{target}: {model} is {warning}")


def _labels(files, answer, how) -> tuple[Labels, LabelStep]:
    """The labels that somebody gave to the target's images, and what follows from them."""
    card = read_json(files.dataset)
    labels = Labels()
    if files.labels:
        labels = read_labels(str(files.labels), classes=card.get("classes") or (), images=list(_images(card)))
    step = label_step(answer, lambda model: read_logits(files.pairs[model]), labels, how)
    if labels.known and not step.answer.labels:
        announce(f"{card['dataset']}: its labels are not used: {step.reason}")
    return labels, step


def _images(card) -> dict[str, str]:
    """Identifier -> where it lies, of all images of a target."""
    records = [*(card.get("images") or ()), *(card.get("predicted") or ())]
    return {str(one["id"]): str(one.get("path") or "") for one in records}


def _to_label(step, labels, card) -> pd.DataFrame:
    """The list that is to be filled in."""
    return list_to_label(step.ask, labels, paths=_images(card), classes=card.get("classes") or ())


def _weights(paths, target, accuracy, models, sources, options) -> pd.DataFrame:
    """How much each source counts for each model."""
    if not sources:
        return pd.DataFrame(columns=["model", "source", "dcd", "weight"])
    found = [read_dcd(path) for path in paths]
    order = [[list(one.datasets).index(name) for name in sources] for one in found]
    dcd = np.stack([one.dcd[rows, list(one.datasets).index(target)] for one, rows in zip(found, order, strict=True)])
    usable = np.where(np.isfinite(accuracy), dcd, np.nan)
    weights = source_weights(usable, kappa=options["kappa"], shrink=options["shrink"])
    names = {"model": np.repeat(models, len(sources)), "source": np.tile(sources, len(models))}
    return pd.DataFrame({**names, "dcd": dcd.ravel(), "weight": weights.ravel()})


def _reason(card_path: str, pair_path: str, accuracy: np.ndarray) -> str:
    """Why a model has no rank."""
    card, pair = read_json(card_path), read_pair_attributes(pair_path)
    for found in (card, pair):
        if found["status"] == FAILED:
            return found["reason"]
    if not accuracy.size:
        return "its predictions could not be compared with those of the other models"
    if not np.isfinite(accuracy).any():
        return NO_ACCURACY
    return "no source could be compared with the target"


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
