# Which blocks of a model matter for a target, for every dataset as the target; and what the predictions say by themselves.
rule align_blocks:
    input:
        pairs=expand("<results>/conductance/{{model}}/{dataset}.h5", dataset=ORDERED),
    output:
        alignment="<results>/alignment/{model}.h5",
        predictions="<results>/predictions/{model}.csv",
    log:
        "<logs>/align_blocks/{model}.log",
    benchmark:
        "<benchmarks>/align_blocks/{model}.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=gather_needs("memory_mb"),
        runtime=gather_needs("minutes"),
    params:
        datasets=ORDERED,
        sources=SOURCES,
        options=config["alignment"],
        code=code(
            "vlmrank.alignment:align_blocks",
            "vlmrank.alignment:block_prior",
            "vlmrank.representation:represent",
            "vlmrank.predictions:prediction_statistics",
            "vlmrank.store:write_alignment",
            "vlmrank.store:Alignment",
            "vlmrank.store:read_pair",
            "vlmrank.store:write_csv",
            "vlmrank.workflow.objectives:TWIN",
        ),
    script:
        "../scripts/align_blocks.py"
