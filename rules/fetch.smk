# Models and images: what there is, where it is, what it hashes to.
from vlmrank.datasets.prepare import check_targets

if is_head_process(workflow):
    ROWS = list(DATASETS.values())
    BY_US = {"made": lambda path: path in made()}
    checked(
        input_checks.check_inputs,
        list(MODELS.values()),
        ROWS,
        models_sheet=config["models"],
        datasets_sheet=config["datasets"],
        **BY_US,
    )
    checked(check_targets, ROWS, **BY_US)
    for remark in checked(input_checks.folder_remarks, ROWS, sheet=config["datasets"], **BY_US):
        logger.warning(remark)


localrules:
    fetch_model,
    prepare_dataset,


rule fetch_model:
    input:
        lambda wildcards: inputs_of(MODELS[wildcards.model]),
    output:
        "<results>/models/{model}.json",
    log:
        "<logs>/fetch_model/{model}.log",
    benchmark:
        "<benchmarks>/fetch_model/{model}.tsv"
    wildcard_constraints:
        model=either(MODELS),
    conda:
        "../envs/cpu.yaml"
    params:
        row=lambda wildcards: MODELS[wildcards.model].values(),
        files=lambda wildcards: fingerprint_of(MODELS[wildcards.model]),
        code=code("vlmrank.models.card:fetch_model", "vlmrank.store:write_json"),
    script:
        "../scripts/fetch_model.py"


rule prepare_dataset:
    input:
        lambda wildcards: inputs_of(DATASETS[wildcards.dataset]),
    output:
        "<results>/datasets/{dataset}.json",
    log:
        "<logs>/prepare_dataset/{dataset}.log",
    benchmark:
        "<benchmarks>/prepare_dataset/{dataset}.tsv"
    wildcard_constraints:
        dataset=either(DATASETS),
    conda:
        "../envs/cpu.yaml"
    params:
        row=lambda wildcards: DATASETS[wildcards.dataset].values(),
        files=lambda wildcards: fingerprint_of(DATASETS[wildcards.dataset]),
        images=config["images"]["per_dataset"],
        predictions=config["images"]["predictions"],
        stratified=config["images"]["stratified"],
        max_lost=config["images"]["max_lost"],
        seed=config["seed"],
        code=code(
            "vlmrank.datasets.prepare:prepare_dataset",
            "vlmrank.datasets.items:DatasetCells",
            "vlmrank.store:write_json",
        ),
    script:
        "../scripts/prepare_dataset.py"
