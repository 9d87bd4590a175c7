"""Whatever file behind a row changes, its fingerprint does; nothing else changes it."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from dataset_rows import prepared, put, tar
from tiny_zoo import make_model

from vlmrank.models.card import fetch_model
from vlmrank.workflow.fingerprint import fingerprint
from vlmrank.workflow.sheets import DatasetRow, ModelRow

OLD = 10**9 * 10**9  # 2001, in nanoseconds


def row(kind, path, **cells):
    return DatasetRow("d", "source", str(path), kind, **{name: str(value) for name, value in cells.items()})


def folder_of(tmp_path):
    put(tmp_path / "images", "cat/deep/deeper/a.png", "dog/a.png")
    put(tmp_path / "test", "cat/b.png", "dog/b.png")
    (tmp_path / "classes.yaml").write_text("classes: [cat, dog]\n")
    return row("folder", tmp_path / "images", test=tmp_path / "test", classes=tmp_path / "classes.yaml")


def list_of(tmp_path):
    put(tmp_path / "elsewhere", "a.png", "b.png")
    with (tmp_path / "list.csv").open("w") as file:
        csv.writer(file).writerows(
            [("path", "label"), ("elsewhere/a.png", "cat"), (tmp_path / "elsewhere/b.png", "dog")]
        )
    return row("csv", tmp_path / "list.csv")


def tars_of(tmp_path, path="set"):
    content = [(put(tmp_path / "x", "a.png"), Path(tmp_path / "x/a.png").read_bytes())][0][1]
    for number in range(2):
        tar(tmp_path / f"set/test/{number}.tar", [(f"s{number}", content, number)])
    (tmp_path / "set/test/nshards.txt").write_text("2")
    (tmp_path / "set/classnames.txt").write_text("cat\ndog\n")
    (tmp_path / "set/zeroshot_classification_templates.txt").write_text("a {c}\n")
    return row("webdataset", tmp_path / path)


def pattern_of(tmp_path):
    return tars_of(tmp_path, "set/test/{0..1}.tar")


def split_of(tmp_path):
    return tars_of(tmp_path, "set/test")


def model_of(tmp_path):
    make_model(tmp_path / "model", 0)
    return ModelRow("m", f"local-dir:{tmp_path / 'model'}")


def use(given):
    """Do what the job does with the row, up to a result that is good."""
    is_model = isinstance(given, ModelRow)
    card = fetch_model(given.model, given.architecture) if is_model else prepared(**given.values())
    assert card["status"] == "ok", card["reason"]


def opened(folder, action):
    """Files below a folder that an action reads, by their time of access, which native code changes as well."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        os.utime(path, ns=(OLD, path.stat().st_mtime_ns))
    action()
    return [path for path in files if path.stat().st_atime_ns != OLD]


def keeps_times_of_access(folder):
    (folder / "probe").write_text("x")
    return bool(opened(folder, (folder / "probe").read_text))


ROWS = [folder_of, list_of, tars_of, pattern_of, split_of, model_of]


@pytest.mark.parametrize("make", ROWS)
def test_every_file_that_is_read_changes_it(tmp_path, make):
    given = make(tmp_path)
    if not keeps_times_of_access(tmp_path):
        pytest.skip("this file system keeps no times of access")
    read = opened(tmp_path, lambda: use(given))
    assert len(read) > 1
    before = fingerprint(given)
    for path in read:
        facts = path.stat()
        for change in (b"x", b""):  # longer; then as long as before, with an older time
            content = path.read_bytes()
            path.write_bytes(content + change)
            os.utime(path, ns=(OLD, OLD if not change else facts.st_mtime_ns))
            assert fingerprint(given) != before, path
            path.write_bytes(content)
            os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        path.rename(path.with_name("away"))
        assert fingerprint(given) != before, path
        path.with_name("away").rename(path)
    assert fingerprint(given) == before


def test_a_file_more_or_less_changes_it_and_a_hidden_one_does_not(tmp_path):
    given = folder_of(tmp_path)
    before = fingerprint(given)
    (tmp_path / "images/cat/.DS_Store").write_text("x")
    assert fingerprint(given) == before
    put(tmp_path / "images", "cat/deep/deeper/b.png")
    assert fingerprint(given) != before


def test_links_are_followed_and_a_circle_ends(tmp_path):
    put(tmp_path / "real", "a.png")
    (tmp_path / "images/cat").mkdir(parents=True)
    (tmp_path / "images/cat/up").symlink_to(tmp_path / "images")
    (tmp_path / "images/cat/link").symlink_to(tmp_path / "real")
    (tmp_path / "images/cat/nowhere.png").symlink_to(tmp_path / "nothing")
    given = row("folder", tmp_path / "images")
    before = fingerprint(given)
    os.utime(tmp_path / "real/a.png", ns=(OLD, OLD))
    changed = fingerprint(given)
    assert changed != before
    put(tmp_path, "nothing")
    assert fingerprint(given) != changed


def test_what_the_workflow_makes_or_downloads_is_left_out(tmp_path):
    given = folder_of(tmp_path)
    assert fingerprint(given, made=lambda path: True) == fingerprint(row("webdataset", "hf-hub:org/name/test"))
    assert fingerprint(given, made=lambda path: path.endswith("images")) != fingerprint(given)


def test_a_list_that_cannot_be_read_is_left_to_its_job(tmp_path):
    (tmp_path / "list.csv").write_bytes(b"path\n\xff\xfe\n")
    assert fingerprint(row("csv", tmp_path / "list.csv"))
    assert fingerprint(row("csv", tmp_path / "none.csv"))


def test_clip_benchmarks_own_lists_count(tmp_path):
    put(tmp_path / "images", "0.png")
    plain, named = (row("folder", tmp_path / "images", classes=classes) for classes in ("", "clip-benchmark:mnist"))
    assert fingerprint(plain) != fingerprint(named)
