"""Finished results are found again by their content, whole or not at all."""

import os
import threading

import numpy as np
import pytest

from vlmrank.store import Pair, ResultStore, read_pair, write_pair

IDENTITY = "ab" + "0" * 62


def a_pair(**attributes):
    values = {"block.0": np.arange(6, dtype=np.float32).reshape(2, 3)}
    return Pair(
        blocks=values,
        score=np.ones((2, 2)),
        delta=np.zeros((2, 1)),
        pseudo_label=np.zeros(2, np.int64),
        image_id=["0", "1"],
        alphas=np.linspace(0, 1, 3),
        attributes={"model": "m", "dataset": "d", "status": "ok", "identity": IDENTITY, **attributes},
    )


def test_a_published_pair_is_linked(tmp_path):
    store = ResultStore(tmp_path / "store")
    first, second = tmp_path / "first.h5", tmp_path / "second.h5"
    assert not store.holds(IDENTITY)
    write_pair(first, a_pair())
    store.publish(IDENTITY, first)
    assert store.holds(IDENTITY) and first.samefile(store.path(IDENTITY))
    first.unlink()
    store.link(IDENTITY, first, model="m", dataset="d")
    assert first.samefile(store.path(IDENTITY))
    store.link(IDENTITY, second, model="m", dataset="d")
    assert not second.samefile(first), "a second place must not share its time of change with the first"
    np.testing.assert_array_equal(read_pair(second).blocks["block.0"], read_pair(first).blocks["block.0"])
    assert not list(tmp_path.rglob(".partial*"))


def test_a_pair_under_another_name_says_its_own(tmp_path):
    store = ResultStore(tmp_path / "store")
    write_pair(tmp_path / "first.h5", a_pair())
    store.publish(IDENTITY, tmp_path / "first.h5")
    (tmp_path / "first.h5").unlink()
    store.link(IDENTITY, tmp_path / "other.h5", model="n", dataset="d")
    assert read_pair(tmp_path / "other.h5").attributes["model"] == "n"
    assert read_pair(store.path(IDENTITY)).attributes["model"] == "m"


def test_a_copy_where_links_fail(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    store = ResultStore(tmp_path / "store")
    write_pair(tmp_path / "first.h5", a_pair())
    store.publish(IDENTITY, tmp_path / "first.h5")
    store.link(IDENTITY, tmp_path / "second.h5")
    assert read_pair(tmp_path / "second.h5").ok


@pytest.mark.parametrize("content", [b"", b"\x89HDF half"])
def test_half_a_file_is_not_held(tmp_path, content):
    store = ResultStore(tmp_path)
    store.path(IDENTITY).parent.mkdir()
    store.path(IDENTITY).write_bytes(content)
    assert not store.holds(IDENTITY)


def test_a_failed_pair_is_not_held(tmp_path):
    store = ResultStore(tmp_path)
    write_pair(store.path(IDENTITY), a_pair(status="failed", reason="why"))
    assert not store.holds(IDENTITY)


def test_a_store_of_a_group_stays_writable_for_the_group(tmp_path):
    root = tmp_path / "store"
    root.mkdir()
    root.chmod(0o2775)
    write_pair(tmp_path / "first.h5", a_pair())
    (tmp_path / "first.h5").chmod(0o644)
    ResultStore(root).publish(IDENTITY, tmp_path / "first.h5")
    path = ResultStore(root).path(IDENTITY)
    assert path.stat().st_mode & 0o020 and path.parent.stat().st_mode & 0o2020 == 0o2020


def test_many_writers_leave_one_whole_file(tmp_path):
    store, failed = ResultStore(tmp_path / "store"), []

    def write(number):
        try:
            for turn in range(5):
                own = tmp_path / f"{number}-{turn}.h5"
                write_pair(own, a_pair())
                store.publish(IDENTITY, own)
                assert store.holds(IDENTITY)
                store.link(IDENTITY, tmp_path / f"{number}-{turn}-linked.h5")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert [path.name for path in store.path(IDENTITY).parent.iterdir()] == [f"{IDENTITY}.h5"]
