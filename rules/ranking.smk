# The ranking for each target: source ranks, weighted by how well each source covers the target in the model's own eyes.
rule rank_models:
    input:
        models=of_models("<results>/models/{model}.json"),
        pairs=of_models("<results>/conductance/{model}/{{target}}.h5"),
        dcd=of_models("<results>/dcd/{model}.h5"),
        accuracy="<results>/accuracy.csv",
        dataset="<results>/datasets/{target}.json",
    output:
        ranking=report(
            "<results>/ranking/{target}.csv",
            caption="../report/ranking.rst",
            category="Ranking",
            labels={"task": "{target}", "form": "table"},
        ),
        weights="<results>/ranking/{target}.weights.csv",
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
        sources=lambda wildcards: sheets.sources_for(DATASETS[wildcards.target], list(DATASETS.values())),
        options=config["ranking"],
        seed=config["seed"],
        code=code(
            "vlmrank.ranking:aggregate_ranks",
            "vlmrank.ranking:ranking_table",
            "vlmrank.predictions:align_logits",
            "vlmrank.predictions:committee_agreement",
            "vlmrank.predictions:common_images",
            "vlmrank.by_image",
            "vlmrank.store:write_csv",
            "vlmrank.store:read_csv",
            "vlmrank.store:read_dcd",
            "vlmrank.store:read_json",
            "vlmrank.store:read_pair",
            "vlmrank.store:read_pair_attributes",
        ),
    script:
        "../scripts/rank_models.py"
