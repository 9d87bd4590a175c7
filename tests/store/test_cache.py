"""Finished results are found again by their content, whole or not at all."""

import errno
import os
import threading

import h5py
import numpy as np
import pytest

from vlmrank.store import Pair, ResultStore, read_json, read_pair, write_json, write_pair

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


def stored(tmp_path, **options):
    """A store that holds one pair, and the result that it was published from."""
    store, result = ResultStore(tmp_path / "store", **options), tmp_path / "result.h5"
    write_pair(result, a_pair())
    store.publish(IDENTITY, result)
    return store, result


def test_a_published_pair_is_found_and_copied(tmp_path):
    store, first = stored(tmp_path)
    assert not store.take("cd" + "0" * 62, tmp_path / "none.h5") and not (tmp_path / "none.h5").exists()
    assert store.holds(IDENTITY) and store.take(IDENTITY, tmp_path / "second.h5", model="m", dataset="d")
    assert (tmp_path / "second.h5").read_bytes() == first.read_bytes() == store.path(IDENTITY).read_bytes()
    np.testing.assert_array_equal(read_pair(tmp_path / "second.h5").blocks["block.0"], a_pair().blocks["block.0"])
    assert not list(tmp_path.rglob(".partial*"))


def test_no_write_to_a_result_reaches_the_store(tmp_path):
    store, first = stored(tmp_path)
    store.take(IDENTITY, tmp_path / "second.h5")
    before = store.path(IDENTITY).read_bytes()
    for path in (first, tmp_path / "second.h5"):
        assert not path.samefile(store.path(IDENTITY))
        with h5py.File(path, "r+", locking=False) as file:
            file["score"][0, 0] = 7.0
    assert store.path(IDENTITY).read_bytes() == before and store.holds(IDENTITY)


def test_an_entry_is_written_by_nobody(tmp_path):
    store, first = stored(tmp_path)
    assert store.path(IDENTITY).stat().st_mode & 0o222 == 0
    store.take(IDENTITY, tmp_path / "second.h5")
    assert (tmp_path / "second.h5").stat().st_mode & 0o200 and first.stat().st_mode & 0o200


def test_a_pair_under_another_name_says_its_own(tmp_path):
    store, _ = stored(tmp_path)
    assert store.take(IDENTITY, tmp_path / "other.h5", model="n", dataset="d")
    assert read_pair(tmp_path / "other.h5").attributes["model"] == "n"
    assert read_pair(store.path(IDENTITY)).attributes["model"] == "m"


def flip(path, position, bit=0):
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["zero", "half", "garbage", "tail"])
def test_half_a_file_is_dropped_with_one_line(tmp_path, damage):
    lines = []
    store, _ = stored(tmp_path, say=lines.append)
    path = store.path(IDENTITY)
    whole = path.read_bytes()
    path.chmod(0o644)
    content = {"zero": b"", "half": whole[: len(whole) // 2], "garbage": b"x" * len(whole), "tail": whole[:-1]}[damage]
    path.write_bytes(content)
    assert not store.holds(IDENTITY) and not store.take(IDENTITY, tmp_path / "out.h5")
    assert not path.exists() and not (tmp_path / "out.h5").exists()
    assert len(lines) == 1 and str(path) in lines[0] and "\n" not in lines[0]


def test_any_flipped_bit_is_seen(tmp_path):
    store, result = stored(tmp_path)
    path = store.path(IDENTITY)
    for position in np.random.default_rng(0).integers(0, path.stat().st_size, 100):
        flip(path, position, int(position) % 8)
        assert not store.holds(IDENTITY), position
        store.publish(IDENTITY, result)
    assert store.holds(IDENTITY)


def test_what_cannot_be_read_now_is_not_dropped(tmp_path, monkeypatch):
    lines = []
    store, _ = stored(tmp_path, say=lines.append)

    def fail(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(h5py, "File", fail)
        assert not store.holds(IDENTITY)
    assert store.holds(IDENTITY) and len(lines) == 1 and "Input/output error" in lines[0]


def test_an_entry_under_the_wrong_name_is_dropped(tmp_path):
    store, _ = stored(tmp_path)
    other = "ab1" + "0" * 61
    store.path(IDENTITY).rename(store.path(other))
    assert not store.holds(other) and not store.path(other).exists()


def test_json_results_are_checked_too(tmp_path):
    store, path = ResultStore(tmp_path / "store"), tmp_path / "a.json"
    write_json(path, {"acc1": 0.5, "status": "ok", "identity": IDENTITY})
    store.publish(IDENTITY, path)
    assert store.take(IDENTITY, tmp_path / "b.json") and read_json(tmp_path / "b.json")["acc1"] == 0.5
    entry = store.path(IDENTITY, ".json")
    entry.chmod(0o644)
    entry.write_text(entry.read_text().replace("0.5", "0.6"))
    assert not store.holds(IDENTITY, ".json") and not entry.exists()


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
    assert path.stat().st_mode & 0o040 and path.parent.stat().st_mode & 0o2020 == 0o2020


def test_many_writers_leave_one_whole_file(tmp_path):
    store, failed = ResultStore(tmp_path / "store"), []

    def write(number):
        try:
            for turn in range(5):
                own = tmp_path / f"{number}-{turn}.h5"
                write_pair(own, a_pair())
                store.publish(IDENTITY, own)
                assert store.holds(IDENTITY)
                assert store.take(IDENTITY, tmp_path / f"{number}-{turn}-copied.h5")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert [path.name for path in store.path(IDENTITY).parent.iterdir()] == [f"{IDENTITY}.h5"]
