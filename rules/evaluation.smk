# How well every method ranks the models for datasets whose truth is known, each left out in turn.
rule gather_evidence:
    input:
        pairs=expand("<results>/conductance/{{model}}/{dataset}.h5", dataset=DATASETS),
    output:
        "<results>/evidence/{model}.h5",
    log:
        "<logs>/gather_evidence/{model}.log",
    benchmark:
        "<benchmarks>/gather_evidence/{model}.tsv"
    group:
        "gather_{model}"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=gather_needs("memory_mb"),
        runtime=gather_needs("minutes"),
    params:
        datasets=list(DATASETS),
        sources=SOURCES,
        alignment=config["alignment"],
        divergence=config["divergence"],
        draws=config["evaluation"]["draws"],
        images=config["evaluation"]["images"],
        seed=config["seed"],
        code=code("vlmrank.evidence:gather_evidence", "vlmrank.evidence:write_evidence"),
    script:
        "../scripts/gather_evidence.py"


rule evaluate_methods:
    input:
        models=of_models("<results>/models/{model}.json"),
        evidence=of_models("<results>/evidence/{model}.h5"),
        accuracy="<results>/accuracy.csv",
        per_class="<results>/accuracy_per_class.csv",
    output:
        metrics="<results>/evaluation/metrics.csv",
        summary=report(
            "<results>/evaluation/summary.csv",
            caption="../report/evaluation.rst",
            category="Evidence",
            labels={"what": "evaluation on held-out tasks", "form": "table"},
        ),
        differences="<results>/evaluation/differences.csv",
    log:
        "<logs>/evaluate_methods/all.log",
    benchmark:
        "<benchmarks>/evaluate_methods/all.tsv"
    group:
        "gather"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=gather_needs("memory_mb", models=len(MODELS)),
        runtime=gather_needs("minutes", models=len(MODELS)),
    params:
        models=list(MODELS),
        domains={name: row.domain for name, row in DATASETS.items()},
        options=config["evaluation"],
        kappa=config["ranking"]["kappa"],
        seed=config["seed"],
        code=code("vlmrank.evaluation", "vlmrank.baselines", "vlmrank.evidence:assemble_evidence"),
    script:
        "../scripts/evaluate_methods.py"
