"""One browser for all tests of a module."""

from __future__ import annotations

import browsing
import pytest


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if browsing.BROWSER is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    with playwright.sync_playwright() as player:
        found = player.chromium.launch(executable_path=browsing.BROWSER, args=browsing.ARGUMENTS)
        yield found
        found.close()
