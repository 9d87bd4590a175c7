"""The site of several runs: every answer is a row, the links lead to the reports, names are data."""

from __future__ import annotations

import html
import re
from urllib.parse import unquote

import pytest
import synthetic
from browsing import Opened

from vlmrank import store
from vlmrank.cli import main
from vlmrank.errors import VlmrankError
from vlmrank.report.site import build_site, find_runs


def a_run(folder, **options):
    results = synthetic.write_results(folder, models=4, datasets=4, **options)
    (results / "report.html").write_text("<!doctype html><title>a report</title>")
    return results


def rows_of(page):
    text = page.read_text(encoding="utf-8").replace("<wbr>", "")
    return re.findall(r'<tr><th scope="row".*?</tr>', text, re.S)


def test_collects_the_answers_of_runs(tmp_path, capsys):
    for name in ("one", "two"):
        a_run(tmp_path / "runs" / name, targets=2 if name == "two" else 1)
    (tmp_path / "runs/two/ranking/target_1.to_label.csv").write_text("image\n")
    assert main(["site", str(tmp_path / "runs"), "--output", str(tmp_path / "site")]) == 0
    assert capsys.readouterr().out == f"Open {tmp_path / 'site/index.html'}\n"
    rows = rows_of(tmp_path / "site/index.html")
    assert len(rows) == 3
    for row in rows:
        run, task = re.search(r'href="([^/"]+)/report.html#task=([^"]+)"', row).groups()
        facts = store.read_json(tmp_path / "runs" / run / "ranking" / f"{task}.answer.json")
        assert facts["model"] in row and facts["verdict"] in row and "60 to 80%" in row
        assert (tmp_path / "site" / run / "report.html").is_file()
    assert (tmp_path / "site/two/ranking/target_1.to_label.csv").is_file()


def test_runs_of_one_name_stay_apart(tmp_path):
    runs = [a_run(tmp_path / place / "results") for place in ("a", "b")]
    build_site(runs, tmp_path / "site")
    assert sorted(path.parent.name for path in (tmp_path / "site").glob("*/report.html")) == ["results", "results-2"]


def test_names_are_data(tmp_path):
    task = "<script>alert(1)</script>&'\""[:20].replace("/", "_")
    run = a_run(tmp_path / 'a "run" <b>')
    for part in (".csv", ".answer.json"):
        (run / "ranking" / f"target_0{part}").rename(run / "ranking" / f"{task}{part}")
    page = build_site([run], tmp_path / "site", title=synthetic.HOSTILE)
    text = page.read_text(encoding="utf-8")
    assert "<script>alert" not in text and "<b>" not in re.sub(r"<style.*?</style>", "", text, flags=re.S)
    link = html.unescape(re.search(r'<a href="([^"]+)"', text).group(1))
    folder, anchor = link.split("/report.html#task=")
    assert (tmp_path / "site" / unquote(folder) / "report.html").is_file() and unquote(anchor) == task


def test_a_broken_run_is_a_row_with_its_reason(tmp_path):
    good, bad, empty = (a_run(tmp_path / name) for name in ("good", "bad", "empty"))
    (bad / "ranking/target_0.answer.json").write_text("{")
    (empty / "ranking/target_0.answer.json").unlink()
    rows = rows_of(build_site([good, bad, empty], tmp_path / "site"))
    assert len(rows) == 3
    assert sum("it holds no answer" in row for row in rows) == 1
    assert sum("target_0.answer.json" in row for row in rows) >= 1


@pytest.mark.parametrize(
    ("given", "said"),
    [("nowhere", "there is no such folder"), ("empty", "it holds no report.html, and no folder in it does")],
)
def test_folders_without_reports_are_refused(tmp_path, capsys, given, said):
    (tmp_path / "empty").mkdir()
    assert main(["site", str(tmp_path / given), "--output", str(tmp_path / "site")]) == 2
    assert capsys.readouterr().err.startswith(f"vlmrank site: {tmp_path / given}: {said}")


def test_a_site_does_not_lie_in_a_run(tmp_path):
    run = a_run(tmp_path / "results")
    with pytest.raises(VlmrankError, match="cannot lie in the results folder"):
        build_site([run], run / "site")
    assert find_runs([run, tmp_path]) == [run]


@pytest.mark.browser
def test_searches_from_disk(browser, tmp_path):
    a_run(tmp_path / "one", targets=2)
    page = build_site([tmp_path / "one"], tmp_path / "site")
    with Opened(browser, page, width=390) as opened:
        assert opened.page.inner_text("#count") == "2 answers"
        opened.page.fill("#find", "target_1 fair")
        assert opened.page.inner_text("#count") == "1 of 2 answers"
        assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        opened.page.locator("#runs tr:visible a").click()
        assert opened.page.title() == "a report"
