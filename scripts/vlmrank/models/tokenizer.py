"""Find and load a model's tokenizer without running any code that comes with it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip

from vlmrank.errors import VlmrankError
from vlmrank.files import MOST_TEXT, open_regular
from vlmrank.models.hub import HubError, hub_file, revision_of
from vlmrank.models.model_config import read_json_object
from vlmrank.models.open_clip_adapter import registry_repositories, text_tower_types

CONFIG, TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"
VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.txt",
    "vocab.json",
)
CODE_KEYS = ("auto_map", "trust_remote_code", "attn_implementation", "kernel", "custom_pipeline")
# Tokenizer classes of the transformers library that read vocabularies as data, without the ending Fast.
CLASSES = frozenset(
    (
        *("Albert", "Bert", "Camembert", "CLIP", "DistilBert", "Gemma", "GPT2", "Llama", "M2M100", "MPNet", "MT5"),
        *("Nllb", "PreTrained", "Qwen2", "Roberta", "Siglip", "Siglip2", "T5", "XLMRoberta"),
    )
)
BACKENDS = ("TokenizersBackend", "SentencePieceBackend", "PythonBackend")


@dataclass(frozen=True)
class TokenizerSource:
    """Where a tokenizer comes from.

    Attributes
    ----------
    place : a folder, a repository of the hub, or empty: OpenCLIP's own.
    revision : commit of the repository whose files were checked.
    named : whether the models sheet names it.
    """

    place: str = ""
    revision: str = ""
    named: bool = False


@contextlib.contextmanager
def no_remote_code() -> Iterator[None]:
    """Let the transformers library neither run code of a repository inside the block, nor ask whether it may."""
    try:
        from transformers import dynamic_module_utils as dynamic
    except ImportError:
        yield
        return

    def refuse(*_: object, **__: object) -> None:
        raise VlmrankError("a file of the repository would have to be run: refused")

    before = {name: getattr(dynamic, name) for name in ("get_class_in_module", "TIME_OUT_REMOTE_CODE")}
    dynamic.get_class_in_module, dynamic.TIME_OUT_REMOTE_CODE = refuse, 0  # 0: raises where it would ask
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(dynamic, name, value)


def _check_for_code(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    found = next((key for key in content for code in CODE_KEYS if code in key), None)
    if found:
        raise VlmrankError(f"{path}: the key {found} is refused: it makes code run that comes with the model")


def check_tokenizer_config(path: str | os.PathLike[str]) -> None:
    """Refuse a `tokenizer_config.json` that asks for code, or for a class that is not known to read data alone.

    Raises
    ------
    VlmrankError : names the key.
    """
    content = read_json_object(path)
    _check_for_code(content, path)
    name = content.get("tokenizer_class")
    plain = name.removesuffix("Fast").removesuffix("Tokenizer") if isinstance(name, str) else name
    if name is not None and name not in BACKENDS and plain not in CLASSES:
        raise VlmrankError(f"{path}: tokenizer_class is {name!r}; known are {', '.join(sorted(CLASSES))}")


def check_tokenizer_folder(folder: Path) -> None:
    """Refuse a folder whose tokenizer asks for code, or has a file that cannot be read to its end.

    Raises
    ------
    VlmrankError : names the file.
    """
    for name in (TOKENIZER_CONFIG, CONFIG):
        if os.path.lexists(folder / name):
            check_tokenizer_config(folder / name)
    for name in (*VOCABULARIES, "merges.txt", "added_tokens.json", "special_tokens_map.json"):
        if os.path.lexists(folder / name):
            try:
                open_regular(folder / name, most=MOST_TEXT).close()
            except OSError as error:
                raise VlmrankError(f"{folder / name} cannot be read ({error.strerror or error})") from error


def check_text_tower(repository: str, *, cache: str | os.PathLike[str] | None, offline: bool) -> None:
    """Refuse a text tower whose `config.json` is of a kind that OpenCLIP does not build, or that asks for code.

    Raises
    ------
    VlmrankError : as said, or the file cannot be downloaded.
    """
    path = hub_file(repository, CONFIG, cache=cache, offline=offline)
    content = read_json_object(path)
    _check_for_code(content, f"{repository}, {CONFIG}")
    if content.get("model_type") not in text_tower_types():
        raise VlmrankError(
            f"{repository}, {CONFIG}: the text tower is a {content.get('model_type')!r}; OpenCLIP builds "
            f"{', '.join(text_tower_types())}"
        )


def vouched(repository: str, key: str, *, own: str = "", named: str = "") -> str:
    """A repository that a configuration names, if OpenCLIP's registry or the sheet names it too.

    Parameters
    ----------
    key : of the configuration, for the message.
    own : the repository that the configuration itself comes from.
    named : the cell `tokenizer` of the models sheet.

    Raises
    ------
    VlmrankError : nobody else names it; says what to add to the sheet.
    """
    if repository in (own, named) or repository in registry_repositories():
        return repository
    raise VlmrankError(
        f"its configuration names the repository {repository} ({key}), which neither OpenCLIP's registry nor the "
        f"models sheet names, so it is not fetched; if you trust it, write {repository} into the column `tokenizer` of "
        "the sheet"
    )


def find_tokenizer(
    text_cfg: Mapping[str, Any],
    *,
    folder: str = "",
    own: str = "",
    named: str = "",
    cache: str | os.PathLike[str] | None = None,
    offline: bool = True,
) -> TokenizerSource:
    """Find where a model's tokenizer comes from, and look whether it asks for code; downloads unless `offline`.

    Parameters
    ----------
    text_cfg : checked configuration of the text tower.
    folder, own : folder or repository of the model, whichever it has.
    named : the cell `tokenizer` of the models sheet.
    cache : folder of downloads.

    Raises
    ------
    VlmrankError : a repository that is not vouched for, cannot be downloaded, or asks for code.
    """
    name = named or text_cfg.get("hf_tokenizer_name")
    if not name:
        return TokenizerSource()
    if folder and not named and any(os.path.lexists(Path(folder) / one) for one in VOCABULARIES):
        check_tokenizer_folder(Path(folder))
        return TokenizerSource(folder)
    vouched(name, "hf_tokenizer_name", own=own, named=named)
    found, missing = [], []
    for file in (TOKENIZER_CONFIG, CONFIG):  # many a repository has but one of them
        try:
            found.append(hub_file(name, file, cache=cache, offline=offline))
        except HubError as error:
            missing.append(error)
    if not found:
        raise missing[0]
    for path in found:
        check_tokenizer_config(path)
    return TokenizerSource(name, revision_of(found[0]), named=bool(named))


def load_tokenizer(
    text_cfg: Mapping[str, Any], source: TokenizerSource, *, cache: str | os.PathLike[str] | None = None
) -> Callable:
    """Make a tokenizer; no code that comes with it is run.

    Parameters
    ----------
    text_cfg : checked configuration of the text tower.
    source : as `find_tokenizer` gives it.
    cache : folder of downloads.

    Returns
    -------
    texts -> tokens, int64 [texts, context length].

    Raises
    ------
    VlmrankError : it cannot be loaded, or asks for code.
    """
    options = {"context_length": text_cfg.get("context_length") or 77, **(text_cfg.get("tokenizer_kwargs") or {})}
    if not source.place:
        return open_clip.SimpleTokenizer(**{key: options[key] for key in ("context_length", "clean") if key in options})
    if Path(source.place).is_dir():
        check_tokenizer_folder(Path(source.place))
    try:
        with no_remote_code():
            return open_clip.tokenizer.HFTokenizer(
                source.place,
                cache_dir=str(cache) if cache else None,
                tokenizer_mode=text_cfg.get("tokenizer_mode"),
                trust_remote_code=False,
                **({"revision": source.revision} if source.revision else {}),
                **options,
            )
    except Exception as error:  # the hub's tokenizers raise classes of their own
        text = " ".join(str(error).split())
        reason = f"{text[:300]}{'...' if len(text) > 300 else ''}" or type(error).__name__
        raise VlmrankError(f"cannot load its tokenizer from {source.place}: {reason}") from error
