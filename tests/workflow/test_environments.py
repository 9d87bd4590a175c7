"""The conda environments ask for the versions of pyproject.toml, and the workflow can be used as a module."""

import re
import tomllib

import pytest
import yaml
from workspace import ROOT

NAMES = {"pytorch-cpu": "torch", "pytorch-gpu": "torch", "open-clip-torch": "open_clip_torch"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def split(requirement: str) -> tuple[str, str]:
    name, version = re.fullmatch(r"([A-Za-z0-9_-]+)(.*)", requirement.replace(" ", "")).groups()
    return NAMES.get(name, name), version


def requirements(name: str) -> dict[str, str]:
    found = {}
    for entry in yaml.safe_load((ROOT / "envs" / f"{name}.yaml").read_text())["dependencies"]:
        entries = entry["pip"] if isinstance(entry, dict) else [entry]
        found |= dict(map(split, entries))
    found.pop("pip", None)
    return found


@pytest.mark.parametrize("name", ["cpu", "gpu", "report"])
def test_versions_are_those_of_the_project(name):
    known = {**dict(map(split, PROJECT["dependencies"])), "python": PROJECT["requires-python"]}
    found = requirements(name)
    assert found == {package: known[package] for package in found}


def test_what_a_job_may_import_is_in_its_environment():
    head = {"snakemake", "snakemake-executor-plugin-slurm", "snakemake-logger-plugin-rich", "pygments"}
    known = set(dict(map(split, PROJECT["dependencies"])))
    assert requirements("cpu") == requirements("gpu")
    assert known - head == (set(requirements("cpu")) | set(requirements("report"))) - {"python"}
    assert "torch" not in requirements("report")


def test_every_rule_names_an_environment():
    for path in sorted((ROOT / "rules").glob("*.smk")):
        text = path.read_text()
        rules = len(re.findall(r"^ *rule\b", text, re.MULTILINE))
        assert len(re.findall(r"^ *conda:", text, re.MULTILINE)) == rules, path.name
    for name in re.findall(r"envs/(\w+)\.yaml", "".join(p.read_text() for p in (ROOT / "rules").glob("*.smk"))):
        assert (ROOT / "envs" / f"{name}.yaml").exists()
