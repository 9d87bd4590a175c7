# The zoo that comes with the repository: tasks drawn by program and small OpenCLIP models that are really trained.
# Its files are what a user's own would be; no other stage knows of it. config["demo"] is read here alone.

from vlmrank.demo import FAMILIES, TARGET, TASKS, VARIANTS, model_names

DEMO = config["demo"]

if DEMO["build"]:
    DEMO_TASKS = {task: f"resources/demo/datasets/{task}" for task in DEMO["tasks"] or TASKS}

    rule build_demo_datasets:
        output:
            sheets=[f"{folder}/dataset.yaml" for folder in DEMO_TASKS.values()],
            unlabelled=[directory(f"{folder}/target") for folder in DEMO_TASKS.values()],
            labelled=[
                directory(f"{folder}/{'held_out' if task == TARGET else 'test'}")
                for task, folder in DEMO_TASKS.items()
            ],
        log:
            "<logs>/build_demo_datasets/all.log",
        benchmark:
            "<benchmarks>/build_demo_datasets/all.tsv"
        conda:
            "../envs/cpu.yaml"
        params:
            code=code("vlmrank.demo.tasks:write_dataset"),
        script:
            "../scripts/build_demo_datasets.py"

    for family in FAMILIES:
        folders = [f"resources/demo/models/{model}" for model in model_names(family, DEMO["variants"])]

        rule:
            name:
                f"train_demo_family_{family.split('-')[0].lower()}"
            output:
                config=[f"{folder}/open_clip_config.json" for folder in folders],
                weights=[f"{folder}/open_clip_model.safetensors" for folder in folders],
                notes=[f"{folder}/training.json" for folder in folders],
            log:
                f"<logs>/train_demo_family/{family}.log",
            benchmark:
                f"<benchmarks>/train_demo_family/{family}.tsv"
            conda:
                "../envs/cpu.yaml"
            params:
                family=family,
                effort=DEMO["effort"],
                code=code("vlmrank.demo.train:train_family"),
            script:
                "../scripts/train_demo_family.py"
