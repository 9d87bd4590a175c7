"""Several users and jobs share one result store: nothing is computed twice, nothing waits for the dead."""

import multiprocessing
import os
import signal

import pytest
from dataset_rows import prepared
from tiny_zoo import make_dataset, make_model

from vlmrank.jobs import compute_conductance as chunk
from vlmrank.jobs import pool
from vlmrank.jobs.pool import JobSettings
from vlmrank.models.card import fetch_model
from vlmrank.store import read_pair
from vlmrank.store.leases import Leases

DATASETS = ("cats", "dogs", "tools")
OPTIONS = {"objective": "zero-shot", "baseline": "black", "nodes": "uniform", "points": 4, "precision": "float32"}
FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    make_model(folder / "model", 0)
    for seed, name in enumerate(DATASETS):
        make_dataset(folder / name, seed)
    model = fetch_model("A--one", f"local-dir:{folder / 'model'}")
    assert model["status"] == "ok", model["reason"]
    return model, [prepared(name, "source", "folder", str(folder / name), images=4) for name in DATASETS]


def run(cards, store, results, lines=None, model=None, **given):
    """Do what one conductance job does."""
    chunk.compute_conductance(
        {**cards[0], **(model or {})},
        cards[1],
        [results / f"{name}.h5" for name in DATASETS],
        OPTIONS,
        JobSettings(store, "c", device="cpu", given=given, say=(lambda line: None) if lines is None else lines.append),
    )


def test_a_second_user_takes_what_the_first_computed(cards, tmp_path, monkeypatch):
    run(cards, tmp_path / "store", tmp_path / "ada")
    monkeypatch.setattr(pool, "load", lambda *_: pytest.fail("the model was loaded"))
    lines = []
    # The same weights under another name, from another place.
    run(cards, tmp_path / "store", tmp_path / "bob", lines, model={"model": "mine--one"})
    assert len(lines) == 3 and all("taken from the store" in line for line in lines)
    for name in DATASETS:
        first, second = read_pair(tmp_path / f"ada/{name}.h5"), read_pair(tmp_path / f"bob/{name}.h5")
        assert (first.attributes["model"], second.attributes["model"]) == ("A--one", "mine--one")
        assert first.attributes["identity"] == second.attributes["identity"]
        assert (first.score == second.score).all()


def test_two_jobs_at_once_compute_each_pair_once(cards, tmp_path):
    said = FORK.Queue()

    def one(user):
        lines = []
        run(cards, tmp_path / "store", tmp_path / user, lines)
        said.put(lines)

    jobs = [FORK.Process(target=one, args=(user,)) for user in ("ada", "bob")]
    for job in jobs:
        job.start()
    lines = said.get(timeout=120) + said.get(timeout=120)
    for job in jobs:
        job.join(20)
    assert sum(" attributed in " in line for line in lines) == 3
    assert sum("taken from the store" in line for line in lines) == 3
    assert len(list((tmp_path / "store").glob("??/*.h5"))) == 3
    assert all((tmp_path / user / f"{name}.h5").exists() for user in ("ada", "bob") for name in DATASETS)


def test_a_pair_that_kills_its_process_becomes_a_failed_pair(cards, tmp_path, monkeypatch):
    task = chunk.pair_task

    def deadly(dataset, *arguments):
        if dataset["dataset"] == "dogs":
            os.kill(os.getpid(), signal.SIGKILL)
        return task(dataset, *arguments)

    monkeypatch.setattr(chunk, "pair_task", deadly)
    for code in (-signal.SIGKILL, -signal.SIGKILL, 0):
        job = FORK.Process(target=run, args=(cards, tmp_path / "store", tmp_path / "out"), kwargs={"memory_mb": 1700})
        job.start()
        job.join(120)
        assert job.exitcode == code
    status = {name: read_pair(tmp_path / f"out/{name}.h5") for name in DATASETS}
    assert [status[name].ok for name in DATASETS] == [True, False, True]
    reason = status["dogs"].attributes["reason"]
    assert reason.startswith("2 processes ended here") and "1700 MB" in reason
    assert list(Leases(tmp_path / "store/leases").folder.iterdir()) == []


def test_a_granted_gpu_that_cannot_be_used_is_the_reason_of_every_pair(cards, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a usable GPU")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    outputs = [tmp_path / f"{name}.h5" for name in DATASETS]
    chunk.compute_conductance(*cards, outputs, OPTIONS, JobSettings(tmp_path / "store", "c", given={"gpus": 1}))
    reasons = [read_pair(path).attributes["reason"] for path in outputs]
    assert all(reason.startswith("no usable GPU") and "run again" in reason for reason in reasons)
    assert list((tmp_path / "store/leases").iterdir()) == []
