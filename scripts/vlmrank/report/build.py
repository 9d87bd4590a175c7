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
from vlmrank.report import charts, images, sections, words
from vlmrank.report.answer import answer
from vlmrank.report.collect import Run, collect
from vlmrank.report.images import read_guesses
from vlmrank.report.names import GLOSSARY
from vlmrank.report.payload import payload, safe_json
from vlmrank.report.quality import run_checks
from vlmrank.report.record import claims, comparison, reliability, track_record
from vlmrank.text import plural

SCRIPTS = ("core.js", "ranking.js", "cost.js", "figures.js")


@dataclasses.dataclass(frozen=True)
class PageOptions:
    """What the page shows besides the results.

    Attributes
    ----------
    config : the settings of the run, printed on the page as given.
    title : heading of the page.
    thumbnails : embed thumbnails of the target's images with the best models' predictions.
    method : name of the ranking's own method in the evaluation; default: `vlmrank`, or a name that begins with it.
    """

    config: Mapping[str, Any] | None = None
    title: str | None = None
    thumbnails: bool = True
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
    models, datasets : names in the order of the sheets, so that results of earlier sheets in the folder are not
        reported; default: everything in the folder.
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
    """Vega, Vega-Lite and Vega-Embed as one script; kept in the user's cache, since building it takes two seconds."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlmrank"
    place = folder / f"vega-{metadata.version('vl-convert-python')}.js"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return place.read_text(encoding="utf-8")
    script = vl_convert.javascript_bundle().replace("</script", "<\\/script")
    with contextlib.suppress(OSError), store.atomic(place) as partial:
        partial.write_text(script, encoding="utf-8")
    return script


def read_template(name: str) -> str:
    """The text of a file in `templates/`."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def script_hash(script: str) -> str:
    """The script's hash, as written in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def template_environment() -> jinja2.Environment:
    """A template environment that escapes every value."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "plural": plural,
        "breakable": words.breakable,
        "count_words": words.count_words,
        "digits": words.digits,
        "percent": words.percent,
    }
    return environment


def render(run: Run, page: PageOptions = DEFAULT_PAGE, *, results: Path = Path()) -> str:
    """The page as text; see `build_report` for the parameters."""
    environment = template_environment()
    checks = run_checks(run)
    answers = [_for_template(run, target, page, results) for target in run.targets]
    record = next((found["answer"].record for found in answers), None) or track_record(run, page.method)
    content = payload(run) | {"charts": charts.specifications(), "reliability": reliability(run)}
    scripts = [_bundle(), *(read_template(name) for name in SCRIPTS)]
    return environment.get_template("report.html.j2").render(
        title=page.title or sections.title(run),
        date=datetime.datetime.now().astimezone().strftime("%-d %B %Y, %H:%M"),
        version=vlmrank.__version__,
        facts=sections.facts(run),
        answers=answers,
        checks=checks,
        evaluation=sections.evaluation(run),
        comparison=comparison(run, record),
        claims=claims(run),
        reliability=bool(content["reliability"]),
        similarity=bool(run.divergences),
        weighted=any(len(table) for table in run.weights.values()),
        profiles=bool(run.profiles),
        glossary=GLOSSARY,
        method=sections.method(run, page.config),
        style=read_template("report.css"),
        scripts=scripts,
        script_hashes=" ".join(script_hash(script) for script in scripts),
        data=safe_json(content),
    )


def _for_template(run: Run, target: str, page: PageOptions, results: Path) -> dict[str, Any]:
    """The answer for a target, its images and what would change it."""
    guesses = read_guesses(run, target, results)
    return {
        "answer": answer(run, target, guesses=guesses, method=page.method),
        "images": images.thumbnails(run, target, guesses) if page.thumbnails else [],
        "watchers": guesses.models,
        "sensitivity": sections.sensitivity(run, target),
        "to_label": run.to_label.get(target, ""),
    }
