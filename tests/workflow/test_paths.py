"""Every spelling of a path is one path, and every results folder has logs of its own."""

from pathlib import Path

import pytest

from vlmrank.errors import VlmrankError
from vlmrank.workflow.config import check_config, read_schema
from vlmrank.workflow.paths import log_folder, normal_path, normal_paths
from vlmrank.workflow.sheets import read_datasets, read_models

ROOT = Path(__file__).parents[2]


def config(**values):
    return normal_paths(check_config(values, read_schema(ROOT / "schemas/config.schema.yaml")))


@pytest.mark.parametrize("spelling", ["x", "./x", "x/", "a/../x", ".//x", "{here}/x"])
def test_results_in_every_spelling(tmp_path, monkeypatch, spelling):
    monkeypatch.chdir(tmp_path)
    assert config(results=spelling.format(here=tmp_path))["results"] == "x"


def test_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    found = config(results="~/x", store="~/store", cache="~/cache", accuracy={"tables": [{"path": "~/t.csv"}]})
    assert (found["store"], found["cache"]) == (f"{tmp_path}/home/store", f"{tmp_path}/home/cache")
    assert found["results"] == "home/x" and found["accuracy"]["tables"][0]["path"] == f"{tmp_path}/home/t.csv"
    assert config()["store"] is None


@pytest.mark.parametrize("spelling", [".", "./", "..", "{here}", "/"])
def test_results_may_not_be_the_working_directory(tmp_path, monkeypatch, spelling):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VlmrankError, match="working directory or one above it"):
        config(results=spelling.format(here=tmp_path))


def test_an_address_stays_as_it_is():
    assert normal_path("https://x.org//a/../b?c=~/d") == "https://x.org//a/../b?c=~/d"


def test_no_two_results_folders_share_a_log_folder():
    folders = ["results", "results/a", "a", "b/a", "b/c/a", "/scratch/a", "/home/a", "../a"]
    assert len({log_folder(folder) for folder in folders}) == len(folders)


def test_sheets(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m.tsv").write_text("model\tarchitecture\tpretrained\na\tlocal-dir:./zoo/a/\t\nb\tRN50\t~/b.pt\n")
    models = read_models(tmp_path / "m.tsv", read_schema(ROOT / "schemas/models.schema.yaml"))
    assert [models[0].folder, models[1].checkpoint] == ["zoo/a", f"{tmp_path}/b.pt"]
    (tmp_path / "d.tsv").write_text(
        "dataset\trole\tpath\ttest\tclasses\nd\tsource\t./a/../b/\t~/t\tclip-benchmark:mnist\n"
    )
    row = read_datasets(tmp_path / "d.tsv", read_schema(ROOT / "schemas/datasets.schema.yaml"))[0]
    assert (row.path, row.test, row.classes) == ("b", f"{tmp_path}/t", "clip-benchmark:mnist")
