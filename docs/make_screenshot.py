"""Photograph the first screen of a report: `python docs/make_screenshot.py results/report.html docs/images/report.png`.

Needs Chromium and the package playwright.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
ARGUMENTS += ["--disable-component-update", "--disable-sync"]
COLOURS = 128  # a palette keeps the file small


def photograph(report: Path, picture: Path, *, width: int, height: int, scheme: str, browser: str | None) -> None:
    """Write the first `height` pixels of the page as a PNG with a palette."""
    browser = browser or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("no Chromium found: install it (apt-get install chromium) or give --browser")
    with sync_playwright() as player:
        opened = player.chromium.launch(executable_path=browser, args=ARGUMENTS)
        page = opened.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.goto(report.resolve().as_uri())
        page.wait_for_timeout(500)
        shot = page.screenshot()
        opened.close()
    picture.parent.mkdir(parents=True, exist_ok=True)
    small = Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(picture, optimize=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1200)
    parser.add_argument("--height", type=int, default=1100)
    parser.add_argument("--scheme", choices=["light", "dark"], default="light")
    parser.add_argument("--browser", help="path of Chromium")
    options = parser.parse_args()
    photograph(
        options.report,
        options.picture,
        width=options.width,
        height=options.height,
        scheme=options.scheme,
        browser=options.browser,
    )
    print(f"{options.picture}: {options.picture.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
