"""The forms that are tried on the bench do what their names say, on a zoo whose answer is known."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import idea_forms
import ideas

from vlmrank.ranking import percentile_ranks


@pytest.fixture
def zoo():
    """Two kinds of task on which opposite models are good; the divergence tells the kinds apart."""
    rng = np.random.default_rng(0)
    kind = np.arange(12) % 2
    skill = np.linspace(0.2, 0.8, 9)
    accuracy = np.where(kind == 0, skill[:, None], skill[::-1, None]) + rng.normal(size=(9, 12)) / 50
    divergence = np.abs(kind[:, None] - kind[None, :]) + rng.uniform(size=(9, 12, 12)) / 10
    return SimpleNamespace(
        accuracy=accuracy,
        ranks=percentile_ranks(accuracy),
        groups=np.arange(12),
        targets=np.arange(12),
        clusters=np.arange(12) // 2,
        divergence=lambda *_: divergence,
        sources=lambda target: np.delete(np.arange(12), target),
    )


@pytest.mark.parametrize("form", ["weighted", "interpolated", "low_rank"])
def test_a_divergence_that_tells_the_kinds_apart_finds_the_best_model(zoo, form):
    score = {
        "weighted": ideas.weighted(zoo, zoo.divergence(), **ideas.SHIPPED),
        "interpolated": idea_forms.interpolated(zoo, zoo.divergence()),
        "low_rank": idea_forms.low_rank(zoo, zoo.divergence()),
    }[form]
    for target in zoo.targets:
        assert abs(np.argmax(score(target)) - np.argmax(zoo.accuracy[:, target])) <= 1


def test_a_positive_difference_is_better_whatever_the_metric(zoo, tmp_path):
    table = ideas.Table()
    table.add(zoo, "idea", "average", ideas.average(zoo))
    table.add(zoo, "idea", "truth", lambda target: zoo.accuracy[:, target], "average")
    table.write(tmp_path / "ideas.csv")
    rows = pd.read_csv(tmp_path / "ideas.csv").set_index(["form", "metric"])
    assert (rows.loc["truth", "difference"] > 0).all()
    assert rows.loc[("truth", "ndcg_at_5"), "mean"] == 1 and rows.loc[("truth", "regret_at_1"), "mean"] == 0
    assert (rows.loc["truth", "ci_low"] <= rows.loc["truth", "difference"]).all()
    page = tmp_path / "page.md"
    page.write_text(f"before\n{ideas.MARKS[0]}\nold\n{ideas.MARKS[1]}\nafter\n")
    ideas.write_page(pd.read_csv(tmp_path / "ideas.csv"), page)
    assert "| truth | 1.000 | +" in page.read_text() and "old" not in page.read_text()
    assert page.read_text().endswith("after\n")


def test_a_direction_between_right_and_wrong_is_learned_from_what_may_be_seen():
    rng = np.random.default_rng(1)
    right = rng.integers(2, size=200).astype(float)
    flat = rng.normal(size=(200, 6)) + 2 * right[:, None] * np.eye(6)[0]
    seen = np.arange(200) < 150
    good, bad = (rng.normal(size=(40, 6)) + 2 * share * np.eye(6)[0] for share in (1, 0))
    inverse = np.linalg.inv(flat @ flat.T + 0.1 * np.eye(200))
    known, y = flat[seen], right[seen] - right[seen].mean()
    weights = np.linalg.solve(known.T @ known + 0.1 * np.eye(6), known.T @ y)  # the primal form, on the seen rows alone
    expected = good.mean(axis=0) @ weights + right[seen].mean()
    assert idea_forms._ridge(inverse, flat, right, seen, good) == pytest.approx(expected, abs=1e-8)
    for estimate in (
        lambda own: idea_forms._ridge(inverse, flat, right, seen, own),
        lambda own: idea_forms._means(flat, right, seen, own),
        lambda own: idea_forms._nearest(idea_forms.unit(flat), right, seen, own, 20),
    ):
        assert estimate(good) > estimate(bad) + 0.1
