# One job loads a model once and computes all pairs of a chunk of datasets; finished pairs come from the result store.
# A process that dies is tried again (retries); a pair at which two died becomes a failed pair, so four tries always end.
# What does not change a result (store, cache, device, batch) is read from the configuration, so that it is no parameter.
CHUNK = config["conductance"]["datasets_per_job"] or len(DATASETS)
CHUNKS = [list(DATASETS)[start : start + CHUNK] for start in range(0, len(DATASETS), CHUNK)]


for number, chunk in enumerate(CHUNKS):
    name = f"compute_conductance_{number}" if number else "compute_conductance"

    rule:
        name:
            name
        input:
            model="<results>/models/{model}.json",
            datasets=expand("<results>/datasets/{dataset}.json", dataset=chunk),
        output:
            expand("<results>/conductance/{{model}}/{dataset}.h5", dataset=chunk),
        log:
            f"<logs>/{name}/{{model}}.log",
        benchmark:
            f"<benchmarks>/{name}/{{model}}.tsv"
        retries: TRIES
        conda:
            TORCH
        resources:
            gpu=GPUS,
            mem_mb=conductance_needs(len(chunk), "memory_mb"),
            runtime=conductance_needs(len(chunk), "minutes"),
        params:
            options={key: value for key, value in config["conductance"].items() if key not in identity.FREE_OPTIONS},
            code=code(
                "vlmrank.chunk:_task",
                "vlmrank.pairs:compute_pairs",
                "vlmrank.zoo:load_model",
                "vlmrank.store:write_pair",
            ),
        script:
            "../scripts/compute_conductance.py"
