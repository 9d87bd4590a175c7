# Reads the configuration and the sheets, checks them, constrains the wildcards. Holds no rule.
import re
import sys
from functools import cache
from itertools import product
from pathlib import Path

from snakemake.exceptions import WorkflowError

SCRIPTS = Path(str(workflow.current_basedir)).parent / "scripts"
if (SCRIPTS / "vlmrank").is_dir():  # a clone brings its own library; a wheel's workflow uses the installed one
    sys.path.insert(0, str(SCRIPTS))

from vlmrank.workflow import config as configuration
from vlmrank.store import identities as identity
from vlmrank.workflow import resources
from vlmrank.workflow import job_log as runlog
from vlmrank.workflow import outcome
from vlmrank.workflow import sheets
from vlmrank.workflow import shortlist
from vlmrank.datasets.layout import tar_files
from vlmrank.errors import VlmrankError
from vlmrank.report.landing import remember
from vlmrank.workflow.snakemake_patch import (
    config_files,
    debounce_rescheduling,
    drop_no_news,
    is_head_process,
    make_again,
    outputs_so_far,
    planned_outputs,
)
from vlmrank.store import ResultStore, read_json
from vlmrank.store import packs
from vlmrank.store.leases import acquire_run_lock
from vlmrank.workflow.code_hash import code_hash
from vlmrank.workflow import (
    again,
    fingerprint,
    input_checks,
    integrity,
    objectives,
    packed,
    partitions,
    paths,
    profiles,
)


class InputError(WorkflowError):
    """A mistake in what the user gave; without a traceback, Snakemake prints the message alone."""

    __traceback__ = property(lambda self: None, lambda self, value: None)


def checked(function, *args, **options):
    """Call a function of the library and show what it finds wrong in the user's files."""
    try:
        return function(*args, **options)
    except VlmrankError as error:
        raise InputError(str(error)) from None


def schema(name):
    return configuration.read_schema(workflow.source_path(f"../schemas/{name}.schema.yaml"))


FILES = config_files(workflow)
SETTINGS = checked(configuration.check_config, config, schema("config"), files=FILES)
SETTINGS = checked(paths.normal_paths, SETTINGS)
config.clear()
config.update(SETTINGS)
MODELS = {row.model: row for row in checked(sheets.read_models, config["models"], schema("models"))}
PACKS = [checked(packs.read_pack, path) for path in checked(packs.find_packs, config["packs"])]
DATASETS = {
    row.dataset: row
    for row in checked(sheets.read_datasets, config["datasets"], schema("datasets"), packed.rows_of(PACKS))
}
SOURCES = [name for name, row in DATASETS.items() if row.role == "source"]
GROUPS_OF_SIBLINGS = {name: row.group for name, row in DATASETS.items() if row.group}
TARGETS = [name for name, row in DATASETS.items() if row.role == "target"]
TWINS = objectives.twins(list(DATASETS.values()), config["conductance"]["objective"])
COMPUTED = [*DATASETS, *TWINS]  # those whose conductance is computed
ORDERED = sorted(COMPUTED)  # sums over datasets must not depend on the order of the sheet
MODELS, UNTRIED = checked(shortlist.shorten, MODELS, config, datasets=len(COMPUTED))  # model -> why it is not computed
RESULTS = config["results"]
remember(RESULTS)  # for report/metadata.yaml
LOGS = paths.log_folder(RESULTS)

LOST = integrity.check_results(RESULTS, {*MODELS, *COMPUTED}) if is_head_process(workflow) else []
if is_head_process(workflow):
    for remark in sheets.remarks(list(MODELS.values()), list(DATASETS.values())):
        logger.warning(remark)
    checked(profiles.check_workflow_profile, sys.argv, SCRIPTS.parent)
    checked(partitions.check_partitions, getattr(workflow.executor_settings, "partition_config", None))
    make_again(workflow, {*again.files_to_make_again(RESULTS), *(file.path for file in LOST)})
    for line in integrity.lines_of(LOST):
        logger.warning(line)


if config["container"]:

    container: config["container"]


pathvars:
    results=RESULTS,
    logs=LOGS,
    benchmarks=f"{RESULTS}/benchmarks",


def either(names):
    """Wildcard constraint: one of these names."""
    return "|".join(map(re.escape, names))


# Models are many, and a pattern with all their names is slow: only fetch_model, which all others need, has it.
wildcard_constraints:
    model="[^/]+",
    dataset=either(COMPUTED),
    target=either(TARGETS) or "[^/]+",


@cache
def code(*entries):
    """Hash of exactly the library code that these entries reach, since Snakemake does not see an edit in a module."""
    return checked(code_hash, *entries)


@cache
def made():
    """Outputs of the rules above those that read the sheets' paths (the demo's): folder or file -> what to wait for."""
    found = {}
    for name in outputs_so_far(workflow):
        found[name] = [name]
        for folder in Path(name).parents:
            found.setdefault(str(folder), []).append(name)
    return found


def inputs_of(row):
    """Rule inputs for a row of a sheet: what rules make of it, else the files and folders that exist."""
    found = [made().get(path) or ([path] if Path(path).exists() else tar_files(path)) for path in row.paths()]
    # Snakemake would interpret {} and <> in a path; the fingerprint reports changes there.
    return list(dict.fromkeys(name for names in found for name in names if not set("{}<>") & set(name)))


def fingerprint_of(row):
    """What tells that a file behind a row changed; for a rule that runs in the head process, which alone asks."""
    return fingerprint.fingerprint(row, made=lambda path: path in made())


def own(name):
    """The dataset in the sheet that a computed one, itself or its twin without class names, is."""
    return name.removesuffix(objectives.TWIN)


def sources_of(target):
    return sheets.sources_for(DATASETS[target], list(DATASETS.values()))


def at_hand(names):
    """How many of these datasets have images here; the others come from packs and cost nothing."""
    return max(1, sum(DATASETS[own(name)].kind != packs.PACKED_KIND for name in names))


def packs_of(wildcards):
    return packed.packs_for(MODELS[wildcards.model], PACKS)


def labels_of(wildcards):
    """The filled-in list of a target's labels, where there is one."""
    path = f"{config['labels']}/{wildcards.target}.csv"
    return [path] if Path(path).exists() else []


def of_models(pattern, **wildcards):
    return expand(pattern, model=MODELS, **wildcards)


# The head process retries with more memory and time; Snakemake inside a scheduler's job must not, since it has no more.
TRIES = 4 if is_head_process(workflow) else 0
GPUS = 0 if config["conductance"]["device"] == "cpu" else 1
TORCH = "../envs/gpu.yaml" if GPUS else "../envs/cpu.yaml"


@cache
def card(path, *keys):
    """Facts of a model or dataset; of an unreadable card none, since its own job reports that."""
    try:
        found = read_json(path)
    except ValueError:
        found = {}
    return {key: found.get(key) for key in keys}


def model_needs(function, amount, what, **options):
    """A resource (memory_mb or minutes) as a function of the model's card, an amount of work and the attempt."""

    def needed(wildcards, input, threads, attempt):
        size, *more = [value(input) if callable(value) else value for value in (amount, *options.values())]
        model = card(input.model, "parameters", "image_size", "gflops")
        known = dict(zip(options, more, strict=True))
        facts = function(model, size, gpu=GPUS > 0, threads=threads, attempt=attempt, **known)
        return getattr(facts, what)

    return needed


POINTS = config["conductance"]["points" if config["conductance"]["tolerance"] is None else "max_points"]
WORK = {"images": config["images"]["per_dataset"], "points": POINTS}
RULE_OF_PAIR = {}  # (model, dataset) -> rule, for the last lines of a run


def conductance_needs(datasets, what):
    def predicted(input):
        return sum(card(path, "n_predicted")["n_predicted"] or 0 for path in input.datasets)

    return model_needs(resources.conductance_needs, datasets, what, predicted=predicted, **WORK)


def accuracy_needs(what):
    def images(input):
        return sum(card(path, "n_test")["n_test"] or 0 for path in input.datasets)

    return model_needs(resources.accuracy_needs, images, what)


def gather_needs(what, models=1):
    def needed(wildcards, attempt, predictions=0):
        images, more = config["images"]["per_dataset"], {"predictions": predictions, "attempt": attempt}
        return getattr(resources.gather_needs(len(DATASETS), images, models=models, **more), what)

    return needed


def ranking_needs(what):
    def needed(wildcards, input, attempt):
        target = card(input.dataset, "n_predicted", "classes")
        predictions = (WORK["images"] + (target["n_predicted"] or 0)) * len(target["classes"] or ())
        return gather_needs(what, models=len(MODELS))(wildcards, attempt, predictions)

    return needed


drop_no_news()
runlog.open_channel(f"{LOGS}/run.log")


onstart:
    checked(acquire_run_lock, ".snakemake/vlmrank", "run")
    integrity.drop_files(LOST)
    integrity.bring_back_from_the_future(RESULTS)
    integrity.put_back(LOST, ResultStore(config["store"] or f"{RESULTS}/store"))
    debounce_rescheduling(workflow)
    runlog.open_channel(f"{LOGS}/run.log", logger.info, planned=planned_outputs(workflow))
    for line in outcome.distrust(f"{RESULTS}/conductance"):
        logger.warning(line)


onsuccess:
    runlog.close_channel(RESULTS, TARGETS, RULE_OF_PAIR)
    integrity.note_results(RESULTS)


onerror:
    runlog.close_channel(RESULTS, TARGETS, RULE_OF_PAIR, failed=True)
    integrity.note_results(RESULTS)
