"""Every key of the configuration is seen by the rules whose results it changes, or is known to change none."""

import contextlib
import copy
import json
from pathlib import Path

import pytest
import yaml
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, Quietness, ResourceSettings
from tiny_zoo import make_zoo

pytestmark = pytest.mark.workflow

ROOT = Path(__file__).parents[2]
# Where things are and how they are run; what comes out is the same.
FREE = {
    *("store", "cache", "labels", "container", "demo.build", "demo.tasks", "demo.variants", "demo.effort"),
    *("conductance.device", "conductance.batch", "conductance.job_minutes"),
    "conductance.max_points",  # as long as there is no tolerance
}
# Other files, or other jobs for the same files.
PLACES = ("results", "conductance.datasets_per_job")
OTHER = {
    "ranking.score": "fused",
    "images.predictions": 1000,
    "demo.tasks": ["digits"],
    "demo.variants": 4,
    "conductance.batch": 4,
    "conductance.job_minutes": 30,
    "conductance.tolerance": 0.1,
    "accuracy.tables": [{"path": "table.csv", "format": "own"}],
    "accuracy.per_class": "classes.csv",
    "accuracy.names": "names.tsv",
    "evaluation.methods": "all",
    "evaluation.images": 2,
    "evaluation.variants": {"one": {"images": 2}},
    "evaluation.labelled": 4,
    "images.max_lost": 0.31,
}
REPORT = "report."  # keys that only the report looks at
# The first rule that a section's keys decide about; what follows from it is made anew by its results.
FIRST = {
    "images": "prepare_dataset",
    "conductance": "compute_conductance",
    "alignment": "align_blocks",
    "divergence": "compute_dcd",
    "ranking": "rank_models",
}


def leaves(schema, prefix=""):
    """(dotted key, its schema) of everything below a schema's properties."""
    for name, inner in schema["properties"].items():
        if "properties" in inner and inner.get("type") == "object":
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, inner


def another(key, schema):
    """A valid value of the key that is not the default."""
    if key in OTHER:
        return OTHER[key]
    default = schema.get("default")
    for option in [schema, *schema.get("anyOf", [])]:
        choices = [value for value in option.get("enum", []) if value not in (default, None)]
        if choices:
            return choices[0]
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default + 1
    if isinstance(default, float):
        return default * 0.5
    return "elsewhere"


SCHEMA = yaml.safe_load((ROOT / "schemas/config.schema.yaml").read_text())
ROWS = ("models", "datasets", "packs", "shortlist")  # tested by rows
KEYS = {key: inner for key, inner in leaves(SCHEMA) if key.partition(".")[0] not in ROWS}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    make_zoo(folder, ["A--one"], ["cats", "tools"])
    (folder / "config.yaml").write_text("{}\n")
    (folder / "table.csv").write_text("model,dataset,acc1\n")
    (folder / "classes.csv").write_text("model,dataset,class,acc1,n\n")
    (folder / "names.tsv").write_text("kind\ttable\tname\n")
    return folder


def seen(place, monkeypatch, key="", value=None):
    """What Snakemake compares between two runs: parameters, inputs and outputs of each rule but the report's."""
    monkeypatch.chdir(place)
    config = {"demo": {"build": False}}
    if key:
        node, names = config, key.split(".")
        for name in names[:-1]:
            node = node.setdefault(name, {})
        node[names[-1]] = value
    with (
        (place / "log").open("a") as log,
        contextlib.redirect_stderr(log),
        contextlib.redirect_stdout(log),
        SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api,
    ):
        made = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(config=copy.deepcopy(config)),
            snakefile=ROOT / "Snakefile",
            workdir=place,
        )
        rules = list(made._workflow.rules)
    return {
        rule.name: json.dumps(
            [
                {name: value for name, value in rule.params.items() if not callable(value)},
                [str(part) for part in rule.input if not callable(part)],
                [str(part) for part in rule.output],
            ],
            default=str,
            sort_keys=True,
        )
        for rule in rules
        if rule.name != "build_report"
    }


@pytest.fixture(scope="module")
def plain(place):
    with pytest.MonkeyPatch.context() as patch:
        return seen(place, patch)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_seen_or_free(place, plain, monkeypatch, key):
    found = seen(place, monkeypatch, key, another(key, KEYS[key]))
    changed = {name for name in {*found, *plain} if found.get(name) != plain.get(name)}
    if key in PLACES:
        assert changed, f"{key} moves no file"
    elif key in FREE or key.startswith(REPORT):
        assert not changed, f"{key} makes results anew that it does not change"
    else:
        first = FIRST.get(key.split(".")[0])
        assert first in changed if first else changed, f"{key} is no parameter of {first or 'any rule'}"
