"""The result of `vlmrank.rank`."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from vlmrank.answer.tables import sentence
from vlmrank.errors import OK, VlmrankError
from vlmrank.models.names import loading_lines
from vlmrank.workflow.sheets import ModelRow

SHOWN = 10  # rows of the ranking that a notebook shows
COLUMNS = ("rank", "model", "rank_low", "rank_high", "p_top5", "accuracy", "published", "status", "reason")


@dataclass(frozen=True)
class Result:
    """A ranking of models for the user's images.

    Attributes
    ----------
    target : name of the images.
    table : pandas table, one row per model, best first.
    facts : claims about the first model: verdict, expected accuracy and loss, the record on known tasks.
    folder : with the sheets, the configuration, the ranking and the report.
    rows : model -> row of the models sheet.
    cache : folder of downloaded weights.
    """

    target: str
    table: pd.DataFrame = field(repr=False)
    facts: Mapping[str, Any] = field(repr=False)
    folder: Path
    rows: Mapping[str, ModelRow] = field(repr=False)
    cache: str = field(repr=False, default="")

    @property
    def best(self) -> str | None:
        """Name of the recommended model; None if no model could be ranked."""
        return self.facts["model"]

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / "report.html"

    @property
    def code(self) -> str:
        """Python code that loads the best model; empty if there is none."""
        row = self.rows.get(self.best or "")
        return loading_lines(row.architecture, row.pretrained) if row else ""

    @property
    def answer(self) -> str:
        """The answer in one line."""
        if self.best is None:
            return f"{self.target}: no model could be ranked; the table gives the reason for each"
        why = f" ({self.facts['reason'].rstrip('.')})" if self.facts["verdict"] == "none" else ""
        return f"{self.target}: take {self.best} (by {self.facts['title']}); {sentence(self.facts)}{why}"

    def load(self, model: str | None = None, *, device: str = "cpu") -> tuple[Any, Any, Any]:
        """Load the best model, or another of the table: model, tokenizer, transform.

        Raises
        ------
        VlmrankError : there is no such model, or it cannot be loaded.
        """
        from vlmrank.zoo import load_model

        row = self.rows.get(model or self.best or "")
        if row is None:
            raise VlmrankError(f"{model or 'no model'}: it is not in the table" if model else "no model was ranked")
        loaded = load_model(row.architecture, row.pretrained or None, cache=self.cache, device=device, offline=False)
        return loaded.model, loaded.tokenizer, loaded.preprocess

    def plot(self) -> Any:
        """An Altair chart: rank and interval of the models that were ranked."""
        import altair as alt

        ranked = self.table[self.table["status"] == OK].head(30)
        base = alt.Chart(ranked).encode(y=alt.Y("model:N", sort=None, title=None))
        spans = base.mark_rule(strokeWidth=3, opacity=0.4).encode(
            x=alt.X("rank_low:Q", title="rank, with its 90 % interval (left is better)"), x2="rank_high:Q"
        )
        return (spans + base.mark_point(filled=True, size=60).encode(x="rank:Q")).properties(width=400)

    def _repr_html_(self) -> str:
        shown = self.table[[name for name in COLUMNS if name in self.table]].head(SHOWN)
        body = shown.to_html(index=False, na_rep="", float_format=lambda value: f"{value:.3g}", border=0)
        more = len(self.table) - len(shown)
        rest = f"<p>and {more} more models in <code>.table</code></p>" if more > 0 else ""
        return f"<p>{html.escape(self.answer)}</p>{body}{rest}<pre>{html.escape(self.code)}</pre>"
