"""What Snakemake's report opens on."""

from pathlib import Path

import pytest
import synthetic
import yte
from snakemake.report import _validate_flat_dict, render_metadata

from vlmrank.report.landing import RESULTS, landing

TEMPLATE = Path(__file__).parents[2] / "report" / "metadata.yaml"


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """The headings and values as Snakemake shows them."""
    folder = synthetic.write_results(tmp_path / "results", models=4, datasets=4, targets=2)
    monkeypatch.setenv(RESULTS, str(folder))

    def show():
        with TEMPLATE.open() as file:
            values = yte.process_yaml(file)
        assert _validate_flat_dict(values)
        render_metadata(values)
        return values

    return folder, show


def test_opens_on_the_answer(shown):
    folder, show = shown
    values = show()
    assert list(values.values()) == [4, 4]
    for number, heading in enumerate(values):
        first = (folder / f"ranking/target_{number}.csv").read_text().splitlines()[1].split(",")[1]
        assert heading.startswith(f"target_{number}: take {first}; evidence: fair; expected accuracy 60 to 80%")


def test_a_damaged_answer_is_said(shown):
    folder, show = shown
    (folder / "ranking/target_0.answer.json").write_text("{")
    assert "target_0.answer.json" in next(iter(show()))


def test_without_an_answer_it_says_so(tmp_path):
    assert "No answer yet" in next(iter(landing(tmp_path)))
