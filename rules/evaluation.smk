# How well every method ranks the models for datasets whose truth is known, each left out in turn.
# Peers that ask for more than the method does (labelled images, captions) are compared only where it is asked for.
LABELLED = config["evaluation"]["labelled"]


rule relate_classes:
    input:
        datasets=expand("<results>/datasets/{dataset}.json", dataset=DATASETS),
        pairs=(
            of_models("<results>/conductance/{model}/{dataset}.h5", dataset=DATASETS)
            if config["evaluation"]["encoder"] == "zoo"
            else []
        ),
    output:
        "<results>/classes.h5",
    log:
        "<logs>/relate_classes/all.log",
    benchmark:
        "<benchmarks>/relate_classes/all.tsv"
    conda:
        "../envs/cpu.yaml"
    resources:
        mem_mb=gather_needs("memory_mb", models=len(MODELS)),
        runtime=gather_needs("minutes", models=len(MODELS)),
    params:
        encoder=config["evaluation"]["encoder"],
        code=code("vlmrank.evaluation.class_similarity", "vlmrank.store:read_json"),
    script:
        "../scripts/relate_classes.py"


if LABELLED:

    rule embed_peers:
        input:
            model="<results>/models/{model}.json",
            datasets=expand("<results>/datasets/{dataset}.json", dataset=DATASETS),
        output:
            expand("<results>/peers/{{model}}/{dataset}.h5", dataset=DATASETS),
        log:
            "<logs>/embed_peers/{model}.log",
        benchmark:
            "<benchmarks>/embed_peers/{model}.tsv"
        retries: TRIES
        conda:
            TORCH
        resources:
            gpu=GPUS,
            mem_mb=conductance_needs(len(DATASETS), "memory_mb"),
            runtime=conductance_needs(len(DATASETS), "minutes"),
        params:
            images=LABELLED,
            seed=config["seed"],
            versions=identity.versions(),
            code=code(
                "vlmrank.evaluation.peer_features:caption_templates",
                "vlmrank.evaluation.peer_features:embed_dataset",
                "vlmrank.evaluation.peer_features:write_features",
                "vlmrank.models.load:load_from_card",
                "vlmrank.store:read_json",
            ),
        script:
            "../scripts/embed_peers.py"


rule gather_evidence:
    input:
        pairs=expand("<results>/conductance/{{model}}/{dataset}.h5", dataset=DATASETS),
        alignment="<results>/alignment/{model}.h5",
        dcd="<results>/dcd/{model}.h5",
        peers=expand("<results>/peers/{{model}}/{dataset}.h5", dataset=DATASETS) if LABELLED else [],
        classes="<results>/classes.h5" if LABELLED else [],
    output:
        "<results>/evidence/{model}.h5",
    log:
        "<logs>/gather_evidence/{model}.log",
    benchmark:
        "<benchmarks>/gather_evidence/{model}.tsv"
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
        labelled_images=config["evaluation"]["images"] or config["images"]["per_dataset"],
        groups=GROUPS_OF_SIBLINGS,
        variants=config["evaluation"]["variants"],
        variant_draws=config["evaluation"]["variant_draws"],
        seed=config["seed"],
        code=code(
            "vlmrank.evaluation.gather:Draws",
            "vlmrank.evaluation.gather:gather_evidence",
            "vlmrank.evaluation.gather:add_peers",
            "vlmrank.evaluation.evidence:write_evidence",
            "vlmrank.evaluation.peer_features:read_features",
            "vlmrank.evaluation.class_similarity:read_relations",
            "vlmrank.store:read_pair",
            "vlmrank.store:read_alignment",
            "vlmrank.store:read_dcd",
        ),
    script:
        "../scripts/gather_evidence.py"


rule evaluate_methods:
    input:
        models=of_models("<results>/models/{model}.json"),
        evidence=of_models("<results>/evidence/{model}.h5"),
        classes="<results>/classes.h5",
        accuracy="<results>/accuracy.csv",
        per_class="<results>/accuracy_per_class.csv",
    output:
        metrics="<results>/evaluation/metrics.csv",
        summary=report(
            "<results>/evaluation/summary.csv",
            caption="../report/evaluation.rst",
            category="Evidence",
            labels={"what": "evaluation on held-out tasks, table"},
        ),
        differences="<results>/evaluation/differences.csv",
        domains="<results>/evaluation/domain_metrics.csv",
        siblings="<results>/evaluation/sibling_metrics.csv",
        scores="<results>/evaluation/scores.h5",
        calibration="<results>/evaluation/calibration.csv",
        variants="<results>/evaluation/variant_metrics.csv",
        methods="<results>/evaluation/methods.csv",
        sensitivity=expand("<results>/ranking/{target}.sensitivity.csv", target=TARGETS),
    log:
        "<logs>/evaluate_methods/all.log",
    benchmark:
        "<benchmarks>/evaluate_methods/all.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=gather_needs("memory_mb", models=len(MODELS)),
        runtime=gather_needs("minutes", models=len(MODELS)),
    params:
        models=list(MODELS),
        domains={name: row.domain for name, row in DATASETS.items()},
        groups=GROUPS_OF_SIBLINGS,
        options=config["evaluation"],
        ranking={key: config["ranking"][key] for key in ("kappa", "shrink", "fuse")},
        answer=config["ranking"],
        targets=TARGETS,
        seed=config["seed"],
        code=code(
            "vlmrank.answer.check",
            "vlmrank.answer.tables",
            "vlmrank.answer.tasks",
            "vlmrank.evaluation.evaluate",
            "vlmrank.baselines",
            "vlmrank.evaluation.evidence:assemble_evidence",
            "vlmrank.evaluation.evidence:read_evidence",
            "vlmrank.evaluation.scores:Scores",
            "vlmrank.evaluation.scores:write_scores",
            "vlmrank.evaluation.sensitivity",
            "vlmrank.evaluation.class_similarity:read_relations",
            "vlmrank.published.shipped:published_ranks",
            "vlmrank.published.shipped:shortlist_records",
            "vlmrank.published.shipped:told",
            "vlmrank.store:read_csv",
            "vlmrank.store:read_json",
            "vlmrank.store:write_csv",
        ),
    script:
        "../scripts/evaluate_methods.py"
