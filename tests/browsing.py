"""Reports in a real browser: built from made-up results, opened offline, measured."""

from __future__ import annotations

import shutil
from pathlib import Path

import synthetic

from vlmrank.report.build import PageOptions, build_report

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
ARGUMENTS += ["--disable-component-update", "--disable-sync"]


def build(folder: Path, *, page: dict | None = None, **options) -> Path:
    results = synthetic.write_results(folder / "results", **options)
    shown = PageOptions(**(page or {}))
    return build_report(results, folder / "report.html", page=shown, benchmarks=folder / "benchmarks")


class Opened:
    """A page opened offline, with everything that went wrong on it."""

    def __init__(self, browser, path: Path, *, width: int = 1440, scheme: str = "light") -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, accept_downloads=True
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(120_000)  # what is tested is the page, not how busy the machine is
        self.troubles: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.troubles.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.troubles.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def scroll_through(self) -> None:
        """Come by every chart, so that all are drawn."""
        for chart in self.page.query_selector_all(".chart"):
            if not chart.evaluate("chart => chart.checkVisibility()"):
                continue  # folded away
            chart.scroll_into_view_if_needed()
            self.page.wait_for_timeout(50)
        drawn = (
            "[...document.querySelectorAll('.chart')].every(c => !c.checkVisibility() || c.textContent || c.firstChild)"
        )
        for _ in range(1200):
            if self.page.evaluate(drawn):
                return
            self.page.wait_for_timeout(100)
        raise AssertionError("a chart was not drawn in two minutes")

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *error) -> None:
        self.context.close()
        if error[0] is None:
            assert self.troubles == []
            assert [url for url in self.requests if not url.startswith(("file:", "data:", "blob:"))] == []
