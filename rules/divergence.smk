# How much of a target's conductance a source leaves uncovered, all pairs of datasets of one model at once.
rule compute_dcd:
    input:
        pairs=expand("<results>/conductance/{{model}}/{dataset}.h5", dataset=ORDERED),
        alignment="<results>/alignment/{model}.h5",
    output:
        "<results>/dcd/{model}.h5",
    log:
        "<logs>/compute_dcd/{model}.log",
    benchmark:
        "<benchmarks>/compute_dcd/{model}.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=gather_needs("memory_mb"),
        runtime=gather_needs("minutes"),
    params:
        options=config["divergence"],
        code=code(
            "vlmrank.divergence:directional_conductance_divergence",
            "vlmrank.divergence:of_one_objective",
            "vlmrank.workflow.objectives:TWIN",
            "vlmrank.representation:represent",
            "vlmrank.store:write_dcd",
            "vlmrank.store:Divergences",
            "vlmrank.store:read_alignment",
            "vlmrank.store:read_pair",
        ),
    script:
        "../scripts/compute_dcd.py"
