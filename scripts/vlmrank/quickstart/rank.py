"""`vlmrank.rank`: from images to a model, in Python and on the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from textwrap import indent
from typing import Any

from vlmrank.errors import VlmrankError
from vlmrank.quickstart.given import read_budget, read_candidates, read_classes, read_images
from vlmrank.quickstart.pages import Pages
from vlmrank.quickstart.project import default_cache, placed_dataset, write_project
from vlmrank.quickstart.result import Result
from vlmrank.quickstart.stages import Stages, run_workflow
from vlmrank.quickstart.standing import Standing, with_untried
from vlmrank.store import read_csv, read_json
from vlmrank.text import human_bytes, nearest
from vlmrank.workflow.config import read_schema
from vlmrank.workflow.folder import workflow_folder
from vlmrank.workflow.sheets import DatasetRow, read_datasets

OUT = "ranking"


@dataclass(frozen=True)
class Options:
    """Options that are seldom needed.

    Attributes
    ----------
    cache : folder of downloaded weights; None for that of the Hugging Face hub.
    device : `auto`, `cpu` or `cuda`.
    seed : of the draw of the images.
    cores : for the workflow.
    profile : of the workflow, such as `slurm`; then the workflow computes the shortlist.
    published_only : stop after the published accuracies.
    say : called with each line of progress; None for silence.
    """

    cache: str | None = None
    device: str = "auto"
    seed: int = 0
    cores: int | str = "all"
    profile: str | None = None
    published_only: bool = False
    say: Callable[[str], None] | None = print


def rank(
    images: str | os.PathLike[str],
    classes: str | Sequence[str] | None = None,
    models: str | Sequence[str] | None = None,
    *,
    sources: str | os.PathLike[str] | None = None,
    budget: str | None = None,
    out: str | os.PathLike[str] = OUT,
    top: int | None = 10,
    **options: Any,
) -> Result:
    """Rank models for images of a task.

    First by published accuracies, at once; then by the predictions of a shortlist on the images, updated after each
    model; and if sources are given, by the full method.

    Parameters
    ----------
    images : a folder, a list (CSV, Parquet) or tar files; without labels.
    classes : names of the classes, or a file of them; without them, only published accuracies rank.
    models : limits of the number of parameters (`<=500M`), a models sheet, folders of models, names; default all of
        OpenCLIP's registry.
    sources : a datasets sheet whose sources are labelled; with it the workflow runs for the shortlist.
    budget : of downloads (`20GB`) or of time (`1h`).
    out : folder of sheets, configuration, ranking and report.
    top : length of the shortlist; None for all models.
    **options : fields of `Options`.

    Raises
    ------
    VlmrankError : an input is missing or cannot be used; one sentence.
    """
    how, folder = _options(options), Path(out).expanduser()
    say = how.say or (lambda line: None)
    target, names, limit = read_images(images), read_classes(classes), read_budget(budget)
    candidates, known = read_candidates(models, _schema("models")), _sources(sources, target)
    cache = str(Path(how.cache or default_cache()).expanduser().absolute())
    settings = {"results": "results", "cache": cache, "seed": how.seed, "conductance": {"device": how.device}}
    pages = Pages(folder, target.dataset, {**settings, "top": top, "budget": budget})
    stages = Stages(target, candidates, pages, limit, top, cache, how.device, how.seed, say)
    chosen = [candidates[place].row for place in stages.chosen.order]
    if not chosen:
        smallest = min((one.bytes for one in candidates if one.bytes), default=0)
        raise VlmrankError(f"budget: {budget} fits no model; the smallest of them has {human_bytes(smallest)}")
    row = write_project(folder, target, names, chosen, sources=known, settings=settings, profile=how.profile)
    stages.target = replace(
        row, classes=str(folder / row.classes) if isinstance(names, list) and names else row.classes
    )
    rows = {one.row.model: one.row for one in candidates}

    def result() -> Result:
        return Result(target.dataset, stages.standing.table, stages.standing.facts, folder, rows, cache)

    stages.published()
    if result().best:
        say(f"By published accuracy alone, before any download: {result().answer}")
        say(f"Report: {pages.report}")
    if not how.published_only:
        if how.profile is None:
            stages.predictions()
        if known or how.profile is not None:
            _whole_method(stages, how)
        say(result().answer)
        say(f"Report: {pages.report}")
    if result().code:
        say(f"Next, in Python:\n{indent(result().code, '  ')}")
    return result()


def _options(given: dict[str, Any]) -> Options:
    known = [field.name for field in fields(Options)]
    for name in given:
        if name not in known:
            hint = nearest(name, known) or f"There are {', '.join(known)}."
            raise VlmrankError(f"rank: there is no option {name!r}. {hint}")
    return Options(**given)


def _schema(name: str) -> dict[str, Any]:
    return read_schema(workflow_folder() / "schemas" / f"{name}.schema.yaml")


def _sources(sheet: str | os.PathLike[str] | None, target: DatasetRow) -> list[DatasetRow]:
    """The sources of a datasets sheet, with absolute paths."""
    if sheet is None:
        return []
    rows = [row for row in read_datasets(sheet, _schema("datasets")) if row.role == "source"]
    if any(row.dataset == target.dataset for row in rows):
        raise VlmrankError(
            f"{sheet}: a source is named {target.dataset!r}, as the folder of images: rename one of them"
        )
    return [placed_dataset(row) for row in rows]


def _whole_method(stages: Stages, how: Options) -> None:
    """Run the workflow for the shortlist; its ranking, if there is one, replaces the current one."""
    folder, target = stages.pages.folder, stages.target.dataset
    stages.say(f"The whole method for the shortlist, by the workflow in {folder}:")
    status = run_workflow(folder, cores=how.cores, profile=how.profile)
    ranking = folder / "results" / "ranking" / f"{target}.csv"
    page = folder / "results" / "report.html"
    if not ranking.exists() or not page.exists():
        raise VlmrankError(
            f"the workflow in {folder} did not come to a ranking (exit status {status}): see its lines above"
        )
    table, facts = read_csv(ranking), read_json(ranking.with_suffix("").with_suffix(".answer.json"))
    stages.take(Standing(with_untried(table, stages.prior, stages.untried), facts), page)
