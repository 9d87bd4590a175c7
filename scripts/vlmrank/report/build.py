"""Write the report page and the figures beside it."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
import vl_convert

import vlmrank
from vlmrank import store
from vlmrank.report import charts, sections
from vlmrank.report.answer import answer, because, cost_words
from vlmrank.report.collect import Run, collect
from vlmrank.report.payload import payload, safe_json
from vlmrank.report.quality import plural, run_checks

SCRIPTS = ("core.js", "ranking.js", "figures.js")


@dataclasses.dataclass(frozen=True)
class PageOptions:
    """What the page shows besides the results.

    Attributes
    ----------
    config : the settings of the run, printed in the page as they are given.
    title : heading of the page.
    thumbnails : embed the target images, small.
    method : name under which the ranking's own method stands in the evaluation; default: `vlmrank`, or what begins so.
    """

    config: Mapping[str, Any] | None = None
    title: str | None = None
    thumbnails: bool = False
    method: str | None = None


DEFAULT_PAGE = PageOptions()


def build_report(
    results: str | Path,
    report: str | Path,
    *,
    page: PageOptions = DEFAULT_PAGE,
    models: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    benchmarks: str | Path | None = None,
    figures: str | Path | None = None,
) -> Path:
    """Write one self-contained HTML page about everything in a results folder.

    Parameters
    ----------
    results : folder with the result files (`models/`, `datasets/`, `conductance/`, `alignment/`, `dcd/`, `ranking/`,
        `evaluation/`, `accuracy.csv`, `pairs.csv`); whatever is absent is left out of the page.
    report : the page to write.
    page : what it shows.
    models, datasets : names in the order of the sheets, so that leftovers of earlier sheets in the folder are not
        reported; default: what the folder holds.
    benchmarks : folder `<rule>/**/*.tsv` of Snakemake's benchmark files.
    figures : folder in which to write `ranking/<target>.svg`, `similarity.svg` and `evaluation.svg` as well.

    Returns
    -------
    Path of the page.
    """
    run = collect(results, models=models, datasets=datasets, benchmarks=benchmarks)
    text = render(run, page, results=Path(results))
    if figures is not None:
        charts.save_figures(run, figures)
    with store.atomic(report) as partial:
        partial.write_text(text, encoding="utf-8")
    return Path(report)


@functools.cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script; kept in the user's cache, since making it takes two seconds."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlmrank"
    place = folder / f"vega-{metadata.version('vl-convert-python')}.js"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return place.read_text(encoding="utf-8")
    script = vl_convert.javascript_bundle().replace("</script", "<\\/script")
    with contextlib.suppress(OSError), store.atomic(place) as partial:
        partial.write_text(script, encoding="utf-8")
    return script


def _source(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """The script's hash as a content security policy states it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def render(run: Run, page: PageOptions = DEFAULT_PAGE, *, results: Path = Path()) -> str:
    """The page as text; see `build_report` for the parameters."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "plural": plural,
        "count_words": sections.count_words,
        "digits": sections.digits,
        "percent": sections.percent,
    }
    checks = run_checks(run)
    answers = []
    for target in run.targets:
        found = answer(run, target, checks, method=page.method)
        answers.append({**_fields(found), "because": because(run, found)})
    content = payload(run) | {"charts": charts.specifications()}
    scripts = [_bundle(), *(_source(name) for name in SCRIPTS)]
    return environment.get_template("report.html.j2").render(
        title=page.title or sections.title(run),
        date=datetime.datetime.now().astimezone().strftime("%-d %B %Y, %H:%M"),
        version=vlmrank.__version__,
        facts=sections.facts(run),
        answers=answers,
        checks=checks,
        evaluation=sections.evaluation(run, page.method),
        similarity=bool(run.divergences),
        many=len(run.datasets) > 22,
        weighted=any(len(table) for table in run.weights.values()),
        profiles=bool(run.profiles),
        thumbnails=sections.thumbnails(run, results) if page.thumbnails else [],
        method=sections.method(run, page.config),
        style=_source("report.css"),
        scripts=scripts,
        script_hashes=" ".join(_hash(script) for script in scripts),
        data=safe_json(content),
    )


def _fields(found: Any) -> dict[str, Any]:
    """A dataclass as a mapping, one level deep, with the costs of its models in words."""
    fields = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    for name in ("pick", "second", "lighter"):
        if fields[name] is not None:
            pick = fields[name]
            fields[name] = {
                "rank": pick.rank,
                "interval": pick.interval,
                "bounded": pick.high is not None,
                "p_top5": pick.p_top5,
                "model": {
                    "label": pick.model.label,
                    "parameters": pick.model.parameters,
                    "image_parameters": pick.model.image_parameters,
                    "gflops": pick.model.gflops,
                    "cost": cost_words(pick.model),
                },
            }
    return fields
