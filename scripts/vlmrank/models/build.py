"""Build an OpenCLIP model from a checked configuration, with or without its weights."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import open_clip
import torch

from vlmrank.errors import VlmrankError
from vlmrank.models.checkpoint import read_tensors
from vlmrank.models.hub import HubError
from vlmrank.models.model_config import ModelConfig
from vlmrank.models.open_clip_adapter import reading, registered
from vlmrank.models.tokenizer import no_remote_code


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence OpenCLIP's warnings (QuickGELU, random weights), which the card covers."""
    level = logging.getLogger().level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger().setLevel(max(level, logging.ERROR))
        try:
            yield
        finally:
            logging.getLogger().setLevel(level)


def explain(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{text[:300]}{'...' if len(text) > 300 else ''}" or type(error).__name__


def build(
    config: ModelConfig,
    weights: str | None,
    device: str,
    *,
    prefix: str = "",
    resize: bool = False,
    average: bool = False,
):
    """Build a model by OpenCLIP from a checked configuration.

    Parameters
    ----------
    weights : a file that fits (`vlmrank.models.checkpoint.fit_weights`), or None.
    prefix : common prefix of its tensors' names.
    resize : whether OpenCLIP may interpolate position embeddings.
    average : whether to take the file's moving average.
    """

    def read(path: str):
        tensors = read_tensors(Path(path), average=average)
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}

    preprocess = {name: value for name, value in config.preprocess.items() if name != "size"}  # the tower decides
    with registered(config.model) as name, reading(read, resize=resize), no_remote_code():
        return open_clip.create_model(
            name,
            weights,
            device=device,
            load_weights=weights is not None,
            require_pretrained=weights is not None,
            pretrained_text=False,
            weights_only=True,
            force_preprocess_cfg=preprocess,
        )


def build_on_meta(config: ModelConfig):
    """Build a model without weights and without memory, to count its parameters and operations.

    Raises
    ------
    VlmrankError : it cannot be built from this configuration.
    """
    try:
        try:
            with torch.device("meta"):
                return build(config, None, "meta")
        except NotImplementedError:  # an architecture that computes with its weights while it is built
            return build(config, None, "cpu")
    except VlmrankError:
        raise
    except OSError as error:
        raise HubError(f"a part of the model must be downloaded first: {explain(error)}") from error
    except Exception as error:  # keys that are valid alone may not fit together
        raise VlmrankError(f"the model cannot be built from its configuration: {explain(error)}") from error
