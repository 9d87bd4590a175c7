"""Conductance, accuracy and peers go through one loop: what stands in the way of a result is a row in all three."""

import pytest
from dataset_rows import prepared
from tiny_zoo import make_dataset, make_model

from vlmrank.errors import FailedPair
from vlmrank.evaluation.peer_features import read_features
from vlmrank.jobs import pool
from vlmrank.jobs.compute_conductance import ConductanceStage, compute_conductance
from vlmrank.jobs.embed_peers import PeersStage, embed_for_peers
from vlmrank.jobs.measure_accuracy import AccuracyStage, measure_accuracies
from vlmrank.jobs.pool import JobSettings
from vlmrank.models.card import fetch_model
from vlmrank.store import read_json, read_pair

torch = pytest.importorskip("torch")
NAMES = ("cats", "dogs")
OPTIONS = {"objective": "zero-shot", "baseline": "black", "nodes": "uniform", "points": 2, "precision": "float32"}


def conductance(model, datasets, outputs, settings):
    compute_conductance(model, datasets, outputs, OPTIONS, settings)


def peers(model, datasets, outputs, settings):
    embed_for_peers(model, datasets, outputs, {"images": 2, "seed": 0}, settings)


STAGES = {
    "conductance": (conductance, ".h5", lambda path: read_pair(path).attributes),
    "accuracy": (measure_accuracies, ".json", read_json),
    "peers": (peers, ".h5", lambda path: read_features(path).attributes),
}


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    make_model(folder / "model", 0)
    for seed, name in enumerate(NAMES):
        make_dataset(folder / name, seed)
    model = fetch_model("A--one", f"local-dir:{folder / 'model'}")
    return model, [prepared(name, "source", "folder", str(folder / name), images=2) for name in NAMES]


@pytest.fixture(params=STAGES)
def run(request, cards, tmp_path):
    """Run a stage, with parts of the model card or settings changed; return its rows."""
    make, suffix, read = STAGES[request.param]

    def one(lines=None, model=None, user="ada", **settings):
        outputs = [tmp_path / user / f"{name}{suffix}" for name in NAMES]
        say = (lambda line: None) if lines is None else lines.append
        given = {"device": "cpu", "code": "c", **settings}
        make({**cards[0], **(model or {})}, cards[1], outputs, JobSettings(tmp_path / "store", say=say, **given))
        return [read(path) for path in outputs]

    return one


def test_what_is_computed_once_is_taken_from_the_store(run, monkeypatch):
    first = run()
    assert [row["status"] for row in first] == ["ok", "ok"], first
    monkeypatch.setattr(pool, "load", lambda *_: pytest.fail("the model was loaded"))
    lines = []
    second = run(lines, user="bob")
    assert all("taken from the store" in line for line in lines) and len(lines) == 2
    assert [row["identity"] for row in first] == [row["identity"] for row in second]


def test_a_model_that_cannot_be_used_is_a_row(run):
    lines = []
    rows = run(lines, model={"status": "failed", "reason": "no weights"})
    assert [row["reason"] for row in rows] == ["the model cannot be used: no weights"] * 2
    assert lines == [], "fetch_model has told it"


def test_a_dataset_that_cannot_be_used_is_a_row_and_told_by_the_job_that_prepared_it(run, cards, monkeypatch):
    lines = []
    monkeypatch.setitem(cards[1][0], "status", "failed")
    monkeypatch.setitem(cards[1][0], "reason", "no image")
    rows = run(lines)
    assert [row["status"] for row in rows] == ["failed", "ok"]
    assert rows[0]["reason"] == "the dataset cannot be used: no image"
    assert not any("no image" in line for line in lines) and "all 2 done" in lines[-1]


def test_a_model_that_cannot_be_loaded_is_a_row(run):
    lines = []
    rows = run(lines, model={"path": "gone.safetensors"})
    assert all(row["status"] == "failed" and "gone.safetensors" in row["reason"] for row in rows)
    told = [line for line in lines if "gone.safetensors" in line]  # once, not for each dataset
    assert told == lines[-1:] and told[0].startswith("A--one: FAILED: ")


def test_a_model_that_does_not_fit_the_device_is_a_row(run, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    monkeypatch.setattr("vlmrank.models.load.load_from_card", full)
    for row in run():
        assert row["status"] == "failed"
        assert row["reason"].startswith("the model does not fit into the memory of cpu (CUDA out of memory.")
        assert "\n" not in row["reason"] and "run again" in row["reason"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a usable GPU")
def test_a_device_that_is_not_there_is_a_row(run):
    for row in run(device="cuda"):
        assert row["status"] == "failed"
        assert row["reason"].startswith("no usable GPU on ") and "run again" in row["reason"]


def test_one_dataset_that_fails_takes_no_other_down(run, monkeypatch):
    for stage in (ConductanceStage, AccuracyStage, PeersStage):
        original = stage.compute
        monkeypatch.setattr(stage, "compute", lambda self, *rest, original=original: one_fails(self, original, *rest))
    rows = run()
    assert [row["status"] for row in rows] == ["failed", "ok"] and rows[0]["reason"] == "no memory"


def one_fails(stage, compute, loaded, work):
    """Fail the first dataset, compute the second."""
    for identity, dataset in work:
        if dataset["dataset"] == "cats":
            yield identity, stage.failed(dataset, "no memory", identity)
        else:
            yield from compute(stage, loaded, iter([(identity, dataset)]))


def test_an_error_of_the_loader_is_told(run, monkeypatch):
    def broken(*_, **__):
        raise FailedPair("half a file")

    monkeypatch.setattr("vlmrank.models.load.load_from_card", broken)
    assert [row["reason"] for row in run()] == ["half a file"] * 2
