"""A model is computed with what its card says: weights, tokenizer and text tower by content, or it is refused."""

from __future__ import annotations

import json
import os

import pytest
from tiny import TINY, tiny_state, write_tiny

from vlmrank.errors import FailedPair
from vlmrank.models import content
from vlmrank.models.card import fetch_model
from vlmrank.models.load import load_from_card
from vlmrank.store.identities import pair_identity

DATASET = {"images": []}


def identity(card):
    return pair_identity(card, DATASET, {}, "code")


def fetch(folder, **options):
    card = fetch_model("m", f"local-dir:{folder}", **options)
    assert card["status"] == "ok", card["reason"]
    return card


def write_vocabulary(folder, words):
    """A word-level tokenizer of its own, as Hugging Face saves it."""
    known = {"[PAD]": 0, "[UNK]": 1, **{word: index + 2 for index, word in enumerate(words)}}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": known, "unk_token": "[UNK]"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.fixture(scope="module")
def state():
    return tiny_state()


@pytest.fixture
def folder(tmp_path, state):
    return write_tiny(tmp_path / "tiny", state)


@pytest.fixture
def with_tokenizer(tmp_path, state):
    """A model whose tokenizer lies in its folder."""
    folder = write_tiny(tmp_path / "own", state)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"] = {**TINY, "text_cfg": {**TINY["text_cfg"], "hf_tokenizer_name": "own"}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    write_vocabulary(folder, ["a", "photo", "of", "cat", "dog"])
    return folder


def overwrite(path, old, new):
    facts = path.stat()
    before = path.read_bytes()
    assert len(old) == len(new) and before.count(old)
    path.write_bytes(before.replace(old, new))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_weights_of_equal_size_and_time_are_refused(folder, tmp_path):
    card = fetch(folder, cache=tmp_path / "cache")
    assert load_from_card(card, cache=tmp_path / "cache").card == card
    path = folder / "open_clip_model.safetensors"
    overwrite(path, path.read_bytes()[-16:], bytes(16))
    with pytest.raises(FailedPair, match="have changed since the model was fetched; run again"):
        load_from_card(card, cache=tmp_path / "cache")
    path.unlink()
    with pytest.raises(FailedPair, match=r"when the model was fetched and cannot be read .*; run again"):
        load_from_card(card)


def test_weights_that_change_while_they_are_loaded_are_refused(folder, monkeypatch):
    card, path = fetch(folder), folder / "open_clip_model.safetensors"

    def change(*_):
        path.write_bytes(path.read_bytes())
        return ""

    monkeypatch.setattr("vlmrank.models.load.text_config_sha256", change)
    with pytest.raises(FailedPair, match="have changed"):
        load_from_card(card)


def test_unchanged_weights_are_hashed_once(folder, tmp_path, monkeypatch):
    path = folder / "open_clip_model.safetensors"
    monkeypatch.setattr("vlmrank.store.file_hashes.SETTLED_SECONDS", -1.0)
    card = fetch(folder, cache=tmp_path)
    monkeypatch.setattr("vlmrank.store.file_hashes.file_sha256", lambda _: pytest.fail("hashed again"))
    load_from_card(card, cache=tmp_path)
    assert content.weights_sha256(path, tmp_path) == card["weights_sha256"]


def test_another_vocabulary_is_another_model_and_refused_until_it_is_fetched_again(with_tokenizer):
    card = fetch(with_tokenizer)
    load_from_card(card)
    overwrite(with_tokenizer / "tokenizer.json", b'"cat": 5, "dog": 6', b'"dog": 5, "cat": 6')
    with pytest.raises(FailedPair, match="its tokenizer has changed since the model was fetched; run again"):
        load_from_card(card)
    again = fetch(with_tokenizer)
    assert again["weights_sha256"] == card["weights_sha256"] and again["config_sha256"] == card["config_sha256"]
    assert identity(again) != identity(card)


def test_settings_of_the_tokenizer_and_of_the_padding_count(with_tokenizer, folder):
    first = fetch(with_tokenizer)
    settings = json.loads((with_tokenizer / "tokenizer_config.json").read_text())
    (with_tokenizer / "tokenizer_config.json").write_text(json.dumps({**settings, "padding_side": "left"}))
    assert fetch(with_tokenizer)["tokenizer_sha256"] != first["tokenizer_sha256"]
    config = json.loads((folder / "open_clip_config.json").read_text())
    plain = fetch(folder)
    config["preprocess_cfg"] |= {"resize_mode": "longest"}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    black = fetch(folder)
    config["preprocess_cfg"] |= {"fill_color": 200}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    assert len({identity(card) for card in (plain, black, fetch(folder))}) == 3


def test_the_same_model_elsewhere_is_the_same(with_tokenizer, tmp_path):
    import shutil

    other = shutil.copytree(with_tokenizer, tmp_path / "elsewhere")
    assert identity(fetch(with_tokenizer)) == identity(fetch(other))


def test_the_configuration_of_a_text_tower_counts():
    class Config:
        def __init__(self, **values):
            self.values = values

        def to_dict(self):
            return {"_name_or_path": "anywhere", "transformers_version": "9", **self.values}

    class Model:
        def __init__(self, **values):
            self.text = type("Text", (), {"config": Config(**values)})()

    found = [content.text_config_sha256(Model(act=act)) for act in ("gelu", "relu")]
    assert found[0] != found[1] and content.text_config_sha256(object()) == ""
    with pytest.raises(FailedPair, match="configuration of its text tower has changed since the model was fetched"):
        content.check_content({"text_config_sha256": found[0]}, text_config_sha256=found[1])
