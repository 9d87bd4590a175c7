"""Hash a model's configuration and tokenizer, and check that a loaded model is the one its card describes.

The tokenizer and the configuration of a Hugging Face text tower may come from other folders and repositories. Both are
hashed once loaded, so their layout in files does not matter.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vlmrank.errors import RUN_AGAIN, SINCE_FETCHED, FailedPair
from vlmrank.store.file_hashes import FileHashes, state_of


def _hash(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def tokenizer_sha256(tokenizer: Callable) -> str:
    """SHA-256 of a freshly loaded tokenizer: vocabulary, merges, special tokens and settings.

    Parameters
    ----------
    tokenizer : OpenCLIP's own, or its wrapper of a Hugging Face tokenizer; not called yet, since a call changes its
        state.
    """
    plain = (str, int, float, bool, type(None))
    settings = {name: value for name, value in vars(tokenizer).items() if isinstance(value, plain)}
    settings["clean"] = getattr(getattr(tokenizer, "clean_fn", None), "__qualname__", "")
    inner = getattr(tokenizer, "tokenizer", None)
    if inner is None:
        words = getattr(tokenizer, "encoder", {})
        merges = [list(pair) for pair in getattr(tokenizer, "bpe_ranks", {})]
        return _hash([type(tokenizer).__name__, settings, words, merges])
    backend = getattr(inner, "backend_tokenizer", None)
    words = backend.to_str() if backend is not None else inner.get_vocab()
    sides = [getattr(inner, name, "") for name in ("padding_side", "truncation_side", "pad_token_id", "sep_token_id")]
    named = {name: str(token) for name, token in inner.special_tokens_map.items()}
    return _hash([type(tokenizer).__name__, type(inner).__name__, settings, words, named, sides])


def text_config_sha256(model: Any) -> str:
    """SHA-256 of the configuration that a Hugging Face text tower was built from; empty for OpenCLIP's own towers."""
    config = getattr(getattr(model, "text", None), "config", None)
    if not hasattr(config, "to_dict"):
        return ""
    traces = ("_name_or_path", "name_or_path", "transformers_version", "_commit_hash")
    return _hash({name: value for name, value in config.to_dict().items() if name not in traces})


def weights_sha256(path: str | os.PathLike[str], cache: str | os.PathLike[str] | None) -> str:
    """SHA-256 of a weights file, remembered in the cache while the file stays the same."""
    hashes = FileHashes(cache, path)
    found = hashes.sha256(path)
    hashes.keep()
    return found


def check_content(card: Mapping[str, Any], **found: str) -> None:
    """Refuse a model that differs from its card.

    Raises
    ------
    FailedPair : the tokenizer, or the text tower's configuration, is another one.
    """
    names = {"tokenizer_sha256": "its tokenizer", "text_config_sha256": "the configuration of its text tower"}
    for name, value in found.items():
        if card.get(name, value) != value:
            raise FailedPair(f"{names[name]} has changed since {SINCE_FETCHED}; {RUN_AGAIN}")


@contextlib.contextmanager
def same_weights(card: Mapping[str, Any], cache: str | os.PathLike[str] | None) -> Iterator[Path]:
    """The weights file of a card; its hash is verified at the start and at the end of the block.

    Raises
    ------
    FailedPair : the file is gone or has changed.
    """
    path = Path(card["path"])
    try:
        before = state_of(path)
        same = weights_sha256(path, cache) == card["weights_sha256"]
    except OSError as error:
        reason = f"the weights {path} were there when {SINCE_FETCHED} and cannot be read ({error.strerror or error})"
        raise FailedPair(f"{reason}; {RUN_AGAIN}") from error
    if same:
        yield path
    if not same or state_of(path) != before:
        raise FailedPair(f"the weights {path} have changed since {SINCE_FETCHED}; {RUN_AGAIN}")
