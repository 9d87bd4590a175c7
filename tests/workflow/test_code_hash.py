"""The hash of the code behind a rule."""

import os

import pytest

from vlmrank.errors import VlmrankError
from vlmrank.workflow.code_hash import code_hash

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
        ("maths.py", "import numpy as np", "import numpy as np\nnp.seterr()"),
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


def test_equal_names_in_two_modules_are_both_seen(tmp_path):
    def package(first, second, use="f(x) - g(x)"):
        for name, text in {
            "__init__.py": "",
            "a.py": f"def f(x):\n    return {first}\n",
            "b.py": f"def f(x):\n    return {second}\n",
            "use.py": f"from vlmrank.a import f\nfrom vlmrank.b import f as g\n\n\ndef use(x):\n    return {use}\n",
        }.items():
            (tmp_path / name).write_text(text)
            os.utime(tmp_path / name, ns=(package.time, package.time))
        package.time += 10**9
        return code_hash("vlmrank.use:use", root=tmp_path)

    package.time = 10**18
    before = package("1", "2")
    assert package("1", "3") != before
    assert package("3", "2") != before
    assert package("2", "1") != before, "which of the two is called where counts"
    assert package("1", "2", "g(x) - f(x)") != before
    assert package("1", "2") == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('raise ValueError("negative")', 'raise ValueError("it is negative: " + str(x))'),
        ('logger.info("at work on %s", x)', 'logger.info("now on %s", x)'),
        ('say(f"{x} is done")', 'self.say(f"{x}: done", 2)'),
        ('say(f"{x} is done")', "# nothing"),
        ("x: int", "x: float"),
    ],
)
def test_what_is_only_said_does_not_count(package, old, new):
    text = """
import logging

logger = logging.getLogger(__name__)


def work(x: int, say) -> int:
    if x < 0:
        raise ValueError("negative")
    logger.info("at work on %s", x)
    say(f"{x} is done")
    return x
"""
    (package / "work.py").write_text(text)
    before = code_hash("vlmrank.work:work", root=package)
    edit(package, "work.py", old, new)
    assert code_hash("vlmrank.work:work", root=package) == before
    edit(package, "work.py", "x < 0", "x < 1")
    assert code_hash("vlmrank.work:work", root=package) != before


def test_the_same_function_by_another_way_of_import(package):
    before = code_hash("vlmrank.maths:used", root=package)
    edit(package, "maths.py", "from vlmrank import tools", "from vlmrank.tools import shift as move")
    edit(package, "maths.py", "tools.shift", "move")
    edit(package, "maths.py", "from vlmrank.helpers import scale\n", "")
    edit(package, "maths.py", "    return scale", "    from vlmrank.helpers import scale\n\n    return scale")
    assert code_hash("vlmrank.maths:used", root=package) == before


def test_what_an_object_prints_does_not_count(package):
    text = "class Thing:\n    size = 1\n\n    def __repr__(self):\n        return 'one'\n"
    (package / "work.py").write_text(text)
    before = code_hash("vlmrank.work:Thing", root=package)
    edit(package, "work.py", "'one'", "f'Thing of {self.size}'")
    assert code_hash("vlmrank.work:Thing", root=package) == before
    edit(package, "work.py", "size = 1", "size = 2")
    assert code_hash("vlmrank.work:Thing", root=package) != before
