"""Nothing on the page is cut, sticks out, lies over something else or breaks in the middle of a word, at any width."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsing import Opened, build

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.browser

FAULTS = (Path(__file__).parent / "layout.js").read_text(encoding="utf-8")
WIDTHS = (1440, 1024, 800, 600, 390)
PRINTED = 718  # pixels of an A4 page within margins of a centimetre
SIZES = {5: 5, 10: 10, 48: 24, 300: 40}  # models -> datasets


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The page for a number of models, built once."""
    made = {}

    def page(models: int) -> Path:
        if models not in made:
            options = {"models": models, "datasets": SIZES[models], "whole": True, "fused": models == 48}
            options |= {"only_target_pairs": models == 300, "failed": (3,) if models > 5 else ()}
            options |= {"targets": 2 if models == 48 else 1}
            made[models] = build(
                tmp_path_factory.mktemp("page"), page={"thumbnails": True, "config": {"seed": 0}}, **options
            )
        return made[models]

    return page


def unfold(opened: Opened) -> None:
    """Open everything that is folded, as a reader may."""
    page = opened.page
    page.evaluate("for (const one of document.querySelectorAll('main details')) one.open = true")
    page.locator("#table .why").first.click()
    opened.scroll_through()
    page.wait_for_timeout(300)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("models", SIZES)
def test_everything_can_be_read(browser, pages, models, width):
    with Opened(browser, pages(models), width=width) as opened:
        opened.scroll_through()
        assert opened.page.evaluate(FAULTS) == []  # as it opens
        unfold(opened)
        assert opened.page.evaluate(FAULTS) == []


@pytest.mark.parametrize("models", SIZES)
def test_everything_can_be_read_in_print(browser, pages, models):
    with Opened(browser, pages(models), width=PRINTED) as opened:
        unfold(opened)
        opened.page.emulate_media(media="print")
        opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        opened.page.wait_for_timeout(500)
        assert opened.page.evaluate(FAULTS) == []
