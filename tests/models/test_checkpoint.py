"""Weights are those of the architecture, under any prefix or wrapping, or the reason says how they are not."""

from __future__ import annotations

import copy
import json
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from tiny import TINY, tiny_state, write_tiny

from vlmrank.models.card import fetch_model
from vlmrank.models.load import load_from_card


@pytest.fixture(scope="module")
def state():
    return tiny_state()


@pytest.fixture
def architecture(monkeypatch):
    """The tiny architecture under a name of OpenCLIP's registry."""
    from open_clip import factory

    monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-tiny", copy.deepcopy(TINY))
    return "ViT-tiny"


def card_of(folder, content, suffix, architecture, **options):
    path = folder / f"a{suffix}"
    if suffix == ".safetensors":
        save_file({name: value.contiguous() for name, value in content.items()}, path)
    else:
        torch.save(content, path)
    return fetch_model("m", architecture, str(path), offline=True, **options)


def under(prefix, state):
    return OrderedDict((f"{prefix}{name}", value) for name, value in state.items())


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module._orig_mod.", "clip.net.0."])
def test_names_that_begin_with_what_a_trainer_adds(tmp_path, state, architecture, suffix, prefix):
    card = card_of(tmp_path, under(prefix, state), suffix, architecture)
    assert (card["status"], card["prefix"]) == ("ok", prefix), card["reason"]
    loaded = load_from_card(json.loads(json.dumps(card)))
    for name, value in state.items():
        torch.testing.assert_close(loaded.model.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": under("module.", state), "epoch": 3},
        lambda state: {"model": state, "model_ema": {name: value * 0 for name, value in state.items()}},
        lambda state: {"model_ema": {name: value * 0 for name, value in state.items()}, "state_dict": state},
        lambda state: {"model_state_dict": under("_orig_mod.", state), "optimizer": {"lr": 0.1}},
    ],
)
def test_weights_inside_a_training_state(tmp_path, state, architecture, wrap):
    card = card_of(tmp_path, wrap(state), ".pt", architecture)
    assert card["status"] == "ok", card["reason"]
    found = load_from_card(card).model.state_dict()["visual.proj"]
    torch.testing.assert_close(found, state["visual.proj"], rtol=0, atol=0)


def halved(prefix, state):
    return under(prefix, {name: value / 2 for name, value in state.items()})


@pytest.mark.parametrize(
    ("suffix", "wrap"),
    [
        (".pt", lambda state: {"model": state, "model_ema": halved("", state)}),
        (".pt", lambda state: {"state_dict_ema": halved("module.", state), "epoch": 3}),
        (".safetensors", lambda state: {**under("model.", state), **halved("ema.", state)}),
    ],
)
def test_a_moving_average_is_taken_when_asked_for(tmp_path, state, architecture, suffix, wrap):
    card = card_of(tmp_path, wrap(state), suffix, architecture, average=True)
    assert card["status"] == "ok", card["reason"]
    found = load_from_card(json.loads(json.dumps(card))).model.state_dict()["visual.proj"]
    torch.testing.assert_close(found, state["visual.proj"] / 2, rtol=0, atol=0)


def test_the_average_and_the_weights_of_one_file_are_two_models(tmp_path, state, architecture):
    content = {"model": state, "model_ema": halved("", state)}
    cards = [card_of(tmp_path, content, ".pt", architecture, average=average) for average in (False, True)]
    assert cards[0]["weights_sha256"] == cards[1]["weights_sha256"]
    assert cards[0]["config_sha256"] != cards[1]["config_sha256"]


def test_an_average_that_is_not_there(tmp_path, state, architecture):
    for content in ({"model": state}, dict(state)):
        card = card_of(tmp_path, content, ".pt", architecture, average=True)
        assert "holds no moving average of the weights (it has " in card["reason"], card["reason"]
        assert card["reason"].endswith("empty the column weights of the models sheet")


def renamed(state, name, change):
    return {**state, name: change(state[name])}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda s: {"model_ema": dict(s), "epoch": 1},
            "a moving average of the weights (model_ema) and not the weights",
        ),
        (
            lambda s: {**under("ema.", s), **under("model.", s)},
            "names in the file begin with ema. (50) and model. (50)",
        ),
        (
            lambda s: {**under("ema.", s), **under("model.", s)},
            "it holds a moving average (EMA): write ema into the column",
        ),
        (lambda s: {k: v for k, v in s.items() if k.startswith("visual")}, "tensors are missing (positional_embedding"),
        (lambda s: {**s, "extra.weight": torch.zeros(1)}, "1 tensors are not part of it (extra.weight"),
        (
            lambda s: renamed(s, "visual.positional_embedding", lambda t: torch.zeros(17, 32)),
            "has the shape [17, 32], the architecture [5, 32]: these are weights for another image size",
        ),
        (
            lambda s: renamed(s, "positional_embedding", lambda t: torch.zeros(77, 16)),
            "positional_embedding has the shape [77, 16], the architecture [12, 16]",
        ),
        (lambda s: renamed(s, "visual.proj", lambda t: t.T[:8].contiguous()), "weights for another architecture"),
        (
            lambda s: {k: (v * 100).to(torch.int8) if v.ndim == 2 else v for k, v in s.items()},
            "are int8: quantised weights are not read",
        ),
        (  # mlfoundations/open_clip#983: a transformers checkpoint as `pretrained`
            lambda s: {**under("text_model.", s), **under("vision_model.", s)},
            "these are the names of the transformers library: take the repository's open_clip_model file",
        ),
        (lambda s: {"a": {"b": 1}}, "holds no named tensors; it has a"),
        (lambda s: [1, 2], "holds no named tensors"),
    ],
)
def test_weights_that_are_not_those_of_the_architecture(tmp_path, state, architecture, change, words):
    card = card_of(tmp_path, change(state), ".pt", architecture)
    assert card["status"] == "failed"
    assert words in card["reason"] and len(card["reason"]) < 500 and "\n" not in card["reason"]


def test_half_and_double_precision_are_read(tmp_path, state, architecture):
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        content = {name: value.to(dtype) for name, value in state.items()}
        assert card_of(tmp_path, content, ".safetensors", architecture)["status"] == "ok"


def test_weights_for_another_image_size_in_a_folder(tmp_path, state):
    folder = write_tiny(tmp_path / "m", state)
    larger = {**TINY, "vision_cfg": {**TINY["vision_cfg"], "image_size": 64}}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": larger}))
    reason = fetch_model("m", f"local-dir:{folder}")["reason"]
    assert "[5, 32], the architecture [17, 32]: these are weights for another image size" in reason


def test_a_tokenizer_of_another_model(tmp_path, state):
    folder = write_tiny(tmp_path / "m", state)
    small = {**TINY, "text_cfg": {**TINY["text_cfg"], "vocab_size": 1000}}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": small}))
    assert "gives the token 49407, but its text tower knows 1000" in fetch_model("m", f"local-dir:{folder}")["reason"]
