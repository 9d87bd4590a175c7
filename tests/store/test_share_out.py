"""Processes share the results of a job out among them."""

import os
import time

from lease_cases import FORK, a_dead_lease, work

from vlmrank.store import leases as module
from vlmrank.store.leases import Leases


def test_the_folder_is_listed_once_a_round(tmp_path, monkeypatch):
    leases, folder, listed, scandir = Leases(tmp_path / "leases"), tmp_path / "made", [], os.scandir
    folder.mkdir()
    a_dead_lease(leases, "k3")

    def count(path):
        listed.append(path)
        return scandir(path)

    monkeypatch.setattr(module.os, "scandir", count)
    keys = [f"k{i}" for i in range(40)]
    made, _ = work(keys, leases, folder)
    assert len(made) == 40 and len(listed) <= 2


def test_what_another_process_holds_is_waited_for(tmp_path):
    leases, folder = Leases(tmp_path / "leases"), tmp_path / "made"
    folder.mkdir()

    def slow() -> None:
        with leases.take("a"):
            time.sleep(0.7)
            (folder / "a").write_text("made by the other")

    process = FORK.Process(target=slow)
    process.start()
    while leases.holder("a") is None:
        time.sleep(0.01)
    made, _ = work(list("abc"), leases, folder)
    process.join(10)
    assert made == ["b", "c"]
    assert (folder / "a").read_text() == "made by the other"
