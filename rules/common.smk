# Reads the configuration and the sheets, checks them, constrains the wildcards. Holds no rule.
import re
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

SCRIPTS = Path(str(workflow.current_basedir)).parent / "scripts"
if SCRIPTS.is_dir():
    sys.path.insert(0, str(SCRIPTS))

from vlmrank import configuration, identity, runlog, sheets
from vlmrank.errors import VlmrankError


class InputError(WorkflowError):
    """A mistake in what the user gave; without a traceback, Snakemake prints the message alone."""

    __traceback__ = property(lambda self: None)


def checked(function, *args, **options):
    """Call a function of the library and show what it finds wrong in the user's files."""
    try:
        return function(*args, **options)
    except VlmrankError as error:
        raise InputError(str(error)) from None


def schema(name):
    return configuration.read_schema(workflow.source_path(f"../schemas/{name}.schema.yaml"))


FILES = [*workflow.configfiles, *workflow.overwrite_configfiles]
SETTINGS = checked(configuration.check_config, config, schema("config"), files=FILES)
config.clear()
config.update(SETTINGS)
MODELS = {row.model: row for row in checked(sheets.read_models, config["models"], schema("models"))}
DATASETS = {row.dataset: row for row in checked(sheets.read_datasets, config["datasets"], schema("datasets"))}
SOURCES = [name for name, row in DATASETS.items() if row.role == "source"]
TARGETS = [name for name, row in DATASETS.items() if row.role == "target"]
RESULTS = config["results"].rstrip("/")
LOGS = "logs" if RESULTS == "results" else f"logs/{Path(RESULTS).name}"


pathvars:
    results=RESULTS,
    logs=LOGS,
    benchmarks=f"{RESULTS}/benchmarks",


wildcard_constraints:
    model="|".join(map(re.escape, MODELS)),
    dataset="|".join(map(re.escape, DATASETS)),
    target="|".join(map(re.escape, TARGETS)) or "[^/]+",


@cache
def code(*entries):
    """Hash of exactly the library code that these entries reach, since Snakemake does not see an edit in a module."""
    try:
        return identity.code_hash(*entries)
    except VlmrankError:
        return "absent"


@cache
def made():
    """Files and folders that rules make which come before those that read the sheets' paths, such as the demo's."""
    return {str(path) for rule in workflow.rules for path in rule.output}


def is_made(path):
    return any(Path(path) == found or Path(path) in found.parents for found in map(Path, made()))


def inputs_of(row):
    """Rule inputs for a row of a sheet: what rules make of it, else the files and folders that exist."""
    found = []
    for path in row.paths():
        inside = sorted(name for name in made() if Path(path) in Path(name).parents)
        found += [path] if path in made() else inside or sheets.files_of(path)
    return list(dict.fromkeys(found))


def of_models(pattern, **wildcards):
    return expand(pattern, model=MODELS, **wildcards)


runlog.open_channel(f"{LOGS}/run.log")


onstart:
    runlog.open_channel(f"{LOGS}/run.log", logger.info)


onsuccess:
    runlog.close_channel(RESULTS, TARGETS)


onerror:
    runlog.close_channel(RESULTS, TARGETS)
