"""Class names and templates: class sheets, clip-benchmark's lists, and the embeddings that they give."""

from __future__ import annotations

import numpy as np
import pytest
from dataset_rows import card, put

from vlmrank.datasets.prompts import clip_benchmark_prompts, read_prompts
from vlmrank.errors import FailedPair, VlmrankError
from vlmrank.models.texts import class_embeddings


def test_class_sheets(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("name: x\ndomain: sketch\nclasses: [cat, 7, 'no']\ntemplates: ['a {c}.', 'the {}']\n")
    found = read_prompts(path)
    assert found.classes == ("cat", "7", "no")
    assert found.templates == ("a {c}.", "the {c}")
    assert found.domain == "sketch"
    put(tmp_path / "images", "a.png")
    assert card(tmp_path / "images", role="target", classes=str(path))["domain"] == "sketch"
    assert card(tmp_path / "images", role="target", classes=str(path), domain="photo")["domain"] == "photo"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("c.txt", "", ["names no class"]),
        ("c.txt", "cat\ncat\n", ["'cat' twice"]),
        ("c.yaml", "- cat\n", ["names no class"]),
        ("c.yaml", "classes: cat\n", ["line 1", "must be a list"]),
        ("c.yaml", "classes: [cat, '']\n", ["class 1 of 2 is empty"]),
        ("c.yaml", "classes: [cat]\ntemplates: ['a photo']\n", ["'a photo'", "{c}"]),
        ("c.yaml", "classes: [cat\n", ["cannot be read"]),
        ("c.yaml", "classes: !!python/object/apply:os.getcwd []\n", ["cannot be read"]),
    ],
)
def test_class_sheets_with_mistakes(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(VlmrankError) as error:
        read_prompts(tmp_path / name)
    for word in words:
        assert word in str(error.value)


def test_lists_of_clip_benchmark():
    assert len(clip_benchmark_prompts("imagenet1k").classes) == 1000
    assert len(clip_benchmark_prompts("wds/vtab/flowers").classes) == 102
    assert clip_benchmark_prompts("cifar10").classes == ()
    assert len(clip_benchmark_prompts("imagenet_sketch").classes) == 1000
    assert (clip_benchmark_prompts("imagenet-a").classes, len(clip_benchmark_prompts("imagenet-a").templates)) == (
        (),
        80,
    )
    with pytest.raises(VlmrankError, match="no such dataset"):
        clip_benchmark_prompts("cifar11")


class Letters:
    """A text tower whose embedding counts letters, and its tokenizer."""

    def __init__(self):
        import torch

        self.weight = torch.zeros(1)

    def parameters(self):
        yield self.weight

    def encode_text(self, tokens):
        return tokens

    def __call__(self, texts):
        import torch

        return torch.tensor([[float(text.count(letter)) + 0.1 for letter in "abc{"] for text in texts])


def test_class_embeddings_equal_clip_benchmarks_classifier():
    from clip_benchmark.metrics.zeroshot_classification import zero_shot_classifier

    model, classes, templates = Letters(), ["aab", "cb", "{b}"], ["a {c}", "{c}{c} c", "bb {c}"]
    found = class_embeddings(model, model, classes, templates, batch=2)
    theirs = zero_shot_classifier(model, model, classes, templates, "cpu", amp=False)
    np.testing.assert_allclose(found.numpy(), theirs.T.numpy(), rtol=0, atol=1e-6)


def test_classes_that_are_one_text_to_a_model_are_refused():
    import open_clip

    model, short = Letters(), open_clip.SimpleTokenizer(context_length=8)
    names = ["house sparrow of the old town in the north", "house sparrow of the old town in the south"]
    with pytest.raises(FailedPair, match="are the same 8 tokens to this model: shorten the names"):
        class_embeddings(model, short, names, ["a photo of a {c}."])
    assert len(class_embeddings(model, model, ["missile", "missile"], ["{c}"])) == 2
    apart = open_clip.SimpleTokenizer(context_length=77)
    model.encode_text = lambda tokens: tokens[:, :20].float()
    assert len(class_embeddings(model, apart, names, ["a photo of a {c}."])) == 2
