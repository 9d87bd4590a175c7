"""Every rule carries the hash of what its script computes with: else an edit in the library would not run it again."""

import ast
import os
import re
import shutil
from pathlib import Path

import pytest

from vlmrank.workflow.code_hash import NOT_FOLLOWED, ROOT, code_hash, reached

REPOSITORY = Path(__file__).resolve().parents[2]
# What moves and organises results without deciding about them.
PLUMBING = {
    "errors",
    "store.identities",
    "store.crashes",
    "store.leases",
    "store.processes",
    "store.share_out",
    "store.limits",
    "jobs.compute_conductance",
    "jobs.measure_accuracy",
    "jobs.embed_peers",
    "jobs.pool",
    "workflow.job_log",
    "workflow.outcome",
    "workflow.resources",
}
LOOPS = set()
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
    covered = reached(*entries)
    missing = []
    for node in ast.walk(ast.parse((REPOSITORY / "scripts" / f"{script}.py").read_text())):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("vlmrank."):
            continue
        if node.module.removeprefix("vlmrank.") in PLUMBING:
            continue
        for alias in node.names:
            if (node.module, alias.name) in LOOPS or alias.name in NOT_FOLLOWED:
                continue
            exceptions = alias.name.endswith("Error")
            if not exceptions and not reached(f"{node.module}:{alias.name}") <= covered:
                missing.append(f"{node.module}:{alias.name}")
    assert not missing, f"rule of {script}: add to code(...): {missing}"


# --- edits of a copy of the package -----------------------------------------------------------------------------------

DECODING = {"prepare_dataset", "compute_conductance", "measure_accuracy", "embed_peers"}
GPU = DECODING - {"prepare_dataset"}


@pytest.fixture
def package(tmp_path):
    return Path(shutil.copytree(ROOT, tmp_path / "vlmrank", ignore=shutil.ignore_patterns("__pycache__")))


def hashes(package, rename=lambda entry: entry):
    return {found.id: code_hash(*map(rename, found.values[1]), root=package) for found in FOUND}


@pytest.fixture(scope="module")
def before():
    return hashes(ROOT)


def changed(package, before):
    after = hashes(package)
    return {rule for rule in after if after[rule] != before[rule]}


def save(path, tree):
    modified = path.stat().st_mtime_ns
    path.write_text(ast.unparse(tree))
    os.utime(path, ns=(modified + 10**9, modified + 10**9))


def edit_function(package, name, code):
    """Put a statement at the beginning of the one function of that name."""
    found = 0
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name == name:
                node.body[1:1] = ast.parse(code).body  # behind the docstring
                save(path, tree)
                found += 1
    assert found == 1, f"{found} functions are called {name}"


@pytest.mark.parametrize(
    ("function", "rules"),
    [
        ("chebyshev_nodes", {"compute_conductance"}),
        ("read_image", DECODING | {"build_report"}),  # its thumbnails
        ("write_pair", {"compute_conductance"}),
        ("load_from_card", GPU),
        ("measure_accuracy", {"measure_accuracy"}),
        ("hub_file", {"fetch_model", "prepare_dataset"}),
        ("ranking_rows", {"rank_models", "evaluate_methods"}),
    ],
)
def test_an_edit_runs_exactly_the_rules_that_depend_on_it(package, before, function, rules):
    edit_function(package, function, "something = 1")
    assert changed(package, before) == rules


def test_the_text_of_messages_docstrings_and_comments_runs_nothing(package, before):
    edited = 0
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                for arg in node.exc.args:
                    for part in ast.walk(arg):
                        if isinstance(part, ast.Constant) and isinstance(part.value, str):
                            part.value += "reworded"
                            edited += 1
            elif isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
                node.body[0].value.value += "reworded"
                edited += 1
        save(path, tree)
    assert edited > 500
    assert changed(package, before) == set()


@pytest.mark.parametrize("rule", sorted(GPU))
def test_no_gpu_job_depends_on_the_network(rule):
    entries = next(found.values[1] for found in FOUND if found.id == rule)
    of_hub = {name for module, name in reached(*entries) if module.split(".")[-1] in ("hub", "weights")}
    assert of_hub <= {"hub_cache"}, "hub_cache says where files are and keeps libraries off the network"


class Move(ast.NodeTransformer):
    """Rewrite the imports of moved modules."""

    def __init__(self, moved):
        self.moved = moved

    def visit_ImportFrom(self, node):
        if (node.module or "").split(".")[0] != "vlmrank":
            return node
        statements = []
        for alias in node.names:
            new = self.moved.get(f"{node.module}.{alias.name}")
            if new:
                parent, _, name = new.rpartition(".")
                statements.append(ast.ImportFrom(parent, [ast.alias(name, alias.asname or alias.name)], 0))
            else:
                statements.append(ast.ImportFrom(self.moved.get(node.module, node.module), [alias], 0))
        return statements


def test_moving_and_renaming_every_module_runs_nothing(package, before):
    modules = {
        ".".join(("vlmrank", *path.relative_to(package).with_suffix("").parts)): path
        for path in package.rglob("*.py")
        if path.stem != "__init__"
    }
    moved = {}
    for name, path in modules.items():
        inside = name.count(".") > 1  # in a package, which a rule may name as a whole
        moved[name] = f"{name}_renamed" if inside else f"vlmrank.moved.{path.stem}_renamed"
    (package / "moved").mkdir()
    (package / "moved" / "__init__.py").touch()
    for path in list(package.rglob("*.py")):
        save(path, ast.fix_missing_locations(Move(moved).visit(ast.parse(path.read_text()))))
    for name, path in modules.items():
        path.rename(package.joinpath(*moved[name].split(".")[1:]).with_suffix(".py"))

    def rename(entry):
        module, _, name = entry.partition(":")
        return f"{moved.get(module, module)}:{name}" if name else moved.get(module, module)

    assert hashes(package, rename) == before
