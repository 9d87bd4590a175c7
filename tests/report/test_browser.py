"""The report in a real browser: offline, quiet, sortable, readable by everybody, safe, fast, printable."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import synthetic
from browsing import Opened, build

from vlmrank import store

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.browser

CACHE = Path(__file__).parents[2] / "build" / "axe-core"


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core, through npm; it is not part of this repository."""
    script = CACHE / "axe.min.js"
    if not script.is_file():
        if shutil.which("npm") is None:
            pytest.skip("npm is not installed, so axe-core cannot be had")
        CACHE.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", "axe-core@4.10.3", "--silent", "--pack-destination", str(CACHE)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=CACHE)
        archives = sorted(CACHE.glob("axe-core-*.tgz"))
        if done.returncode or not archives:
            pytest.skip(f"npm could not fetch axe-core: {done.stderr[-200:]}")
        with tarfile.open(archives[-1]) as archive:
            script.write_bytes(archive.extractfile("package/axe.min.js").read())
    return script.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    options = {"models": 30, "datasets": 9, "targets": 2, "failed": (3,), "broken_pairs": ((2, 4),)}
    return build(folder, page={"thumbnails": True, "config": {"seed": 0}}, **options)


def models_shown(page) -> list[str]:
    return page.eval_on_selector_all(
        "#table tbody tr:not(.detail) th", "cells => cells.map(cell => cell.firstChild.textContent)"
    )


def ranking_of(report: Path, target: str):
    return store.read_csv(report.parent / "results" / "ranking" / f"{target}.csv")


def test_opens_offline_without_a_complaint(browser, report):
    with Opened(browser, report) as opened:
        opened.scroll_through()
        assert opened.page.locator("article.answer:visible").count() == 1
        for fold in opened.page.locator("details.fold > summary").all():
            fold.click()
        opened.scroll_through()
        assert opened.page.locator(".chart:visible svg").count() == 4
        assert len(models_shown(opened.page)) == 15


def test_sorts_by_mouse_and_keyboard(browser, report):
    with Opened(browser, report) as opened:
        page = opened.page
        table = ranking_of(report, "target_0").dropna(subset=["rank"])
        labels = list(table["model"])
        page.locator("#all").click()
        assert models_shown(page)[:29] == labels
        head = page.locator("th[data-key=rank]")
        assert head.get_attribute("aria-sort") == "ascending"
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        assert models_shown(page)[:29] == labels[::-1]
        assert len(models_shown(page)) == 30  # the failed one stays, last
        page.locator("th[data-key=model] button").focus()
        page.keyboard.press("Enter")
        assert page.locator("th[data-key=model]").get_attribute("aria-sort") == "ascending"
        assert head.get_attribute("aria-sort") is None
        assert models_shown(page) == sorted(models_shown(page), key=str.lower)


def test_searches_and_filters(browser, report):
    with Opened(browser, report) as opened:
        page = opened.page
        page.fill("#find", "openai vit")
        assert models_shown(page)
        assert all("openai" in name and "ViT" in name for name in models_shown(page))
        page.fill("#find", "truncated")
        assert models_shown(page) == ["RN50--openai"]
        page.fill("#find", "")
        page.select_option("#family", "ResNet")
        assert {name[:2] for name in models_shown(page)} == {"RN"}
        page.fill("#largest", "110")
        assert {name[:4] for name in models_shown(page)} == {"RN50"}
        page.fill("#find", "no such model")
        assert models_shown(page) == []
        assert "0 of 30 models match" in page.inner_text("#count")


def test_explains_a_place(browser, report):
    with Opened(browser, report) as opened:
        page = opened.page
        button = page.locator("#table .why").first
        button.focus()
        page.keyboard.press("Enter")
        assert button.get_attribute("aria-expanded") == "true"
        table = ranking_of(report, "target_0")
        weights = store.read_csv(report.parent / "results" / "ranking" / "target_0.weights.csv")
        mine = weights[weights["model"] == table["model"][0]].sort_values("weight", ascending=False)
        cells = page.locator(".detail tbody tr").first.locator("th, td").all_inner_texts()
        assert cells[0] == mine["source"].iloc[0]
        assert cells[1] == f"{100 * mine['weight'].iloc[0]:.0f}%"
        page.keyboard.press("Enter")
        assert page.locator(".detail").count() == 0


def test_changes_the_target(browser, report):
    with Opened(browser, report) as opened:
        page = opened.page
        page.select_option("#target", "1")
        first = ranking_of(report, "target_1")["model"][0]
        assert page.locator(".winner:visible").inner_text() == first
        assert models_shown(page)[0] == first
        assert "#task=target_1" in page.url
        page.reload()
        assert models_shown(page)[0] == first


def test_downloads_the_ranking(browser, report, tmp_path):
    with Opened(browser, report) as opened:
        with opened.page.expect_download() as download:
            opened.page.locator("#download").click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        assert path.name == "ranking-target_0.csv"
        assert [row["model"] for row in rows] == list(ranking_of(report, "target_0")["model"])
        assert rows[-1]["reason"] == "weights file is truncated"


def test_hostile_names_stay_text(browser, tmp_path):
    path = build(
        tmp_path,
        hostile=True,
        failed=(2,),
        broken_pairs=((1, 1),),
        page={"title": synthetic.HOSTILE, "thumbnails": True, "config": {"x": synthetic.HOSTILE}},
    )
    with Opened(browser, path, width=390) as opened:
        opened.scroll_through()
        page = opened.page
        for button in page.locator("#table .why").all():
            button.click()
        assert page.title() == synthetic.HOSTILE.replace("\u2028", " ") or "<script>alert" in page.title()
        assert "<script>alert('x')</script>" in page.inner_text("#table")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("width", [1440, 800, 390])
def test_nothing_sticks_out(browser, report, width):
    with Opened(browser, report, width=width) as opened:
        opened.scroll_through()
        assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1440, "dark"), (390, "light")])
def test_no_barrier_for_anybody(browser, report, axe, width, scheme):
    with Opened(browser, report, width=width, scheme=scheme) as opened:
        opened.scroll_through()
        opened.page.locator("#table .why").first.click()
        for summary in opened.page.locator("details > summary").all():
            if summary.is_visible():
                summary.click()
        opened.page.evaluate(axe)
        found = opened.page.evaluate("axe.run(document)")
        bad = [
            f"{rule['id']}: {rule['help']}: {node['html'][:200]} {node['failureSummary'][:300]}"
            for rule in found["violations"]
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"][:3]
        ]
        assert bad == []


def test_prints(browser, report):
    with Opened(browser, report) as opened:
        assert opened.page.pdf(format="A4")[:5] == b"%PDF-"


def test_changes_to_dark(browser, report):
    with Opened(browser, report) as opened:
        opened.scroll_through()
        light = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        opened.page.emulate_media(color_scheme="dark")
        opened.page.wait_for_timeout(200)
        assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") != light


@pytest.mark.parametrize(
    "options",
    [
        {"models": 1, "datasets": 3},
        {"models": 3, "datasets": 2, "failed": (0, 1, 2)},
        {"models": 4, "datasets": 4, "conductance": False},
        {"models": 4, "datasets": 4, "targets": 0},
        {"models": 4, "datasets": 4, "evaluation": False},
    ],
    ids=["one-model", "all-failed", "baselines", "no-target", "no-evaluation"],
)
def test_partial_runs_are_quiet(browser, tmp_path, options):
    with Opened(browser, build(tmp_path, **options)) as opened:
        opened.scroll_through()


def test_three_hundred_models_and_forty_datasets(browser, tmp_path):
    path = build(tmp_path, models=300, datasets=40, failed=(7,), only_target_pairs=True, blocks=24)
    assert path.stat().st_size < 5e6
    with Opened(browser, path) as opened:
        page = opened.page
        times = []
        for _ in range(3):  # the best of three: other work on this machine is not the page's fault
            page.reload()
            times.append(page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"))
        assert min(times) < 1000
        page.locator("#all").click()
        assert len(models_shown(page)) == 300
        times = page.evaluate(
            """keys => keys.map(key => { const start = performance.now();
            document.querySelector(`th[data-key=${key}] button`).click();
            document.body.offsetHeight; return performance.now() - start; })""",
            ["model", "low", "rank"],
        )
        assert min(times) < 1000
        opened.scroll_through()


def test_photographs_a_report_for_the_readme(browser, report, tmp_path):
    tool = Path(__file__).parents[2] / "docs" / "make_screenshot.py"
    picture = tmp_path / "images" / "report.png"
    subprocess.run([sys.executable, str(tool), str(report), str(picture)], check=True, capture_output=True)
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert picture.stat().st_size < 300_000
