# A job reuses stored pairs, and loads the model once for the rest of its chunk of datasets.
# A job whose process dies is retried with more memory and time, the fifth time with as much as the fourth. A pair that
# still kills it becomes a failed pair, so five tries always suffice.
# Settings that do not change a result (store, cache, device, batch) are read from the configuration and are not
# parameters.
# How a model's datasets are split follows from its name: with its card, the jobs would depend on what has run before.
from vlmrank.models.registry import architectures


def datasets_per_job(row):
    return resources.datasets_per_job(
        architectures().get(row.architecture, {}),
        len(COMPUTED),
        most=config["conductance"]["datasets_per_job"],
        minutes=config["conductance"]["job_minutes"],
        gpu=GPUS > 0,
        **WORK,
    )


MODELS_BY_CHUNK_SIZE = {}
for row in MODELS.values():
    MODELS_BY_CHUNK_SIZE.setdefault(datasets_per_job(row), []).append(row.model)
CHUNKS = [
    (models, COMPUTED[start : start + size])
    for size, models in sorted(MODELS_BY_CHUNK_SIZE.items(), reverse=True)
    for start in range(0, len(COMPUTED), size)
]


for number, (models, chunk) in enumerate(CHUNKS):
    name = f"compute_conductance_{number}" if number else "compute_conductance"
    RULE_OF_PAIR.update(dict.fromkeys(product(models, chunk), name))

    rule:
        name:
            name
        input:
            model="<results>/models/{model}.json",
            datasets=expand("<results>/datasets/{dataset}.json", dataset=[own(name) for name in chunk]),
            packs=packs_of,
        output:
            expand("<results>/conductance/{{model}}/{dataset}.h5", dataset=chunk),
        log:
            f"<logs>/{name}/{{model}}.log",
        benchmark:
            f"<benchmarks>/{name}/{{model}}.tsv"
        wildcard_constraints:
            model=either(models) if len(MODELS_BY_CHUNK_SIZE) > 1 else "[^/]+",
        retries: TRIES
        conda:
            TORCH
        resources:
            gpu=GPUS,
            mem_mb=conductance_needs(at_hand(chunk), "memory_mb"),
            runtime=conductance_needs(at_hand(chunk), "minutes"),
        params:
            datasets=chunk,
            options=identity.deciding_options(config["conductance"]),
            versions=identity.versions(),
            code=code(
                "vlmrank.jobs.compute_conductance:pair_task",
                "vlmrank.jobs.compute_conductance:named_pair",
                "vlmrank.conductance.pair:compute_pairs",
                "vlmrank.models.load:load_from_card",
                "vlmrank.store:write_pair",
                "vlmrank.store:read_json",
                "vlmrank.workflow.objectives:cards_for",
            ),
        script:
            "../scripts/compute_conductance.py"
