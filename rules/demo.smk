# The zoo that comes with the repository: tasks drawn by program and small OpenCLIP models that are really trained.
# Its files are what a user's own would be; no other stage knows of it. config["demo"] is read here alone:
# demo: {build: true, tasks: [] (all), variants: 5 (a family), unlabelled: 32, per_class: 25, effort: 1.0, seed: 0}

from vlmrank.demo import FAMILIES, TARGET, TASKS, VARIANTS

DEMO = config["demo"]

if DEMO["build"]:
    DEMO_TASKS = DEMO["tasks"] or list(TASKS)
    DEMO_VARIANTS = VARIANTS[: DEMO["variants"]]

    rule build_demo_datasets:
        output:
            sheets=[
                f"resources/demo/datasets/{task}/dataset.yaml" for task in DEMO_TASKS
            ],
            unlabelled=directory(
                [f"resources/demo/datasets/{task}/target" for task in DEMO_TASKS]
            ),
            labelled=directory(
                [
                    f"resources/demo/datasets/{task}/{'held_out' if task == TARGET else 'test'}"
                    for task in DEMO_TASKS
                ]
            ),
        log:
            "logs/build_demo_datasets/all.log",
        benchmark:
            "benchmarks/results/build_demo_datasets/all.tsv"
        params:
            unlabelled=DEMO["unlabelled"],
            per_class=DEMO["per_class"],
            seed=DEMO["seed"],
        script:
            "../scripts/build_demo_datasets.py"

    rule train_demo_family:
        output:
            config=[
                f"resources/demo/models/{{family}}--{v}/open_clip_config.json"
                for v in DEMO_VARIANTS
            ],
            weights=[
                f"resources/demo/models/{{family}}--{v}/open_clip_model.safetensors"
                for v in DEMO_VARIANTS
            ],
            notes=[
                f"resources/demo/models/{{family}}--{v}/training.json"
                for v in DEMO_VARIANTS
            ],
        log:
            "logs/train_demo_family/{family}.log",
        benchmark:
            "benchmarks/results/train_demo_family/{family}.tsv"
        wildcard_constraints:
            family="|".join(FAMILIES),
        params:
            effort=DEMO["effort"],
            seed=DEMO["seed"],
        script:
            "../scripts/train_demo_family.py"
