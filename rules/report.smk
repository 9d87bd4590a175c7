# What failed and why, the report, and the exit status of the run.
localrules:
    gather_pairs,
    check_pairs,


rule gather_pairs:
    input:
        models=of_models("<results>/models/{model}.json"),
        datasets=expand("<results>/datasets/{dataset}.json", dataset=DATASETS),
        pairs=of_models("<results>/conductance/{model}/{dataset}.h5", dataset=COMPUTED),
        accuracy=of_models("<results>/accuracy/{model}/{dataset}.json", dataset=MEASURED),
        alignment=of_models("<results>/alignment/{model}.h5"),
        peers=of_models("<results>/peers/{model}/{dataset}.h5", dataset=DATASETS) if LABELLED else [],
    output:
        report(
            "<results>/pairs.csv",
            caption="../report/pairs.rst",
            category="Quality",
            labels={"what": "every pair with its status"},
        ),
    log:
        "<logs>/gather_pairs/all.log",
    benchmark:
        "<benchmarks>/gather_pairs/all.tsv"
    conda:
        "../envs/report.yaml"
    params:
        models=list(MODELS),
        datasets=list(DATASETS),
        computed=COMPUTED,
        measured=MEASURED,
        max_lost=config["images"]["max_lost"],
        code=code(
            "vlmrank.accuracy.measured:judge",
            "vlmrank.evaluation.peer_features:read_features",
            "vlmrank.workflow.objectives:TWIN",
            "vlmrank.store:read_pair_attributes",
            "vlmrank.store:write_csv",
            "vlmrank.store:FAILED",
            "vlmrank.store:read_alignment",
            "vlmrank.store:read_json",
            "vlmrank.store:read_pair",
        ),
    script:
        "../scripts/gather_pairs.py"


rule build_report:
    input:
        "<results>/pairs.csv",
        expand("<results>/accuracy{part}.csv", part=["", "_unmatched"]),
        expand("<results>/evaluation/{table}.csv", table=["metrics", "summary", "differences", "calibration"]),
        "<results>/evaluation/scores.h5",
        of_models("<results>/models/{model}.json"),
        of_models("<results>/alignment/{model}.h5"),
        of_models("<results>/dcd/{model}.h5"),
        of_models("<results>/conductance/{model}/{dataset}.h5", dataset=DATASETS),
        expand("<results>/datasets/{dataset}.json", dataset=DATASETS),
        expand(
            "<results>/ranking/{target}{part}",
            target=TARGETS,
            part=[".csv", ".weights.csv", ".sensitivity.csv", ".to_label.csv", ".answer.json"],
        ),
    output:
        page=report(
            "<results>/report.html",
            caption="../report/report.rst",
            category="Answer",
            labels={"what": "which model to take, and why"},
        ),
        rankings=[
            report(
                f"<results>/figures/ranking/{target}.svg",
                caption="../report/ranking_figure.rst",
                category="Ranking",
                labels={"task": target, "form": "figure"},
            )
            for target in TARGETS
        ],
        similarity=report(
            "<results>/figures/similarity.svg",
            caption="../report/similarity.rst",
            category="Evidence",
            labels={"what": "similarity of the tasks, figure"},
        ),
        evaluation=report(
            "<results>/figures/evaluation.svg",
            caption="../report/evaluation_figure.rst",
            category="Evidence",
            labels={"what": "evaluation on held-out tasks, figure"},
        ),
    log:
        "<logs>/build_report/all.log",
    benchmark:
        "<benchmarks>/build_report/all.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=gather_needs("memory_mb", models=len(MODELS)),
        runtime=gather_needs("minutes", models=len(MODELS)),
    params:
        models=[*MODELS, *UNTRIED],
        datasets=list(DATASETS),
        settings=SETTINGS,
        code=code("vlmrank.report"),
    script:
        "../scripts/build_report.py"


rule check_pairs:
    input:
        pairs="<results>/pairs.csv",
        report="<results>/report.html",
    output:
        "<results>/complete.txt",
    log:
        "<logs>/check_pairs/all.log",
    retries: 0
    conda:
        "../envs/report.yaml"
    params:
        code=code("vlmrank.workflow.outcome:outcome"),
    script:
        "../scripts/check_pairs.py"
