"""What weights were trained with is taken where it is known, and said where it is not."""

from __future__ import annotations

import copy

import pytest
import torch
from open_clip import factory, pretrained
from tiny import TINY, tiny_state, write_tiny

from vlmrank.models.card import fetch_model, trained_preprocessing

ONE = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 0.5), "interpolation": "bilinear", "url": "https://x/one.pt"}
OTHER = {**ONE, "mean": (0.4, 0.4, 0.4), "url": "https://x/other.pt"}


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """The card of a checkpoint file of the tiny architecture, which has these tags."""

    def fetch(name="mine.pt", **tags):
        monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-tiny", copy.deepcopy(TINY))
        if tags:
            monkeypatch.setitem(pretrained._PRETRAINED, "ViT-tiny", tags)
        torch.save(tiny_state(), tmp_path / name)
        card = fetch_model("m", "ViT-tiny", str(tmp_path / name), offline=True)
        assert card["status"] == "ok", card["reason"]
        return card

    return fetch


def test_a_checkpoint_file_gets_what_all_tags_agree_on(fetched):
    card = fetched(one=ONE, again={**ONE, "url": "https://x/again.pt"})
    assert (card["preprocess"]["mean"], card["preprocess"]["interpolation"]) == ([0.1, 0.2, 0.3], "bilinear")
    assert card["mismatches"] == []


def test_where_tags_differ_it_is_said_and_the_rest_is_taken(fetched):
    card = fetched(one=ONE, other=OTHER)
    assert card["preprocess"]["std"] == [0.5, 0.5, 0.5]
    assert card["mismatches"][0].startswith(
        "OpenCLIP's weights of ViT-tiny were trained with more than one mean: CLIP's"
    )


def test_a_file_of_a_known_name_gets_its_own_tags_preprocessing(fetched):
    card = fetched("other.pt", one=ONE, other=OTHER)
    assert (card["preprocess"]["mean"], card["mismatches"]) == ([0.4, 0.4, 0.4], [])


def test_an_architecture_without_tags_says_that_nothing_is_known(fetched):
    assert "so it is not known which preprocessing" in fetched()["mismatches"][0]


def test_a_folder_that_names_no_preprocessing_says_so(tmp_path):
    folder = write_tiny(tmp_path / "m", tiny_state())
    config = folder / "open_clip_config.json"
    config.write_text(config.read_text().replace('"mean": [0.5, 0.5, 0.5]', ""))
    assert fetch_model("m", f"local-dir:{folder}")["mismatches"] == [
        "its configuration names neither mean nor std: CLIP's are used"
    ]


@pytest.mark.parametrize(
    ("architecture", "mean"),
    [("MobileCLIP-S1", (0.0,) * 3), ("ViT-B-16-SigLIP", (0.5,) * 3), ("ViT-H-14-CLIPA", (0.485, 0.456, 0.406))],
)
def test_checkpoints_of_architectures_that_were_not_trained_with_clips_mean(architecture, mean):
    card = {"source": "file", "architecture": architecture, "path": "mine.pt", "pretrained": "mine.pt"}
    found, notes = trained_preprocessing(card)
    assert (found["mean"], notes) == (mean, [])
