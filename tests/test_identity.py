"""Code hashes and identities."""

import os

import pytest

from vlmrank.errors import VlmrankError
from vlmrank.identity import code_hash, pair_identity

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
