"""The report waits for every file that it reads."""

import contextlib
from pathlib import Path

import pytest
import synthetic
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, Quietness, ResourceSettings
from tiny_zoo import make_zoo

from vlmrank.report import reader
from vlmrank.report.build import build_report

pytestmark = pytest.mark.workflow

ROOT = Path(__file__).parents[2]


def pattern(path: str, models, datasets) -> str:
    """A file of the results folder without the names of models and datasets."""
    for kind, names in (("model", models), ("dataset", datasets)):
        for name in names:
            path = path.replace(name, f"<{kind}>")
    return path


def waited_for(place) -> set[str]:
    with (
        (place / "log").open("a") as log,
        contextlib.redirect_stderr(log),
        contextlib.redirect_stdout(log),
        SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api,
    ):
        made = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(config={"demo": {"build": False}}),
            snakefile=ROOT / "Snakefile",
            workdir=place,
        )
        rule = next(rule for rule in made._workflow.rules if rule.name == "build_report")
        return {str(path).replace("<results>/", "").removeprefix("results/") for path in rule.input}


def test_the_report_waits_for_what_it_reads(tmp_path, monkeypatch):
    folder = synthetic.write_results(tmp_path / "run/results", models=["A--one"], datasets=4, whole=True)
    read, get = set(), reader.Reader.get

    def noted(self, name, *rest):
        if (self.results / name).is_file():
            read.add(pattern(name, ["A--one"], ["target_0", "task_01", "task_02", "task_03"]))
        return get(self, name, *rest)

    monkeypatch.setattr(reader.Reader, "get", noted)
    build_report(folder, tmp_path / "report.html")
    place = tmp_path / "place"
    place.mkdir()
    make_zoo(place, ["A--one"], ["cats", "tools"])
    (place / "config.yaml").write_text("{}\n")
    monkeypatch.chdir(place)
    inputs = {pattern(path, ["A--one"], ["cats", "tools"]) for path in waited_for(place)}
    assert read - inputs == set()
    assert {"conductance/<model>/<dataset>.h5", "evaluation/calibration.csv", "models/<model>.json"} <= read
