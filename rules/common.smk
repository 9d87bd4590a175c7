# Reads the configuration and the sheets, checks them, constrains the wildcards. Holds no rule.
import re
import sys
from functools import cache
from pathlib import Path

ROOT = Path(str(workflow.current_basedir)).parent
if (ROOT / "scripts" / "vlmrank").is_dir():
    sys.path.insert(0, str(ROOT / "scripts"))

from snakemake.exceptions import WorkflowError

from vlmrank import configuration, identity, runlog, sheets
from vlmrank.errors import VlmrankError


def checked(function, *args, **options):
    """Call a function of the library; what it finds wrong in the user's files is shown alone, without a traceback."""
    try:
        return function(*args, **options)
    except VlmrankError as error:
        raise WorkflowError(str(error)) from None


def schema(name):
    return configuration.read_schema(workflow.source_path(f"../schemas/{name}.schema.yaml"))


config.update(
    checked(
        configuration.check_config, config, schema("config"), files=[*workflow.configfiles, *workflow.overwrite_configfiles]
    )
)
MODELS = {row.model: row for row in checked(sheets.read_models, config["models"], schema("models"))}
DATASETS = {row.dataset: row for row in checked(sheets.read_datasets, config["datasets"], schema("datasets"))}
SOURCES = [name for name, row in DATASETS.items() if row.role == "source"]
TARGETS = [name for name, row in DATASETS.items() if row.role == "target"]
RESULTS = config["results"].rstrip("/")
STORE = config["store"] or f"{RESULTS}/store"


pathvars:
    results=RESULTS,
    logs="logs" if RESULTS == "results" else f"logs/{Path(RESULTS).name}",
    benchmarks=f"{RESULTS}/benchmarks",


wildcard_constraints:
    model="|".join(map(re.escape, MODELS)),
    dataset="|".join(map(re.escape, DATASETS)),
    target="|".join(map(re.escape, TARGETS)) or "[^/]+",


@cache
def code(*entries):
    """Hash of exactly the library code that a rule reaches: Snakemake itself does not see an edit in a module."""
    return checked(identity.code_hash, *entries)


@cache
def produced():
    """Output paths of the rules that make inputs themselves (the demo), as they are written in the sheets."""
    return [
        Path(str(path)) for rule in workflow.rules for path in rule.output if not str(path).startswith(f"{RESULTS}/")
    ]


def made(path):
    """The outputs of this workflow that are `path`, lie in it or contain it."""
    wanted = Path(path)
    return [str(found) for found in produced() if found.is_relative_to(wanted) or wanted.is_relative_to(found)]


def on_disk(*paths):
    """Rule inputs for what a sheet row names: the outputs that make it, else the files and folders that exist."""
    found = []
    for path in filter(None, paths):
        found += made(path) or ([path] if Path(path).exists() else sheets.tar_files(path))
    return list(dict.fromkeys(found))


def of_models(pattern, **wildcards):
    return expand(pattern, model=MODELS, **wildcards)


onstart:
    runlog.follow(logger.info)


onsuccess:
    runlog.close(RESULTS, TARGETS)


onerror:
    runlog.close(RESULTS, TARGETS)
