"""Write ranking.csv, answer.json and report.html after each model, each atomically."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vlmrank.errors import UNTRIED
from vlmrank.published.shipped import Prior, published_tasks
from vlmrank.quickstart.given import Candidate
from vlmrank.quickstart.standing import Standing
from vlmrank.store import write_csv, write_json
from vlmrank.store.files import copy_file

QUICK = "quick"  # folder of the files behind the page
FACTS = ("family", "parameters", "image_parameters", "gflops")


class Pages:
    """The files of one run in its folder."""

    def __init__(self, folder: Path, target: str, settings: Mapping[str, Any]) -> None:
        self.folder, self.target, self.settings = folder, target, dict(settings)
        self.results = folder / QUICK
        self.models: list[str] = []

    def begin(self, candidates: Sequence[Candidate]) -> None:
        """Write a card for every model, marked as not tried."""
        self.models = [one.row.model for one in candidates]
        for one in candidates:
            facts = {name: one.facts.get(name) for name in FACTS}
            self.add_model({"model": one.row.model, **facts, "status": UNTRIED, "reason": "not tried"})

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / "report.html"

    def pair(self, model: str) -> Path:
        """The file of a model's predictions."""
        return self.results / "conductance" / model / f"{self.target}.h5"

    def add_model(self, card: Mapping[str, Any]) -> None:
        """Keep a model's card."""
        write_json(self.results / "models" / f"{card['model']}.json", dict(card))

    def add_target(self, card: Mapping[str, Any]) -> None:
        """Keep the card of the user's images."""
        write_json(self.results / "datasets" / f"{self.target}.json", card)

    def add_published(self, prior: Prior) -> None:
        """Keep the published accuracies as those of known tasks."""
        rows = [
            (model, task, value)
            for model, values in zip(prior.models, prior.accuracy, strict=True)
            for task, value in zip(published_tasks(), values, strict=True)
            if value == value
        ]
        table = pd.DataFrame(rows, columns=["model", "dataset", "acc1"]).assign(n=float("nan"), origin="published")
        write_csv(self.results / "accuracy.csv", table)

    def write(self, standing: Standing) -> None:
        """Rewrite the ranking and the page."""
        from vlmrank.report.build import PageOptions, build_report

        write_csv(self.results / "ranking" / f"{self.target}.csv", standing.table)
        write_json(self.results / "ranking" / f"{self.target}.answer.json", dict(standing.facts))
        self.put(standing)
        shown = PageOptions(self.settings, method=standing.facts["ranked_by"])
        build_report(self.results, self.report, page=shown, models=self.models)

    def put(self, standing: Standing, page: Path | None = None) -> None:
        """Write the ranking at the top of the folder, and copy `page` there if one is given."""
        write_csv(self.folder / "ranking.csv", standing.table)
        write_json(self.folder / "answer.json", dict(standing.facts))
        if page is not None:
            copy_file(page, self.report)
