"""Code hashes, identities and the result store."""

import os
import threading

import numpy as np
import pytest

from vlmrank.errors import VlmrankError
from vlmrank.identity import ResultStore, code_hash, pair_identity
from vlmrank.store import Pair, read_pair, write_pair

PACKAGE = {
    "__init__.py": '__version__ = "1"\n',
    "maths.py": """
import numpy as np
from vlmrank.helpers import scale
from vlmrank import tools

LIMIT = 3


def used(x):
    \"\"\"Prose.\"\"\"
    return scale(x) + tools.shift(x) + LIMIT


def unused(x):
    return -x
""",
    "helpers.py": "def scale(x):\n    return 2 * x\n\n\ndef plot(x):\n    return x\n",
    "tools.py": "def shift(x):\n    return deep(x)\n\n\n"
    "def deep(x):\n    return x + 1\n\n\ndef other():\n    return 0\n",
    "report/__init__.py": "",
    "report/build.py": "from vlmrank.maths import unused\n\n\ndef build():\n    return unused(1)\n",
    "report/page.html": "<p>",
    "lists.py": "KNOWN = {}\n\n\ndef register(f):\n    KNOWN[f.__name__] = f\n    return f\n\n\n"
    "@register\ndef first():\n    return 1\n\n\ndef names():\n    return list(KNOWN)\n",
    "loop_a.py": "from vlmrank import loop_b\n\n\ndef go():\n    return loop_b\n",
    "loop_b.py": "from vlmrank import loop_a\n\n\ndef go():\n    return loop_a\n",
}


@pytest.fixture
def package(tmp_path):
    for name, text in PACKAGE.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def edit(package, name, old, new):
    path = package / name
    assert old in path.read_text()
    before = path.stat().st_mtime_ns
    path.write_text(path.read_text().replace(old, new))
    os.utime(path, ns=(before + 10**9, before + 10**9))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("maths.py", "+ LIMIT", "- LIMIT"),
        ("maths.py", "LIMIT = 3", "LIMIT = 4"),
        ("helpers.py", "2 * x", "3 * x"),
        ("tools.py", "x + 1", "x + 2"),
        ("maths.py", "import numpy as np", "import numpy as np\nprint()"),
    ],
)
def test_an_edit_that_is_reached_changes_the_hash(package, name, old, new):
    before = code_hash("vlmrank.maths:used", root=package)
    edit(package, name, old, new)
    assert code_hash("vlmrank.maths:used", root=package) != before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("maths.py", "return -x", "return +x"),
        ("maths.py", "Prose.", "Better prose."),
        ("maths.py", "LIMIT = 3", "# a comment\nLIMIT  =  3"),
        ("helpers.py", "    return x\n", "    return 5\n"),
        ("tools.py", "return 0", "return 1"),
        ("__init__.py", '"1"', '"2"'),
        ("report/build.py", "unused(1)", "unused(2)"),
    ],
)
def test_an_edit_that_is_not_reached_does_not(package, name, old, new):
    before = code_hash("vlmrank.maths:used", root=package)
    edit(package, name, old, new)
    assert code_hash("vlmrank.maths:used", root=package) == before


def test_a_package_counts_with_its_templates(package):
    for name, old, new in (
        ("report/page.html", "<p>", "<b>"),
        ("report/build.py", "(1)", "(2)"),
        ("maths.py", "-x", "+x"),
    ):
        before = code_hash("vlmrank.report", root=package)
        edit(package, name, old, new)
        assert code_hash("vlmrank.report", root=package) != before, name


def test_a_registered_function_counts_though_nobody_names_it(package):
    before = code_hash("vlmrank.lists:names", root=package)
    edit(package, "lists.py", "return 1", "return 2")
    assert code_hash("vlmrank.lists:names", root=package) != before


def test_modules_that_import_each_other_end(package):
    assert code_hash("vlmrank.loop_a", root=package)


@pytest.mark.parametrize("entry", ["vlmrank.none", "vlmrank.maths:none"])
def test_an_entry_that_does_not_exist(package, entry):
    with pytest.raises(VlmrankError):
        code_hash(entry, root=package)


MODEL = {
    "model": "m",
    "architecture": "local-dir:x",
    "weights_sha256": "w",
    "config_sha256": "c",
    "preprocess": {"size": 64},
}
DATASET = {
    "dataset": "d",
    "images": [{"id": "0", "path": "p", "sha256": "s", "label": -1}],
    "classes": ["a"],
    "templates": ["{c}"],
}
OPTIONS = {"points": 16, "device": "auto", "batch": "auto"}


def changed(mapping, **values):
    return {**mapping, **values}


@pytest.mark.parametrize(
    "arguments",
    [
        (changed(MODEL, weights_sha256="v"), DATASET, OPTIONS, "code"),
        (changed(MODEL, config_sha256="v"), DATASET, OPTIONS, "code"),
        (changed(MODEL, preprocess={"size": 32}), DATASET, OPTIONS, "code"),
        (MODEL, changed(DATASET, classes=["b"]), OPTIONS, "code"),
        (MODEL, changed(DATASET, templates=["a {c}"]), OPTIONS, "code"),
        (MODEL, changed(DATASET, images=[changed(DATASET["images"][0], sha256="t")]), OPTIONS, "code"),
        (MODEL, DATASET, changed(OPTIONS, points=8), "code"),
        (MODEL, DATASET, OPTIONS, "other"),
    ],
)
def test_everything_that_decides_changes_the_identity(arguments):
    assert pair_identity(*arguments) != pair_identity(MODEL, DATASET, OPTIONS, "code")


@pytest.mark.parametrize(
    "arguments",
    [
        (changed(MODEL, model="n", architecture="local-dir:y"), DATASET, OPTIONS, "code"),
        (MODEL, changed(DATASET, dataset="e", images=[changed(DATASET["images"][0], path="q")]), OPTIONS, "code"),
        (MODEL, DATASET, changed(OPTIONS, device="cuda", batch=4), "code"),
    ],
)
def test_names_places_and_devices_do_not(arguments):
    assert pair_identity(*arguments) == pair_identity(MODEL, DATASET, OPTIONS, "code")


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
