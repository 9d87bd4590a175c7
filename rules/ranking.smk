# The ranking for each target: by the method that the known tasks speak for, with calibrated ranks and expectations.
if config["ranking"]["score"] != "auto":
    from vlmrank.answer.tables import check_method

    checked(check_method, config["ranking"]["score"])


rule rank_models:
    input:
        models=of_models("<results>/models/{model}.json"),
        pairs=of_models("<results>/conductance/{model}/{{target}}.h5"),
        dcd=of_models("<results>/dcd/{model}.h5"),
        accuracy="<results>/accuracy.csv",
        dataset="<results>/datasets/{target}.json",
        scores="<results>/evaluation/scores.h5",
        sources=lambda wildcards: expand("<results>/datasets/{dataset}.json", dataset=sources_of(wildcards.target)),
        labels=labels_of,
    output:
        ranking=report(
            "<results>/ranking/{target}.csv",
            caption="../report/ranking.rst",
            category="Ranking",
            labels={"task": "{target}", "form": "table"},
        ),
        weights="<results>/ranking/{target}.weights.csv",
        answer="<results>/ranking/{target}.answer.json",
        to_label="<results>/ranking/{target}.to_label.csv",
    log:
        "<logs>/rank_models/{target}.log",
    benchmark:
        "<benchmarks>/rank_models/{target}.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=ranking_needs("memory_mb"),
        runtime=ranking_needs("minutes"),
    params:
        models=list(MODELS),
        untried=UNTRIED,
        sources=lambda wildcards: sources_of(wildcards.target),
        options=config["ranking"],
        groups=GROUPS_OF_SIBLINGS,
        seed=config["seed"],
        code=code(
            "vlmrank.accuracy.chance:near_chance",
            "vlmrank.answer.label_step:label_step",
            "vlmrank.answer.labels",
            "vlmrank.answer.tasks:answer_tasks",
            "vlmrank.answer.tables",
            "vlmrank.baselines:all_methods",
            "vlmrank.evaluation.scores:read_scores",
            "vlmrank.ranking:source_weights",
            "vlmrank.store:write_csv",
            "vlmrank.store:write_json",
            "vlmrank.store:read_csv",
            "vlmrank.store:read_dcd",
            "vlmrank.store:read_json",
            "vlmrank.store:read_logits",
            "vlmrank.store:read_pair_attributes",
        ),
    script:
        "../scripts/rank_models.py"
