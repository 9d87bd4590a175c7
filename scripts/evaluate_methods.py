"""Leave each dataset out in turn and compare every method's ranking with the truth."""

import numpy as np

from vlmrank.answer.check import calibration_table, statements
from vlmrank.answer.tables import settings_for, tasks_of
from vlmrank.answer.tasks import answer_tasks
from vlmrank.baselines import all_methods, describe_methods, select_methods
from vlmrank.evaluation.class_similarity import read_relations
from vlmrank.evaluation.evaluate import (
    differences,
    evaluate_methods,
    evaluate_protocol,
    evaluate_variants,
    score_parts,
    summarise,
)
from vlmrank.evaluation.evidence import assemble_evidence, read_evidence
from vlmrank.evaluation.scores import Scores, write_scores
from vlmrank.evaluation.sensitivity import sensitivity
from vlmrank.published.shipped import published_ranks, shortlist_records, told
from vlmrank.store import read_csv, read_json, write_csv
from vlmrank.workflow.job_log import announce, job


def main(snakemake) -> None:
    """Leave each dataset out in turn and compare every method's ranking with the truth."""
    params, options, output = snakemake.params, snakemake.params.options, snakemake.output
    cards = [read_json(path) for path in snakemake.input.models]
    evidence = assemble_evidence(
        dict(zip(params.models, map(read_evidence, snakemake.input.evidence), strict=True)),
        read_csv(snakemake.input.accuracy),
        per_class=read_csv(snakemake.input.per_class),
        domains=params.domains,
        groups=params.groups,
        parameters={card["model"]: card.get("parameters") for card in cards},
        relations=read_relations(snakemake.input.classes),
        published=published_ranks(params.models),
    )
    methods = select_methods(all_methods(**params.ranking), options["methods"])
    found = evaluate_methods(evidence, methods, seed=params.seed)
    drawn = {"domains": params.domains, "bootstrap": options["bootstrap"], "seed": params.seed}
    write_csv(output.metrics, found.metrics)
    write_csv(output.summary, summarise(found.metrics, **drawn))
    write_csv(output.differences, differences(found.metrics, **drawn))
    for path, protocol in ((output.domains, "domain"), (output.siblings, "siblings")):
        write_csv(path, evaluate_protocol(evidence, methods, found, protocol=protocol, seed=params.seed))
    targets = [list(evidence.datasets).index(name) for name in params.targets]
    parts = score_parts(evidence, methods, targets, seed=params.seed)
    scores = Scores(evidence.models, evidence.datasets, evidence.accuracy, found.scores, parts)
    write_scores(output.scores, scores)
    tasks, how = tasks_of(scores, methods, params.groups), settings_for(params.answer, params.seed)
    answers = answer_tasks(tasks, how)
    claims = statements(answers, scores.truth)
    write_csv(output.calibration, calibration_table(claims, level=how.level, seed=params.seed))
    named = {method.name: method for method in methods}
    for target, path in zip(targets, output.sensitivity, strict=True):
        write_csv(path, sensitivity(evidence, named, target, answers[target].choice.method, seed=params.seed))
    write_csv(
        output.variants,
        evaluate_variants(evidence, options["variants"], draws=options["variant_draws"], **params.ranking),
    )
    write_csv(output.methods, describe_methods(methods))
    record = told(shortlist_records(evidence.accuracy, np.tile(evidence.published, (len(evidence.datasets), 1))))
    if record:
        announce(f"By published accuracy, of the {len(params.models)} models of this run {record}")
    compared = found.metrics["target"].nunique()
    others = f"; {len(found.left_out)} others lack what they need, see {snakemake.log[0]}" if found.left_out else ""
    announce(f"evaluation: {len(methods) - len(found.left_out)} methods compared on {compared} known tasks{others}")
    for method, reason in found.left_out.items():
        print(f"{method}: {reason}")


if "snakemake" in globals():
    with job(snakemake.log[0]):  # noqa: F821
        main(snakemake)  # noqa: F821
