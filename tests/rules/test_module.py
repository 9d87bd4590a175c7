"""Another workflow uses this one as a module."""

import pytest
import yaml
from tiny_zoo import make_zoo
from workspace import ROOT, Workspace

pytestmark = pytest.mark.workflow

SNAKEFILE = """
module vlmrank:
    snakefile: "{root}/Snakefile"
    config: config["ranking_of_models"]

use rule * from vlmrank as vlmrank_*

rule all:
    default_target: True
    input: "chosen.txt"

rule choose:
    input: "ranked/ranking/tools.csv"
    output: "chosen.txt"
    shell: "sed -n 2p {{input}} > {{output}}"
"""


@pytest.fixture
def other(tmp_path):
    """A workflow of somebody else, with a config and sheets of its own."""
    work = object.__new__(Workspace)
    work.folder = tmp_path / "other"
    make_zoo(work.folder, ["A--one", "A--two"], ["cats", "dogs", "tools"])
    work.write("Snakefile", SNAKEFILE.format(root=ROOT))
    config = {
        "models": "config/models.tsv",
        "datasets": "config/datasets.tsv",
        "results": "ranked",
        "images": {"per_dataset": 4},
        "conductance": {"points": 4, "device": "cpu"},
    }
    work.write("own.yaml", yaml.safe_dump({"ranking_of_models": config}))
    return work


def test_its_rules_come_in_under_a_prefix(other):
    counts = other.jobs("--configfile", "own.yaml")
    assert counts["choose"] == 1
    assert counts["vlmrank_compute_conductance"] == 2
    assert counts["vlmrank_rank_models"] == 1
    assert "vlmrank_build_report" not in counts


def test_a_misspelt_key_of_its_config_is_named(other):
    text = (other.folder / "own.yaml").read_text()
    other.write("own.yaml", text.replace("points: 4", "poinst: 4"))
    done = other.snakemake("-n", "--configfile", "own.yaml")
    assert done.returncode != 0
    assert "poinst" in done.stdout + done.stderr
