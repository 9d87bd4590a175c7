"""What holds for every test."""

import os

import pytest


@pytest.fixture(autouse=True)
def _same_environment():
    """A test that reads the workflow in this process sets variables; the next test must not see them."""
    before = dict(os.environ)
    yield
    after = dict(os.environ)
    os.environ.update(before)
    for name in after.keys() - before.keys():
        del os.environ[name]
