"""Fixtures of the attacks: each names the canary and ends in time."""

import pytest
from canary import within


@pytest.fixture
def canary(tmp_path):
    """Must not exist when the test ends."""
    place = tmp_path / "canary"
    yield place
    assert not place.exists(), "code from a file ran"


@pytest.fixture(autouse=True)
def _in_time():
    with within(60):
        yield
