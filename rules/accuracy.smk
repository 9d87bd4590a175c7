# What the models really score on the sources: measured here on labelled images, or read from published tables.
from vlmrank.accuracy.tables import check_tables, local_tables


localrules:
    gather_accuracy,


TABLES, URLS = checked(local_tables, config["accuracy"]["tables"], f"{config['cache']}/tables")


if is_head_process(workflow):
    checked(
        check_tables,
        config["accuracy"]["tables"],
        models=list(MODELS),
        sources=SOURCES,
        names=config["accuracy"]["names"],
        per_class=config["accuracy"]["per_class"],
        alone=not config["accuracy"]["measure"],
    )


MEASURED = [
    name
    for name, row in DATASETS.items()
    if row.kind == packs.PACKED_KIND or (config["accuracy"]["measure"] and (row.role == "source" or row.test))
]


if MEASURED:

    rule measure_accuracy:
        input:
            model="<results>/models/{model}.json",
            datasets=expand("<results>/datasets/{dataset}.json", dataset=MEASURED),
            packs=packs_of,
        output:
            expand("<results>/accuracy/{{model}}/{dataset}.json", dataset=MEASURED),
        log:
            "<logs>/measure_accuracy/{model}.log",
        benchmark:
            "<benchmarks>/measure_accuracy/{model}.tsv"
        retries: TRIES
        conda:
            TORCH
        resources:
            gpu=GPUS,
            mem_mb=accuracy_needs("memory_mb"),
            runtime=accuracy_needs("minutes"),
        params:
            options={"precision": config["conductance"]["precision"]},
            versions=identity.versions(),
            code=code(
                "vlmrank.accuracy.measured:measure_accuracy",
                "vlmrank.models.load:load_from_card",
                "vlmrank.store:read_json",
                "vlmrank.store:write_json",
            ),
        script:
            "../scripts/measure_accuracy.py"


if URLS:

    localrules:
        fetch_table,

    rule fetch_table:
        output:
            f"{config['cache']}/tables/{{table}}",
        log:
            "<logs>/fetch_table/{table}.log",
        benchmark:
            "<benchmarks>/fetch_table/{table}.tsv"
        wildcard_constraints:
            table="|".join(map(re.escape, URLS)),
        conda:
            "../envs/cpu.yaml"
        params:
            url=lambda wildcards: URLS[wildcards.table],
        script:
            "../scripts/fetch_table.py"


rule gather_accuracy:
    input:
        datasets=expand("<results>/datasets/{dataset}.json", dataset=MEASURED),
        measured=of_models("<results>/accuracy/{model}/{dataset}.json", dataset=MEASURED),
        tables=[table["path"] for table in TABLES],
        names=[config["accuracy"]["names"]] if config["accuracy"]["names"] else [],
        per_class=[config["accuracy"]["per_class"]] if config["accuracy"]["per_class"] else [],
    output:
        accuracy=report(
            "<results>/accuracy.csv",
            caption="../report/accuracy.rst",
            category="Evidence",
            labels={"what": "accuracies on the known tasks, table"},
        ),
        per_class="<results>/accuracy_per_class.csv",
        unmatched="<results>/accuracy_unmatched.csv",
    log:
        "<logs>/gather_accuracy/all.log",
    benchmark:
        "<benchmarks>/gather_accuracy/all.tsv"
    conda:
        "../envs/report.yaml"
    params:
        models=list(MODELS),
        datasets=list(DATASETS),
        measured=MEASURED,
        max_lost=config["images"]["max_lost"],
        tables=TABLES,
        code=code(
            "vlmrank.accuracy.tables",
            "vlmrank.accuracy.formats",
            "vlmrank.accuracy.measured:judge",
            "vlmrank.store:OK",
            "vlmrank.store:read_json",
            "vlmrank.store:write_csv",
        ),
    script:
        "../scripts/gather_accuracy.py"
