"""A model's folder, repository or checkpoint is data: nothing of it runs, and it reaches no other repository."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile

import pytest
import torch
from canary import Touch
from open_clip import factory
from tiny import TINY, tiny_state, write_tiny

from vlmrank.errors import FailedPair, VlmrankError
from vlmrank.models import model_config, tokenizer
from vlmrank.models.hub import hub_is_reachable
from vlmrank.models.model_config import MODEL, PREPROCESS, ConfigError, check_section, read_model_config
from vlmrank.models.weights import check_weights
from vlmrank.zoo import fetch_model, load_model

CODE = "import pathlib\npathlib.Path({!r}).touch()\nfrom transformers import PreTrainedTokenizerFast as Evil\n"
VOCABULARY = {
    "version": "1.0",
    "added_tokens": [],
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "[PAD]": 1, "photo": 2}, "unk_token": "[UNK]"},
    "pre_tokenizer": {"type": "Whitespace"},
}


@pytest.fixture(scope="module")
def state():
    return tiny_state()


@pytest.fixture
def folder(tmp_path, state):
    return write_tiny(tmp_path / "model", state)


@pytest.fixture
def offline(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub_is_reachable.cache_clear()
    yield
    hub_is_reachable.cache_clear()


@pytest.fixture
def asked(monkeypatch):
    """Repositories that a file is asked of."""
    found = []

    def refuse(repository, *_, **__):
        found.append(repository)
        raise OSError("no network in this test")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    monkeypatch.setattr("huggingface_hub.file_download.hf_hub_download", refuse)
    monkeypatch.setattr("timm.models._hub.load_model_config_from_hf", refuse)
    return found


def write_config(folder, *, preprocess=None, **sections):
    """Change keys of the folder's configuration, section by section."""
    content = {**TINY, **{key: value for key, value in sections.items() if not isinstance(value, dict)}}
    for key, value in sections.items():
        if isinstance(value, dict):
            content[key] = {**TINY.get(key, {}), **value}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": content, "preprocess_cfg": preprocess or {}})
    )


def add_tokenizer(folder, canary, *, config=True, **keys):
    """A tokenizer of the transformers library that brings a file of code."""
    folder.mkdir(exist_ok=True)
    (folder / "evil.py").write_text(CODE.format(str(canary)))
    (folder / "tokenizer.json").write_text(json.dumps(VOCABULARY))
    auto = {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}} if config else {}
    content = {"pad_token": "[PAD]", "unk_token": "[UNK]", **auto, **keys}
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    (folder / "config.json").write_text("{}")


def used(architecture, **options):
    """The reason for which a model is not used, by the local rule and again by the GPU job."""
    card = fetch_model("m", architecture, options.pop("pretrained", None), **options)
    with pytest.raises(FailedPair) as error:
        load_model(architecture, cache=options.get("cache"), card=card if card["status"] == "failed" else None)
    assert card["status"] == "failed", "the model is used"
    assert "\n" not in card["reason"] and card["reason"] == str(error.value)
    return card["reason"]


# --- code ------------------------------------------------------------------------------------------------------------


def test_a_tokenizer_that_brings_code_which_the_configuration_wants_to_trust(folder, canary, offline):
    write_config(folder, text_cfg={"hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}})
    add_tokenizer(folder, canary)
    reason = used(f"local-dir:{folder}")
    assert "model_cfg.text_cfg.tokenizer_kwargs.trust_remote_code is refused (true)" in reason


def test_a_tokenizer_that_brings_code_without_being_asked(folder, canary, offline, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # the library asks on a terminal
    write_config(folder, text_cfg={"hf_tokenizer_name": "x"})
    add_tokenizer(folder, canary)
    assert "the key auto_map is refused" in used(f"local-dir:{folder}")


def test_even_unseen_the_library_runs_no_code_and_does_not_ask(tmp_path, canary, offline, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    add_tokenizer(tmp_path / "t", canary)
    monkeypatch.setattr(tokenizer, "check_tokenizer_folder", lambda folder: None)
    with pytest.raises(VlmrankError, match="cannot load its tokenizer"):
        tokenizer.load_tokenizer({}, tokenizer.TokenizerSource(str(tmp_path / "t")))
    from transformers import AutoConfig, AutoTokenizer

    (tmp_path / "t" / "config.json").write_text(
        json.dumps({"auto_map": {"AutoConfig": "evil.Evil"}, "model_type": "e"})
    )
    for wanted in (AutoTokenizer, AutoConfig):
        for trust in (None, True):
            with tokenizer.no_remote_code(), pytest.raises((VlmrankError, ValueError)):
                wanted.from_pretrained(tmp_path / "t", trust_remote_code=trust)


@pytest.mark.parametrize("file", ["tokenizer_config.json", "config.json"])
@pytest.mark.parametrize(
    "key", ["auto_map", "trust_remote_code", "attn_implementation", "_attn_implementation_internal"]
)
def test_keys_that_make_code_run_are_refused_in_every_file(folder, canary, offline, file, key):
    write_config(folder, text_cfg={"hf_tokenizer_name": "x"})
    add_tokenizer(folder, canary, config=False)
    (folder / file).write_text(json.dumps({key: "kernels/evil"}))
    assert f"the key {key} is refused" in used(f"local-dir:{folder}")


def test_a_tokenizer_class_that_is_not_known_to_read_data_alone(folder, canary, offline):
    write_config(folder, text_cfg={"hf_tokenizer_name": "x"})
    add_tokenizer(folder, canary, config=False, tokenizer_class="RagTokenizer")
    assert "tokenizer_class is 'RagTokenizer'" in used(f"local-dir:{folder}")


def test_a_text_tower_that_brings_code(folder, tmp_path, canary, offline):
    cache = tmp_path / "cache"
    root = cache / "models--roberta-base"
    (root / "snapshots" / "c0").mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("c0")
    (root / "snapshots" / "c0" / "evil.py").write_text(CODE.format(str(canary)))
    config = {"model_type": "e", "auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}}
    (root / "snapshots" / "c0" / "config.json").write_text(json.dumps(config))
    write_config(folder, text_cfg={"hf_model_name": "roberta-base"})
    assert "the key auto_map is refused" in used(f"local-dir:{folder}", cache=cache)
    (root / "snapshots" / "c0" / "config.json").write_text(json.dumps({"model_type": "lightglue"}))
    assert "the text tower is a 'lightglue'" in used(f"local-dir:{folder}", cache=cache)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".pkl", ".npz", ".npy", ".safetensors"])
@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_pickles_under_every_name(folder, canary, state, suffix, how):
    for file in folder.glob("*.safetensors"):
        file.unlink()
    content = {"state_dict": dict(state), "extra": Touch(canary)}
    path = folder / f"open_clip_pytorch_model{suffix}"
    if how == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    used(f"local-dir:{folder}")
    with pytest.raises(FailedPair):
        load_model("ViT-B-32", str(path))


def test_a_program_in_torchscript(tmp_path, canary):
    path = tmp_path / "a.pt"
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path)
    with pytest.raises(VlmrankError, match="TorchScript"):
        check_weights(path)


# --- other repositories ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"text_cfg": {"hf_tokenizer_name": "evil/tokenizer"}}, "evil/tokenizer (hf_tokenizer_name)"),
        ({"text_cfg": {"hf_model_name": "evil/tower"}}, "evil/tower (hf_model_name)"),
        ({"vision_cfg": {"timm_model_name": "hf-hub:evil/tower"}}, "timm_model_name"),
        ({"vision_cfg": {"timm_model_name": "hf_hub:evil/tower"}}, "timm_model_name"),
        ({"vision_cfg": {"timm_model_name": "local-dir:/evil"}}, "timm_model_name"),
        ({"text_cfg": {"hf_tokenizer_name": "../../evil"}}, "hf_tokenizer_name"),
        ({"text_cfg": {"hf_model_name": "/evil"}}, "hf_model_name"),
        ({"text_cfg": {"tokenizer_kwargs": {"bpe_path": "/dev/zero"}}}, "bpe_path"),
        ({"text_cfg": {"tokenizer_kwargs": {"gguf_file": "x"}}}, "gguf_file"),
    ],
)
def test_a_repository_or_path_that_only_the_configuration_names(folder, asked, canary, sections, words):
    write_config(folder, **sections)
    assert words in used(f"local-dir:{folder}")
    assert asked == []


def test_the_reason_says_what_to_add_to_the_sheet(folder, asked):
    write_config(folder, text_cfg={"hf_tokenizer_name": "evil/tokenizer"})
    assert "write evil/tokenizer into the column `tokenizer` of the sheet" in used(f"local-dir:{folder}")


def cached(cache, repository, files, commit="0123abcd"):
    """Put files into a cache as the hub's library lays it out."""
    root = cache / f"models--{repository.replace('/', '--')}"
    (root / "snapshots" / commit).mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    for file in files:
        shutil.copy(file, root / "snapshots" / commit / file.name)


@pytest.mark.parametrize("named_by", ["sheet", "registry", "nobody"])
@pytest.mark.parametrize("kind", ["local-dir", "hf-hub"])
def test_a_repository_that_somebody_vouches_for_is_used(tmp_path, folder, canary, offline, named_by, kind):
    repository = "xlm-roberta-base" if named_by == "registry" else "org/words"
    add_tokenizer(tmp_path / "words", canary, config=False, tokenizer_class="PreTrainedTokenizerFast")
    cached(tmp_path / "cache", repository, list((tmp_path / "words").iterdir()))
    write_config(folder, text_cfg={"hf_tokenizer_name": repository})
    architecture = f"local-dir:{folder}"
    if kind == "hf-hub":
        cached(tmp_path / "cache", "org/model", [file for file in folder.iterdir() if file.is_file()])
        architecture = "hf-hub:org/model"
    options = {"cache": tmp_path / "cache", "tokenizer": repository if named_by == "sheet" else ""}
    card = fetch_model("m", architecture, **options)
    if named_by == "nobody":
        assert "org/words" in card["reason"] and "column `tokenizer`" in card["reason"]
        return
    assert card["status"] == "ok", card["reason"]
    assert card["tokenizer"] == {"source": repository, "revision": "0123abcd"}
    loaded = load_model(architecture, cache=tmp_path / "cache", card=json.loads(json.dumps(card)))
    assert loaded.tokenizer(["photo zebra"])[0, :3].tolist() == [2, 0, 1]


def test_another_tokenizer_is_another_model(tmp_path, folder, canary, offline):
    add_tokenizer(tmp_path / "words", canary, config=False, tokenizer_class="PreTrainedTokenizerFast")
    cached(tmp_path / "cache", "org/words", list((tmp_path / "words").iterdir()))
    plain, other = (
        fetch_model("m", f"local-dir:{folder}", cache=tmp_path / "cache", tokenizer=t) for t in ("", "org/words")
    )
    assert (plain["status"], other["status"]) == ("ok", "ok"), other["reason"]
    assert plain["config_sha256"] != other["config_sha256"]


# --- the allow list --------------------------------------------------------------------------------------------------


def test_every_architecture_of_open_clip_passes():
    for name, config in factory._MODEL_CONFIGS.items():
        check_section(json.loads(json.dumps(config)), MODEL, "model_cfg", name)
        text = config["text_cfg"]
        assert text.get("hf_tokenizer_name") or "siglip" not in name.lower(), "OpenCLIP downloads a vocabulary by name"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("vision_cfg.layers", 10**9, "a whole number from 1 to 512"),
        ("vision_cfg.width", -1, "from 1 to 65536"),
        ("vision_cfg.width", "32", "a whole number"),
        ("vision_cfg.image_size", 10**9, "from 1 to 8192"),
        ("vision_cfg.pool_type", "__import__('os')", '"tok", "avg", "none"'),
        ("vision_cfg.act_kwargs", {"inplace": True}, "an object or null"),
        ("vision_cfg.input_patchnorm", True, "is refused (true)"),
        ("text_cfg.vocab_size", 10**12, "from 1 to 4000000"),
        ("text_cfg.tokenizer_kwargs", {"clean": "eval"}, '"canonicalize", "lower", "whitespace"'),
        ("embed_dim", True, "a whole number"),
        ("init_logit_scale", "1", "a number from -100 to 100"),
        ("cast_dtype", "x", "is refused"),
    ],
)
def test_what_is_not_allowed_is_refused_with_its_key(folder, key, value, words):
    *section, name = key.split(".")
    write_config(folder, **({section[0]: {name: value}} if section else {name: value}))
    reason = used(f"local-dir:{folder}")
    assert f"model_cfg.{key}" in reason and words in reason and "open_clip_config.json" in reason


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("interpolation", "lanczos", '"bicubic", "bilinear"'),
        ("resize_mode", "crop", '"shortest", "longest", "squash"'),
        ("std", [0, 0, 0], "a number above 0 to 1"),
        ("std", [58.4, 57.1, 57.4], "a number above 0 to 1"),
        ("mean", ["0.5"] * 3, "a list of 3, each a number from 0 to 1"),
        ("mean", "0.5", "a number from 0 to 1"),
        ("mean", [0.5, 0.5], "a list of 3"),
        ("mode", "L", '"RGB"'),
        ("Mean", [0.5] * 3, "is refused"),
        ("size", 0, "from 1 to 8192"),
    ],
)
def test_preprocessing_that_is_not_allowed(folder, key, value, words):
    write_config(folder, preprocess={key: value})
    reason = used(f"local-dir:{folder}")
    assert f"preprocess_cfg.{key}" in reason and words in reason


@pytest.mark.parametrize("text", ["[" * 100_000, '{"model_cfg": NaN}', "\x00", '{"a":' * 50_000, "[]", "7" * 5_000])
def test_json_that_is_no_configuration(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ConfigError):
        read_model_config(tmp_path / "c.json")


def test_every_allowed_value_can_be_told_in_words():
    def walk(schema):
        yield schema
        for part in (*schema.get("properties", {}).values(), *schema.get("anyOf", ())):
            yield from walk(part)

    for section in (MODEL, PREPROCESS):
        assert all(model_config._allowed(schema) for schema in walk(section))


# --- weights that grow -----------------------------------------------------------------------------------------------


class Call:
    """Unpickles as a call."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


def test_a_pickle_that_asks_for_memory_by_number(tmp_path):
    path = tmp_path / "a.pt"
    for zipped in (True, False):
        torch.save({"a": Call(bytearray, 1 << 40)}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(VlmrankError, match="bytearray"):
            check_weights(path)


@pytest.mark.parametrize("call", [(torch.FloatTensor, 1 << 42), (torch.UntypedStorage, 1 << 44)])
def test_a_pickle_that_asks_for_a_tensor_by_number(tmp_path, call):
    torch.save({"a": Call(*call)}, tmp_path / "a.pt")
    with pytest.raises(VlmrankError, match="no complete weights file"):
        check_weights(tmp_path / "a.pt")


def test_a_weights_file_that_is_a_zip_bomb(tmp_path):
    plain = io.BytesIO()
    torch.save({"a": torch.zeros(1_000_000)}, plain)
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(plain) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    assert path.stat().st_size < 20_000
    with pytest.raises(VlmrankError, match="grows when it is unpacked"):
        check_weights(path)


def test_weights_far_larger_than_the_architecture(folder):
    path = folder / "open_clip_model.safetensors"
    with path.open("r+b") as file:
        file.truncate(60 << 30)
    reason = used(f"local-dir:{folder}")
    assert "has 60 GiB; the architecture has 0.8 million parameters" in reason
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    assert "has 1024 GiB, more than the 128 GiB that are read" in used(f"local-dir:{folder}")
