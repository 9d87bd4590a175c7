"""Models of every source are found, checked, described and loaded offline, or refused with a reason."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TINY, tiny_state, write_tiny

from vlmrank.errors import FailedPair, VlmrankError
from vlmrank.models.card import fetch_model, registered_as
from vlmrank.models.download import url_file
from vlmrank.models.hub import hub_is_reachable
from vlmrank.models.weights import check_weights, hub_place
from vlmrank.store.file_hashes import file_sha256
from vlmrank.zoo import load_model


@pytest.fixture(scope="module")
def state():
    return tiny_state()


@pytest.fixture
def folder(tmp_path, state):
    """A model as `local-dir:` takes it."""
    return write_tiny(tmp_path / "my models" / "tiny--a", state)


@pytest.fixture
def architecture(tmp_path, monkeypatch):
    """The tiny architecture under a name of OpenCLIP's registry."""
    from open_clip import factory

    monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-tiny", TINY)
    return "ViT-tiny"


def fetch(architecture, pretrained=None, **options):
    return fetch_model("m", str(architecture), pretrained, **options)


def test_a_local_folder(folder):
    card = fetch(f"local-dir:{folder}")
    assert card["status"] == "ok", card["reason"]
    assert card["weights_sha256"] == file_sha256(folder / "open_clip_model.safetensors")
    assert (card["source"], card["image_size"], card["embed_dim"]) == ("local-dir", [32, 32], 16)
    assert card["preprocess"]["mean"] == [0.5, 0.5, 0.5]
    assert card["activation"] == "GELU" and card["gflops"] > 0 and card["mismatches"] == []
    assert json.loads(json.dumps(card)) == card
    loaded = load_model(card["architecture"], card=card)
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert sum(parameter.numel() for parameter in loaded.model.parameters()) == card["parameters"]
    assert loaded.visual is loaded.model.visual
    again = load_model(f"local-dir:{folder}")
    assert again.card["weights_sha256"] == card["weights_sha256"]
    double = load_model(f"local-dir:{folder}", card=card, precision="float64")
    assert next(double.model.parameters()).dtype == torch.float64


def test_preprocessing_is_the_models_own(folder):
    from PIL import Image

    loaded = load_model(f"local-dir:{folder}")
    tensor = loaded.preprocess(Image.new("RGB", (50, 40), "white"))
    expected = (1 - np.array([0.5] * 3)) / np.array([0.26862954, 0.26130258, 0.27577711])
    assert tensor.shape == (3, 32, 32)
    np.testing.assert_allclose(tensor[:, 0, 0].numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
def test_a_checkpoint_file_with_an_architecture(tmp_path, state, architecture, suffix):
    from safetensors.torch import save_file

    path = tmp_path / f"it's mine{suffix}"
    if suffix == ".safetensors":
        save_file({name: value.contiguous() for name, value in state.items()}, path)
    else:
        torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}, path)
    card = fetch(architecture, str(path))
    assert (card["status"], card["source"]) == ("ok", "file"), card["reason"]
    loaded = load_model(architecture, str(path), card=card)
    torch.testing.assert_close(loaded.model.state_dict()["text_projection"], state["text_projection"], rtol=0, atol=0)


class Touch:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_checkpoint_that_runs_code_is_refused(tmp_path, state, architecture, how):
    path = tmp_path / "evil.pt"
    content = {"state_dict": dict(state), "optimizer": Touch(tmp_path / "pwned")}
    if how == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    card = fetch(architecture, str(path))
    assert card["status"] == "failed"
    assert "refused: reading it would run code" in card["reason"]
    assert "\n" not in card["reason"]
    with pytest.raises(FailedPair, match="refused"):
        load_model(architecture, str(path))
    assert not (tmp_path / "pwned").exists()


def test_a_torchscript_program_is_refused(tmp_path, architecture):
    path = tmp_path / "script.pt"
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path)
    assert "TorchScript" in fetch(architecture, str(path))["reason"]


def test_a_pickle_in_a_local_folder_is_refused(folder, tmp_path):
    (folder / "open_clip_model.safetensors").unlink()
    torch.save({"a": Touch(tmp_path / "pwned")}, folder / "open_clip_pytorch_model.bin")
    assert "refused" in fetch(f"local-dir:{folder}")["reason"]
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_incomplete_weights(folder, tmp_path, state, architecture, suffix, share):
    path = tmp_path / f"half{suffix}"
    if suffix == ".pt":
        torch.save(state, path)
    else:
        shutil.copy(folder / "open_clip_model.safetensors", path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    card = fetch(architecture, str(path))
    assert card["status"] == "failed"
    assert "complete" in card["reason"] or "refused" in card["reason"]


def test_a_git_lfs_pointer(folder):
    (folder / "open_clip_model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "git lfs pull" in fetch(f"local-dir:{folder}")["reason"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda place: (place / "open_clip_config.json").unlink(), "no open_clip_config.json"),
        (lambda place: (place / "open_clip_model.safetensors").unlink(), "holds no weights"),
        (lambda place: (place / "open_clip_config.json").write_text("{"), "cannot be read as JSON"),
        (lambda place: (place / "open_clip_config.json").write_text("{}"), "model_cfg"),
        (
            lambda place: (place / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 1}}'),
            "has no vision_cfg, text_cfg",
        ),
        (
            lambda place: (place / "open_clip_config.json").write_text(
                json.dumps({"model_cfg": {**TINY, "text_cfg": {**TINY["text_cfg"], "heads": 3}}})
            ),
            "cannot be built",
        ),
    ],
)
def test_broken_folders(folder, change, words):
    change(folder)
    card = fetch(f"local-dir:{folder}")
    assert card["status"] == "failed"
    assert words in card["reason"]


def test_weights_that_do_not_fit_the_architecture(folder, state):
    other = {**TINY, "embed_dim": 24}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": other}))
    with pytest.raises(FailedPair, match="does not fit the architecture: text_projection has the shape"):
        load_model(f"local-dir:{folder}")


def test_weights_that_changed_since_they_were_fetched(folder):
    card = fetch(f"local-dir:{folder}")
    with (folder / "open_clip_model.safetensors").open("ab") as file:
        file.write(b"more")
    with pytest.raises(FailedPair, match="have changed since the model was fetched; run again"):
        load_model(f"local-dir:{folder}", card=card)


@pytest.mark.parametrize(
    ("architecture", "pretrained", "words"),
    [
        ("ViT-B-23", "openai", "no architecture 'ViT-B-23'"),
        ("ViT-B-32", "opnai", "no pretrained tag 'opnai'; OpenCLIP has: openai"),
        ("ViT-B-32", None, "needs a pretrained tag"),
        ("ViT-B-32", "nowhere/a.pt", "does not exist"),
        ("ViT-B-32", "a.pkl", "is refused"),
        ("local-dir:nowhere", None, "holds no open_clip_config.json"),
    ],
)
def test_rows_that_name_nothing(architecture, pretrained, words):
    assert words in fetch(architecture, pretrained)["reason"]


# --- the hub ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub_is_reachable.cache_clear()


def cached(cache, repository, files, commit="0123abcd"):
    """Put files into a cache as the hub's library lays it out."""
    root = cache / f"models--{repository.replace('/', '--')}"
    (root / "snapshots" / commit).mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    for file in files:
        shutil.copy(file, root / "snapshots" / commit / file.name)


@pytest.mark.parametrize(("architecture", "pretrained"), [("hf-hub:org/tiny", None), ("ViT-B-32", "laion2b_s34b_b79k")])
def test_no_network_is_one_clear_reason(tmp_path, no_network, architecture, pretrained):
    card = fetch(architecture, pretrained, cache=tmp_path)
    assert card["status"] == "failed"
    assert "no network access" in card["reason"]
    assert "\n" not in card["reason"]
    with pytest.raises(FailedPair, match="not in the cache"):
        load_model(architecture, pretrained, cache=tmp_path)


def test_a_hub_model_is_loaded_from_the_cache_with_its_revision(folder, tmp_path, no_network):
    cached(tmp_path / "cache", "org/tiny", list(folder.iterdir()))
    card = fetch("hf-hub:org/tiny", cache=tmp_path / "cache")
    assert (card["status"], card["source"], card["revision"]) == ("ok", "hf-hub", "0123abcd"), card["reason"]
    loaded = load_model("hf-hub:org/tiny", cache=tmp_path / "cache", card=card)
    assert loaded.model.visual.preprocess_cfg["mean"] == [0.5, 0.5, 0.5]


def test_a_tag_is_loaded_from_the_cache_and_compared_with_the_registry(
    folder, tmp_path, no_network, architecture, monkeypatch
):
    from open_clip import pretrained

    entry = {"hf_hub": "org/tiny/", "mean": (0.1, 0.2, 0.3), "std": (0.5,) * 3, "quick_gelu": True}
    monkeypatch.setitem(pretrained._PRETRAINED, "ViT-tiny", {"tag": entry})
    cached(tmp_path / "cache", "org/tiny", [folder / "open_clip_model.safetensors"])
    card = fetch(architecture, "tag", cache=tmp_path / "cache")
    assert (card["status"], card["source"], card["revision"]) == ("ok", "tag", "0123abcd"), card["reason"]
    assert card["preprocess"]["mean"] == [0.1, 0.2, 0.3]
    assert len(card["mismatches"]) == 1
    assert "trained with QuickGELU, this model uses GELU" in card["mismatches"][0]
    load_model(architecture, "tag", cache=tmp_path / "cache", card=card)
    hub = "hf-hub:org/tiny"
    shutil.copy(folder / "open_clip_config.json", tmp_path / "cache/models--org--tiny/snapshots/0123abcd")
    found = fetch(hub, cache=tmp_path / "cache")["mismatches"]
    assert [note.split()[-1] for note in found] == ["suffers", "0.5]", "0.27577711]"]


def test_places_on_the_hub_are_tried_in_open_clips_order():
    assert hub_place({"hf_hub": "org/a/"}).files == ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    assert hub_place({"hf_hub": "org/a/x.bin"}).files == ("x.safetensors", "x.bin")
    assert hub_place({"hf_hub": "org/a/x.pt"}).files == ("x.pt",)
    assert hub_place({"url": "https://x"}) is None


def test_known_weights_are_recognised_by_their_file_name(tmp_path):
    card = {"source": "file", "path": "x/vit_b_32-quickgelu-laion400m_e32-46683a32.pt", "architecture": "ViT-B-32"}
    assert ("ViT-B-32", "laion400m_e32") in [found[:2] for found in registered_as(card)]


def test_a_plain_address_is_kept_whole_or_not_at_all(tmp_path):
    source = tmp_path / "source file.bin"
    source.write_bytes(b"content")
    digest = file_sha256(source)
    found = url_file(source.as_uri(), cache=tmp_path / "cache", sha256=digest[:8])
    assert (found.name, found.read_bytes()) == ("source file.bin", b"content")
    with pytest.raises(VlmrankError, match="not kept"):
        url_file(source.as_uri(), cache=tmp_path / "other", sha256="00")
    assert not [path for path in (tmp_path / "other").iterdir() if path.is_file()]
    with pytest.raises(VlmrankError, match="network"):
        url_file((tmp_path / "nothing").as_uri(), cache=tmp_path / "cache")
    with pytest.raises(VlmrankError, match="not in the cache"):
        url_file("https://example.org/x.bin", cache=tmp_path / "cache", offline=True)


def test_a_precision_that_does_not_exist(folder):
    with pytest.raises(VlmrankError, match="float8"):
        load_model(f"local-dir:{folder}", precision="float8")


def test_check_weights_accepts_what_is_only_tensors(tmp_path, state):
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    check_weights(tmp_path / "old.pt")


def test_the_environment_is_put_back(folder):
    before = dict(os.environ)
    load_model(f"local-dir:{folder}")
    assert dict(os.environ) == before


def test_an_unreachable_hub_is_found_out_at_once(tmp_path, monkeypatch):
    import time

    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for name in ("https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    hub_is_reachable.cache_clear()
    started = time.monotonic()
    card = fetch("ViT-B-32", "laion2b_s34b_b79k", cache=tmp_path)
    hub_is_reachable.cache_clear()
    assert "no network access" in card["reason"]
    assert time.monotonic() - started < 5
