import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from vlmrank.pairs import ConductanceOptions, PairTask, compute_pairs

BENCH = Path(os.environ.get("VLMRANK_BENCHZOO", "benchzoo"))


def load(name: str):
    folder = BENCH / "models" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    torch.set_num_threads(1)
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder.resolve()}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder.resolve()}")
    return SimpleNamespace(
        model=model.eval(), tokenizer=tokenizer, preprocess=preprocess, visual=model.visual, card={"model": name}
    )


def bench_task(dataset: str, count: int) -> PairTask:
    paths = sorted((BENCH / "datasets" / dataset / "target").iterdir())[:count]
    images = [Image.open(path).convert("RGB") for path in paths]
    return PairTask(dataset, images, [path.name for path in paths], classes=("cat", "dog", "ship"))


@pytest.mark.parametrize(("name", "gap"), [("ViT-s-16--v0-all-220", 0.05), ("RN-s--v0-all-220", 0.2)])
def test_pairs_of_the_bench_are_complete(name, gap):
    loaded = load(name)
    (pair,) = compute_pairs(loaded, [bench_task("cifar10", 2)], ConductanceOptions())
    assert pair.ok, pair.attributes["reason"]
    np.testing.assert_allclose(pair.delta / (pair.score[:, :1] - pair.score[:, 1:]), 0, atol=gap)


def test_a_failed_task_takes_no_other_down():
    loaded = load("ViT-s-16--v0-all-220")
    bad = PairTask("bad", torch.full((2, 3, 64, 64), torch.nan), ["a", "b"])
    pairs = list(compute_pairs(loaded, [bad, bench_task("cifar10", 2)], ConductanceOptions(points=4)))
    assert [pair.ok for pair in pairs] == [False, True]
    assert "not finite" in pairs[0].attributes["reason"]
