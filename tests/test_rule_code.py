"""Every rule carries the hash of what its script computes with: else an edit in the library would not run it again."""

import ast
import re
from pathlib import Path

import pytest

from vlmrank.identity import ROOT, _closure

REPOSITORY = Path(__file__).resolve().parent.parent
# What moves and organises results without deciding about them.
PLUMBING = {"runlog", "store", "errors", "identity", "chunk", "resources", "claims"}
LOOPS = {("vlmrank.accuracy", "measure_accuracies")}
RULE = re.compile(r"\n    +code=code\((?P<entries>[^)]*)\),?\n.*?script:\n +\"\.\./scripts/(?P<script>\w+)\.py\"", re.S)
FOUND = [
    pytest.param(found["script"], tuple(re.findall(r'"([\w.:]+)"', found["entries"])), id=found["script"])
    for path in sorted((REPOSITORY / "rules").glob("*.smk"))
    for found in RULE.finditer(path.read_text())
]


def test_every_rule_with_a_script_has_a_code_hash():
    text = "".join(path.read_text() for path in (REPOSITORY / "rules").glob("*.smk"))
    without = {"fetch_table"}
    scripts = set(re.findall(r"\.\./scripts/(\w+)\.py", text)) - without
    assert {found.id for found in FOUND} == scripts
    assert scripts | without == {path.stem for path in (REPOSITORY / "scripts").glob("*.py")}


@pytest.mark.parametrize(("script", "entries"), FOUND)
def test_the_hash_covers_what_the_script_imports(script, entries):
    reached = _closure(entries, ROOT)
    missing = []
    for node in ast.walk(ast.parse((REPOSITORY / "scripts" / f"{script}.py").read_text())):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("vlmrank."):
            continue
        if node.module.split(".")[1] in PLUMBING:
            continue
        for alias in node.names:
            if (node.module, alias.name) in LOOPS:
                continue
            whole = (f"{node.module}.{alias.name}", "whole")
            exceptions = alias.name.endswith("Error")
            if (node.module, alias.name) not in reached and whole not in reached and not exceptions:
                missing.append(f"{node.module}:{alias.name}")
    assert not missing, f"rule of {script}: add to code(...): {missing}"
