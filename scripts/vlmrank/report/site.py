"""Collect the reports of several runs in one folder, with an index page that opens offline."""

from __future__ import annotations

import datetime
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import vlmrank
from vlmrank import store
from vlmrank.errors import VlmrankError
from vlmrank.report.build import read_template, script_hash, template_environment

PAGE = "report.html"


@dataclass(frozen=True)
class Entry:
    """One task of one run.

    Attributes
    ----------
    run : name of the run's folder in the site.
    task : name of the target.
    pick : recommended model, empty if none could be ranked.
    verdict : strong, fair, weak or none.
    accuracy : expected accuracy in words, empty if unknown.
    models : number of models in the ranking.
    date : day of the report, as YYYY-MM-DD.
    problem : why the run could not be read, else empty.
    """

    run: str
    task: str = ""
    pick: str = ""
    verdict: str = ""
    accuracy: str = ""
    models: int = 0
    date: str = ""
    problem: str = ""


def find_runs(folders: Sequence[str | Path]) -> list[Path]:
    """Results folders with a report: those given, or those one level below.

    Raises
    ------
    VlmrankError : a folder is missing or has no report.
    """
    found: list[Path] = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise VlmrankError(f"{folder}: there is no such folder")
        here = [folder] if (folder / PAGE).is_file() else sorted(path.parent for path in folder.glob(f"*/{PAGE}"))
        if not here:
            raise VlmrankError(f"{folder}: it holds no {PAGE}, and no folder in it does; give results folders of runs")
        found += [path for path in here if path.resolve() not in {one.resolve() for one in found}]
    return found


def entries_of(folder: Path, name: str) -> list[Entry]:
    """One entry per target of a run; for a run that cannot be read, one entry with the problem."""
    date = datetime.date.fromtimestamp((folder / PAGE).stat().st_mtime).isoformat()
    found = []
    for path in sorted((folder / "ranking").glob("*.answer.json")):
        task = path.name.removesuffix(".answer.json")
        try:
            facts = store.read_json(path)
            count = len(store.read_csv(path.with_name(f"{task}.csv")))
            low, high = facts.get("accuracy_low"), facts.get("accuracy_high")
            accuracy = "" if low is None or high is None else f"{100 * low:.0f} to {100 * high:.0f}%"
            pick, verdict = str(facts.get("model") or ""), str(facts.get("verdict") or "none")
        except (VlmrankError, ValueError, KeyError, TypeError, OSError) as error:
            found.append(Entry(name, task, date=date, problem=f"{type(error).__name__}: {error}"))
            continue
        found.append(Entry(name, task, pick, verdict, accuracy, count, date))
    return found or [Entry(name, date=date, problem="it holds no answer (ranking/*.answer.json)")]


def _names(folders: Sequence[Path]) -> list[str]:
    """A unique folder name for each run, without special characters."""
    names: list[str] = []
    for folder in folders:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip(".-") or "run"
        name, number = plain, 1
        while name in names or name == "index.html":
            number += 1
            name = f"{plain}-{number}"
        names.append(name)
    return names


def build_site(folders: Sequence[str | Path], output: str | Path, *, title: str = "Which model for which task") -> Path:
    """Copy the reports of runs into `output/<run>/` and write `output/index.html`, a table of their answers.

    Parameters
    ----------
    folders : results folders, or folders that contain them.
    output : folder of the site; existing files of the same names are replaced.
    title : heading of the page.

    Returns
    -------
    Path of the index.

    Raises
    ------
    VlmrankError : no report in a folder; `output` lies in one of the runs.
    """
    runs, output = find_runs(folders), Path(output)
    inside = [run for run in runs if output.resolve().is_relative_to(run.resolve())]
    if inside:
        raise VlmrankError(f"{output}: the site cannot lie in the results folder {inside[0]}; name another --output")
    entries: list[Entry] = []
    for run, name in zip(runs, _names(runs), strict=True):
        for file in (run / PAGE, *sorted((run / "ranking").glob("*.to_label.csv"))):
            with store.atomic(output / name / file.relative_to(run)) as partial:
                shutil.copyfile(file, partial)
        entries += entries_of(run, name)
    entries.sort(key=lambda entry: (entry.date, entry.task), reverse=True)
    script = read_template("site.js")
    page = (
        template_environment()
        .get_template("site.html.j2")
        .render(
            title=title,
            entries=entries,
            version=vlmrank.__version__,
            style=read_template("report.css"),
            script=script,
            script_hash=script_hash(script),
        )
    )
    with store.atomic(output / "index.html") as partial:
        partial.write_text(page, encoding="utf-8")
    return output / "index.html"
