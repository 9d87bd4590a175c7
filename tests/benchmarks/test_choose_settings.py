"""The page of choices: everything that is tried gets a finite figure, and the page is written between its marks."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vlmrank.store import Pair, write_pair

PATH = Path(__file__).parents[2] / "benchmarks" / "choose_settings.py"
DATASETS = ["cats", "cells", "digits", "dogs"]


@pytest.fixture
def bench(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for model in range(7):
        for dataset in DATASETS:
            pair = Pair(
                blocks={f"b{block}": rng.normal(size=(8, 5)) for block in range(3)},
                image_id=[str(index) for index in range(8)],
                logits=rng.normal(size=(8, 3)),
                embedding=rng.normal(size=(8, 6)),
                attributes={"status": "ok"},
            )
            write_pair(tmp_path / "conductance" / f"m{model}" / f"{dataset}.h5", pair)
            rows.append((f"m{model}", dataset, rng.random(), 100))
    pd.DataFrame(rows, columns=["model", "dataset", "acc1", "n"]).to_csv(tmp_path / "accuracy.csv", index=False)
    (tmp_path / "splits.yaml").write_text("choose: [cats, dogs]\nreport: [cells, digits]\n")
    return tmp_path


def test_the_page_is_written_between_its_marks(bench, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("choose_settings", PATH)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "choose_settings", module)
    spec.loader.exec_module(module)
    page = bench / "choices.md"
    page.write_text(f"before\n{module.MARKS[0]}\nold\n{module.MARKS[1]}\nafter\n")
    found = [module.look_at_model(path, datasets=DATASETS, images=4, draws=1, seed=0) for path in bench.glob("*/m*")]

    class Inline:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def map(self, _look, _folders, **_options):
            return found

    monkeypatch.setattr(module, "get_context", lambda _: type("Context", (), {"Pool": lambda *_: Inline()}))
    arguments = {"--results": bench, "--accuracy": bench / "accuracy.csv", "--splits": bench / "splits.yaml"}
    arguments |= {"--draws": 1, "--images": 4, "--write": page}
    monkeypatch.setattr(sys, "argv", ["choose", *(str(part) for pair in arguments.items() for part in pair)])
    module.main()
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert capsys.readouterr().out.strip() in text
    assert "7 models, 2 of 4 datasets (choose), 1 draws of 4 images, seed 0" in text
    figures = [line.split("|")[2:5] for line in text.splitlines() if line.startswith("| ") and "NDCG" not in line]
    assert len(figures) > 60
    assert np.isfinite(np.array(figures, dtype=float)).all()
