"""The stages of `vlmrank rank`: published accuracies at once, a shortlist's predictions, the full method.

Each stage ends with complete files (`vlmrank.quickstart.pages`), so an interrupted run keeps its last ranking.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlmrank.datasets.draw import Draw
from vlmrank.datasets.prepare import DatasetCells, prepare_dataset
from vlmrank.datasets.prompts import CLIP_BENCHMARK, read_prompts
from vlmrank.datasets.sources import read_source
from vlmrank.errors import FAILED, OK, RUN_AGAIN, VlmrankError
from vlmrank.published.shipped import Prior, published_prior, told
from vlmrank.published.shortlist import Shortlist, shortlist
from vlmrank.quickstart.given import Budget, Candidate, check_lengths
from vlmrank.quickstart.pages import Pages
from vlmrank.quickstart.standing import Standing, by_predictions, by_published_accuracy, reason_untried
from vlmrank.store import Pair
from vlmrank.text import human_bytes, plural
from vlmrank.workflow.sheets import DatasetRow

SPARE = 200e6  # bytes that a download leaves free
IMAGES = 256  # predicted at most


@dataclass
class Stages:
    """One run; `standing` holds the current ranking.

    Attributes
    ----------
    target : row of the user's images, its `classes` a file.
    candidates : all models to choose from.
    pages : the files of the run.
    budget, top : limits of the shortlist.
    cache : folder of downloaded weights.
    device : `auto`, `cpu` or `cuda`.
    seed : of the draw of the images.
    say : called with each line of progress.
    """

    target: DatasetRow
    candidates: Sequence[Candidate]
    pages: Pages
    budget: Budget
    top: int | None
    cache: str
    device: str = "auto"
    seed: int = 0
    say: Callable[[str], None] = print
    prior: Prior = field(init=False)
    chosen: Shortlist = field(init=False)
    standing: Standing = field(init=False)
    pairs: dict[str, Pair] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    untried: dict[str, str] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        models = [one.row.model for one in self.candidates]
        self.prior = published_prior(models, draws=400)
        sizes = [one.bytes for one in self.candidates]
        self.chosen = shortlist(self.prior.place, sizes, top=self.top, budget=self.budget.bytes)
        self.untried = {models[place]: reason for place, reason in self.chosen.reasons.items()}

    def published(self) -> None:
        """The ranking by published accuracies, without torch and without any weight."""
        source = read_source(self.target.kind, self.target.path, labels=False)
        names = _class_names(self.target.classes)
        check_lengths(names)
        self.pages.begin(self.candidates)
        card = {"dataset": self.target.dataset, "role": "target", "domain": "", "classes": names, "status": OK}
        self.pages.add_target({**card, "reason": "", "images": [], "failed_images": [], "test": None, "n_test": 0})
        self.pages.add_published(self.prior)
        self.show(by_published_accuracy(self.prior, {}))
        known = f"{self.prior.known} of them with published accuracies on {self.prior.accuracy.shape[1]} tasks"
        self.say(f"{plural(len(source.items), 'image')}, {plural(len(self.candidates), 'model')}, {known}.")
        if told(self.prior.records):
            self.say(f"By the average rank over the other tasks, {told(self.prior.records)}.")

    def predictions(self) -> None:
        """The ranking by the predictions of the shortlist on the user's images; rewritten after each model."""
        draw = Draw(predictions=IMAGES, seed=self.seed)
        self.card = prepare_dataset(DatasetCells(**self.target.values()), draw, cache=self.cache)
        if self.card["status"] == FAILED:
            raise VlmrankError(self.card["reason"])
        self.pages.add_target(self.card)
        for note in self.card["notes"]:
            self.say(f"  {note}")
        if not self.card["classes"]:
            self.say("  Without class names nothing can be predicted, so published accuracies rank: name --classes.")
            return
        started, order = time.monotonic(), [self.candidates[place] for place in self.chosen.order]
        self.say(f"Trying {plural(len(order), 'model')}, the most promising first{_download(self.chosen.bytes)}.")
        for number, one in enumerate(order, 1):
            name, limit = one.row.model, self.budget.seconds
            if limit is not None and time.monotonic() - started > limit:
                why = f"the budget of {limit:.0f} s was spent"
                self.untried |= {
                    late.row.model: reason_untried(self.prior, late.row.model, why) for late in order[number - 1 :]
                }
                self.say(f"  {plural(len(order) - number + 1, 'model')} not tried: {why}.")
                break
            begun = time.monotonic()
            problem = self.try_model(one)
            self.show(self.ranked())
            took = (
                f"in {time.monotonic() - begun:.1f} s" if not problem else self.untried.get(name, f"FAILED: {problem}")
            )
            self.say(f"  {number} of {len(order)}  {name} {took}; {self.leader()}")
        self.show(self.ranked())

    def try_model(self, one: Candidate) -> str:
        """Fetch a model and predict with it; return why it could not be used, or an empty text."""
        from vlmrank.models.card import fetch_model
        from vlmrank.quickstart.predict import predicted_pair

        row = one.row
        problem = self.no_room(one)
        if not problem:
            card = fetch_model(
                row.model,
                row.architecture,
                row.pretrained or None,
                cache=self.cache,
                family=row.family or None,
                tokenizer=row.tokenizer,
                average=row.weights == "ema",
            )
            self.pages.add_model(card)
            problem = card["reason"] if card["status"] == FAILED else ""
        if not problem:
            pair = predicted_pair(card, self.card, self.pages.pair(row.model), cache=self.cache, device=self.device)
            problem = "" if pair.ok else pair.attributes["reason"]
            if not problem:
                self.pairs[row.model] = pair
        if problem and RUN_AGAIN in problem:  # not the model's fault
            self.untried[row.model] = f"not tried: {problem}"
        elif problem:
            self.failed[row.model] = problem
        return problem

    def no_room(self, one: Candidate) -> str:
        """Why a download does not fit on the disk, or an empty text."""
        from vlmrank.workflow.downloads import check_row

        found = check_row(one.row, cache=self.cache)
        if found.state != "to download" or not found.bytes:
            return ""
        place = Path(self.cache).absolute()
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        if free >= found.bytes + SPARE:
            return ""
        room = f"the disk of {self.cache} has {human_bytes(free)} free"
        return f"its {human_bytes(found.bytes)} do not fit: {room}; {RUN_AGAIN} where there is more"

    def ranked(self) -> Standing:
        """The ranking from what is known now."""
        return by_predictions(self.prior, self.pairs, failed=self.failed, untried=self.untried, seed=self.seed)

    def show(self, standing: Standing) -> None:
        """Make a ranking the current one and write it."""
        self.standing = standing
        self.pages.write(standing)

    def take(self, standing: Standing, page: Path) -> None:
        """Make the workflow's ranking and page the current ones."""
        self.standing = standing
        self.pages.put(standing, page)

    def leader(self) -> str:
        """The best model so far."""
        best = self.standing.facts["model"]
        return f"take {best} (by {self.standing.facts['title']})" if best else "no model can be ranked yet"


def _class_names(classes: str) -> Sequence[str]:
    return read_prompts(classes).classes if classes and not classes.startswith(CLIP_BENCHMARK) else []


def _download(size: float) -> str:
    return f": about {human_bytes(size)} to download" if size else ""


def run_workflow(folder: Path, *, cores: int | str = "all", profile: str | None = None) -> int:
    """Run the installed workflow in a folder that `write_project` wrote; return its exit status."""
    how = ["--profile", profile] if profile else ["--cores", str(cores)]
    return subprocess.run([sys.executable, "-m", "snakemake", *how], cwd=folder, check=False).returncode
