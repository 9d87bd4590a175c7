"""Each private name of another package stands in one adapter, and the installed release still has it."""

import ast
import importlib
import inspect
from importlib import metadata

import architecture
import pytest

NAMES = [
    pytest.param(package, module, name, id=name)
    for package, module in architecture.ADAPTERS.items()
    for name in importlib.import_module(f"vlmrank.{module}").PRIVATE
]
DISTRIBUTIONS = {"open_clip": "open_clip_torch"}


@pytest.mark.parametrize(("package", "adapter", "name"), NAMES)
def test_the_installed_release_has_the_name(package, adapter, name):
    module, _, path = name.partition(":")
    first, *rest = path.split(".")
    release = f"{package} {metadata.version(DISTRIBUTIONS.get(package, package))}"
    gone = f"{release} has no {name} any more: scripts/vlmrank/{adapter.replace('.', '/')}.py needs another way"
    importlib.import_module("snakemake.api")  # before snakemake.workflow, which cannot be imported first
    try:
        found = getattr(importlib.import_module(module), first)
    except (ImportError, AttributeError):
        pytest.fail(gone)
    for attribute in rest:  # of a class, or set by its methods
        assert hasattr(found, attribute) or f"self.{attribute}" in inspect.getsource(found), gone


def test_a_name_that_is_gone_is_told_plainly():
    with pytest.raises(
        pytest.fail.Exception, match=r"^open_clip [\d.]+ has no open_clip.factory:_GONE any more: scripts"
    ):
        test_the_installed_release_has_the_name("open_clip", "models.open_clip_adapter", "open_clip.factory:_GONE")


@pytest.mark.parametrize("adapter", architecture.ADAPTERS.values())
def test_an_adapter_lists_all_that_it_touches(adapter):
    listed = {name.replace(":", ".").split(".")[-1] for name in importlib.import_module(f"vlmrank.{adapter}").PRIVATE}
    touched = set()
    for node in ast.walk(architecture.tree(architecture.modules()[adapter])):
        if isinstance(node, ast.ImportFrom):
            touched |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute):
            touched.add(node.attr)
    assert {name for name in touched if name.startswith("_") and not name.endswith("__")} <= listed
    assert listed <= touched
