"""The arithmetic that towers run in: the one place that switches TF32, bfloat16 and deterministic algorithms."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from vlmrank.errors import VlmrankError

DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.float32, "float64": torch.float64}
"""Precision -> type of weights and images."""


def checked(name: str) -> str:
    """Return the name of a precision, after checking that there is one of that name."""
    if name not in DTYPES:
        raise VlmrankError(f"precision {name!r} is none of {', '.join(DTYPES)}")
    return name


@contextlib.contextmanager
def in_precision(name: str, device: torch.device) -> Iterator[torch.dtype]:
    """Run towers in a precision, the same bits each time; yields the dtype of weights and images.

    `float32` is the same arithmetic on every device, `tf32` lets a GPU round the factors of matrix products and
    convolutions to 10 bits, `bfloat16` runs those operations under autocast and keeps the rest, the residual stream of
    transformers included, in float32. PyTorch's own default, convolutions in TF32 and the rest not, is none of these.
    """
    dtype = DTYPES[checked(name)]
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=name == "bfloat16")
    with _settings(tf32=name == "tf32", deterministic=device.type == "cuda"), autocast:
        yield dtype


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Scores and reductions run in the precision of their operands, whatever the towers run in."""
    with _settings(tf32=False), torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
        yield


@contextlib.contextmanager
def _settings(*, tf32: bool, deterministic: bool | None = None) -> Iterator[None]:
    matmul, convolution, memory = torch.backends.cuda.matmul, torch.backends.cudnn, torch.utils.deterministic
    before = matmul.allow_tf32, convolution.allow_tf32
    was = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = memory.fill_uninitialized_memory
    matmul.allow_tf32 = convolution.allow_tf32 = tf32
    with contextlib.ExitStack() as stack:
        if deterministic:  # attention and index sums have two algorithms; where there is one only, it is taken
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", message=".*deterministic", category=UserWarning)
            torch.use_deterministic_algorithms(True, warn_only=True)
            memory.fill_uninitialized_memory = False  # it would fill every new tensor with nan
        try:
            yield
        finally:
            matmul.allow_tf32, convolution.allow_tf32 = before
            if deterministic:
                torch.use_deterministic_algorithms(was[0], warn_only=was[1])
                memory.fill_uninitialized_memory = filled


def at_least_float32(values: Tensor) -> Tensor:
    """Return half-precision values as float32."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
