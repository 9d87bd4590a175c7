"""`vlmrank label`: a page from the files of a run, or what is missing."""

import json

import numpy as np
import pytest
from PIL import Image

from vlmrank import store
from vlmrank.answer.labels import Labels, list_to_label
from vlmrank.cli.command_line import main


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run's folder with one target of two images, of which one is asked for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("labels: given\n", encoding="utf-8")
    records = []
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name)
        records.append({"id": name, "path": name})
    card = {"dataset": "wild", "classes": ["cat", "dog"], "images": records, "predicted": []}
    store.write_json("results/datasets/wild.json", card)
    write(["a.png"], Labels({"b.png": 1}))
    return tmp_path


def write(ask, labels, reason=""):
    table = list_to_label(ask, labels, paths={}, classes=["cat", "dog"])
    store.write_csv("results/ranking/wild.to_label.csv", table)
    facts = {"near_ties": [{"model": "A", "p_best": 0.5}, {"model": "B", "p_best": 0.5}], "to_label_reason": reason}
    store.write_json("results/ranking/wild.answer.json", facts)


def test_the_page_is_written_and_the_way_on_is_said(run, capsys):
    assert main(["label", "wild"]) == 0
    said = capsys.readouterr().out
    assert "1 image to label, which tell 2 models apart" in said
    assert "given/wild.csv" in said and "results/ranking/wild.label.html" in said
    page = (run / "results/ranking/wild.label.html").read_text(encoding="utf-8")
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert [(one["id"], one["label"]) for one in data["images"]] == [("b.png", "dog"), ("a.png", "")]
    assert main(["label", "wild", "--out", "here/page.html"]) == 0
    assert (run / "here/page.html").is_file()


def test_nothing_to_label_is_said_with_its_reason(run, capsys):
    write([], Labels({"b.png": 1}), "one model is the best with a chance of at least .9")
    assert main(["label", "wild"]) == 0
    assert "one model is the best" in capsys.readouterr().out
    assert not (run / "results/ranking/wild.label.html").exists()


@pytest.mark.parametrize(("target", "message"), [("wilde", "Did you mean 'wild'"), ("../wild", "Ranked are: wild")])
def test_another_target_is_refused(run, capsys, target, message):
    assert main(["label", target]) == 2
    assert message in capsys.readouterr().err


def test_a_run_that_has_not_ranked_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("{}\n", encoding="utf-8")
    assert main(["label", "wild"]) == 2
    assert "Run the workflow first" in capsys.readouterr().err
