"""`vlmrank store`: damaged entries are named, used ones kept, others' never touched."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from vlmrank.cli.command_line import main
from vlmrank.store import Pair, ResultStore, write_json, write_pair

ROOT = Path(__file__).resolve().parents[2]
OLD = time.time() - 100 * 86400


def identity(number: int) -> str:
    return f"{number:064x}"


@pytest.fixture
def group(tmp_path, monkeypatch):
    """A store with two pairs and an accuracy that a configuration uses, an old pair and a young one that none does."""
    monkeypatch.chdir(ROOT)
    store = ResultStore(tmp_path / "store")
    for number, (model, dataset) in enumerate([("m", "a"), ("m", "b"), ("n", "a"), ("n", "b")]):
        facts = {"model": model, "dataset": dataset, "status": "ok", "identity": identity(number)}
        path = tmp_path / f"results/conductance/{model}/{dataset}.h5"
        write_pair(path, Pair(score=np.ones((3, 2)), attributes=facts))
        store.publish(identity(number), path)
        if model == "n":
            path.unlink()
    accuracy = tmp_path / "results/accuracy/m/a.json"
    write_json(accuracy, {"acc1": 0.5, "status": "ok", "identity": identity(9)})
    store.publish(identity(9), accuracy)
    for path in store.entries():
        if path.stem != identity(3):
            os.utime(path, (OLD, OLD))
    config = {"results": str(tmp_path / "results"), "store": str(tmp_path / "store")}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    return store, str(tmp_path / "own.yaml")


def test_check_names_what_is_damaged_and_deletes_nothing(group, capsys):
    store, config = group
    assert main(["store", "check", "--config", config]) == 0
    assert "5 entries read, 0 damaged" in capsys.readouterr().out
    path = store.path(identity(2))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["store", "check", "--config", config]) == 1
    printed = capsys.readouterr().out
    assert str(path) in printed and "5 entries read, 1 damaged" in printed and path.exists()


def test_size_says_what_is_there_by_model_and_dataset(group, capsys):
    _, config = group
    assert main(["store", "size", "--config", config]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["m", "a", "pair", "1"] in [line[:4] for line in lines] and lines[-1][:2] == ["all", "5"]


def prune(config, *arguments):
    return main(["store", "prune", "--config", config, "--keep", config, "--older-than", "30", *arguments])


def test_prune_lists_and_deletes_what_is_old_and_unused(group, capsys):
    store, config = group
    assert prune(config) == 0
    printed = capsys.readouterr().out
    assert str(store.path(identity(2))) in printed and "1 younger" in printed and "--yes" in printed
    assert len(list(store.entries())) == 5
    assert prune(config, "--yes") == 0
    assert [path.stem for path in store.entries()] == [identity(number) for number in (0, 1, 3, 9)]


def test_prune_deletes_what_died_half_written(group, capsys):
    store, config = group
    halves = [store.root / "00/.partial-0a.h5", store.root / "leases/.clock-0b", store.root / "00/.partial-0c.h5"]
    for path in halves:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 500)
    for path in halves[:2]:
        os.utime(path, (OLD, OLD))
    assert prune(config) == 0
    assert "2 files of yours, 1.0 kB, that processes which died left half written" in capsys.readouterr().out
    assert all(path.exists() for path in halves)
    assert prune(config, "--yes") == 0
    assert [path.exists() for path in halves] == [False, False, True], "the last may be at work"


def test_prune_never_touches_what_is_anothers(group, capsys, monkeypatch):
    store, config = group
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert prune(config, "--yes") == 0
    assert "2 of other users" in capsys.readouterr().out and len(list(store.entries())) == 5


def test_prune_refuses_where_it_is_not_known_what_is_used(group, tmp_path, capsys):
    store, config = group
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({"results": str(tmp_path / "none")}))
    assert prune(config, "--keep", str(tmp_path / "other.yaml"), "--yes") == 2
    assert "run it first" in capsys.readouterr().err
    damaged = tmp_path / "results/conductance/m/a.h5"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert prune(config, "--yes") == 2
    assert len(list(store.entries())) == 5


def test_no_store_is_a_message(tmp_path, capsys):
    assert main(["store", "check", "--store", str(tmp_path / "none")]) == 2
    assert "there is no store" in capsys.readouterr().err
