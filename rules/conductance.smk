# One job loads a model once and computes all pairs of a chunk of datasets; finished pairs come from the result store.
CHUNK = config["conductance"]["datasets_per_job"] or len(DATASETS)
CHUNKS = [list(DATASETS)[start : start + CHUNK] for start in range(0, len(DATASETS), CHUNK)]


for number, chunk in enumerate(CHUNKS):

    rule:
        name:
            f"compute_conductance_{number}" if number else "compute_conductance"
        input:
            model="<results>/models/{model}.json",
            datasets=expand("<results>/datasets/{dataset}.json", dataset=chunk),
        output:
            pairs=expand("<results>/conductance/{{model}}/{dataset}.h5", dataset=chunk),
        log:
            f"<logs>/compute_conductance/{{model}}/{number:02d}.log" if number else "<logs>/compute_conductance/{model}.log",
        benchmark:
            f"<benchmarks>/compute_conductance/{{model}}/{number:02d}.tsv" if number else "<benchmarks>/compute_conductance/{model}.tsv"
        params:
            options={key: value for key, value in config["conductance"].items() if key != "datasets_per_job"},
            seed=config["seed"],
            store=STORE,
            cache=config["cache"],
            code=code("vlmrank.pairs:compute_pairs", "vlmrank.zoo:load_model", "vlmrank.images", "vlmrank.store:write_pair"),
        script:
            "../scripts/compute_conductance.py"
