"""Every pass through a tower runs in the precision that is asked for, whatever PyTorch's defaults are."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from vlmrank.accuracy.measured import measure_accuracy
from vlmrank.conductance.objective import zero_shot_objective
from vlmrank.errors import VlmrankError
from vlmrank.evaluation.peer_features import embed_dataset
from vlmrank.models.precision import DTYPES, full_precision, in_precision

CPU = torch.device("cpu")


def arithmetic():
    """What decides how a product or a convolution is computed: TF32 in either, and autocast."""
    backends = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    return *backends, torch.is_autocast_enabled("cpu")


EXPECTED = {
    "float32": (False, False, False),
    "tf32": (True, True, False),
    "bfloat16": (False, False, True),
    "float64": (False, False, False),
}


class Model(torch.nn.Module):
    """Writes down the arithmetic of each pass."""

    def __init__(self):
        super().__init__()
        self.visual = torch.nn.Linear(1, 1)
        self.logit_scale = torch.nn.Parameter(torch.zeros(()))
        self.seen = set()

    def encode_image(self, images):
        self.seen.add(arithmetic())
        return images.flatten(1)[:, :2].to(torch.get_autocast_dtype("cpu") if arithmetic()[2] else images.dtype) + 1

    def encode_text(self, tokens):
        self.seen.add(arithmetic())
        return torch.eye(2)[tokens[:, 0] % 2]


@pytest.fixture
def job(tmp_path):
    """A model that is loaded, and a dataset card with a labelled image of each class."""
    records = []
    for label in (0, 1):
        path = tmp_path / f"{label}.png"
        Image.new("RGB", (4, 4), (200 * label, 90, 30)).save(path)
        records.append({"id": str(label), "path": str(path), "label": label})
    model = Model()
    loaded = SimpleNamespace(
        model=model,
        visual=model.visual,
        tokenizer=lambda texts: torch.tensor([["b" in text] for text in texts]).long(),
        preprocess=lambda picture: torch.as_tensor(np.asarray(picture, np.float32)).permute(2, 0, 1) / 255,
    )
    return loaded, {"test": records, "classes": ["a", "b"], "templates": ["{c}"]}


@pytest.mark.parametrize("precision", DTYPES)
def test_accuracy_follows_the_setting_that_is_in_its_key(job, precision):
    loaded, card = job
    before = arithmetic()
    result = measure_accuracy(loaded, card, threads=1, precision=precision)
    assert result["status"] == "ok" and loaded.model.seen == {EXPECTED[precision]}
    assert arithmetic() == before


def test_peers_are_embedded_in_float32(job):
    loaded, card = job
    embed_dataset(loaded, card, ["{c}"], images=2)
    assert loaded.model.seen == {EXPECTED["float32"]}


def test_logits_are_taken_in_full_precision():
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(5, 64, generator=generator), torch.randn(3, 64, generator=generator)
    expected = zero_shot_objective(images.double(), texts.double(), 100.0).logits
    with in_precision("bfloat16", CPU):
        found = zero_shot_objective(images, texts, 100.0).logits
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_full_precision_goes_back_to_what_was_set():
    with in_precision("tf32", CPU):
        with full_precision():
            assert arithmetic() == EXPECTED["float64"]
        assert arithmetic() == EXPECTED["tf32"]
    with pytest.raises(VlmrankError, match="precision 'int8' is none of float32, tf32, bfloat16, float64"):
        in_precision("int8", CPU).__enter__()
