"""Read the tensors of a weights file, and compare them with the architecture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vlmrank.errors import VlmrankError
from vlmrank.models.open_clip_adapter import converted

WRAPPERS = ("state_dict", "model", "model_state_dict", "module")  # of a training state, in this order
AVERAGE = "ema"  # part of the names of the moving average in a training state
ASK_FOR_AVERAGE = "write ema into the column weights of the models sheet if that is what you want"
TRANSFORMERS = ("vision_model.", "text_model.")  # names of CLIP's towers in the transformers library
DTYPES = {
    **{"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64, "BOOL": torch.bool},
    **{"I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64, "U8": torch.uint8},
}
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Misfit:
    """How tensors differ from those of an architecture, by name."""

    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    quantised: tuple[str, ...] = ()
    reason: str = ""

    def __bool__(self) -> bool:
        return bool(self.reason or self.size)

    @property
    def size(self) -> int:
        """Number of tensors at fault."""
        return len(self.missing) + len(self.unknown) + len(self.shapes) + len(self.quantised)


def _without_values(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("meta")
    return {str(key): _without_values(part) for key, part in value.items()} if isinstance(value, Mapping) else value


def _content(path: Path, *, values: bool) -> Any:
    if path.suffix == ".safetensors":
        from safetensors import safe_open
        from safetensors.torch import load_file

        if values:
            return load_file(path)
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {
                name: torch.empty(part.get_shape(), dtype=DTYPES.get(part.get_dtype(), torch.uint8), device="meta")
                for name, part in slices.items()
            }
    if values:
        return torch.load(path, map_location="cpu", weights_only=True)
    try:
        return _without_values(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
        return _without_values(torch.load(path, map_location="cpu", weights_only=True))


def read_tensors(path: Path, *, values: bool = True, average: bool = False) -> dict[str, Tensor]:
    """The tensors of a checked weights file: the file itself, or the weights inside a training state.

    Parameters
    ----------
    values : whether to read them; otherwise they are on the meta device, with shape and dtype only.
    average : whether to take the moving average (EMA) that the file holds, and not the weights.

    Raises
    ------
    VlmrankError : it holds no tensors, not the wanted ones, or only a moving average, which must be asked for.
    """
    content = _content(path, values=values)
    if not isinstance(content, Mapping):
        raise VlmrankError(f"{path} holds no named tensors")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        return _average_of(path, _by_first_part(tensors)) if average else tensors
    parts = {
        str(name): {str(key): value for key, value in part.items() if isinstance(value, Tensor)}
        for name, part in content.items()
        if isinstance(part, Mapping)
    }
    parts = {name: part for name, part in parts.items() if part}
    if average:
        return _average_of(path, parts)
    for name in WRAPPERS:
        if name in parts:
            return parts[name]
    named = next((name for name in parts if AVERAGE in name.lower()), None)
    if named:
        raise VlmrankError(
            f"{path} holds a moving average of the weights ({named}) and not the weights: {ASK_FOR_AVERAGE}"
        )
    raise VlmrankError(f"{path} holds no named tensors; it has {', '.join(map(str, list(content)[:8])) or 'nothing'}")


def _by_first_part(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors grouped by the first part of their names."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        parts.setdefault(name.split(".")[0], {})[name] = tensor
    return parts


def _average_of(path: Path, parts: Mapping[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    named = [name for name in parts if AVERAGE in name.lower()]
    if len(named) == 1:
        return parts[named[0]]
    found = ", ".join(named or list(parts)[:8]) or "nothing"
    what = "more than one moving average" if named else "no moving average of the weights"
    raise VlmrankError(f"{path} holds {what} (it has {found}): empty the column weights of the models sheet")


def common_prefixes(names: list[str]) -> list[str]:
    """Common prefixes of all names, shortest first.

    Examples
    --------
    >>> common_prefixes(["module._orig_mod.a.b", "module._orig_mod.c"])
    ['module.', 'module._orig_mod.']
    """
    parts = [name.split(".")[:-1] for name in names]
    found = []
    for position in range(min(map(len, parts), default=0)):
        if len({part[position] for part in parts}) > 1:
            break
        found.append(".".join(parts[0][: position + 1]) + ".")
    return found


def misfit(model: nn.Module, tensors: Mapping[str, Tensor], *, resize: bool) -> Misfit:
    """Compare tensors, converted as OpenCLIP converts them on loading, with those of a model on the meta device."""
    try:
        found = converted(model, tensors, resize=resize)
    except NotImplementedError:  # a conversion that reads values
        return Misfit()
    except Exception as error:  # OpenCLIP's conversions assume that all tensors exist
        return Misfit(reason=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    wanted = model.state_dict()
    both = [name for name in wanted if name in found]
    return Misfit(
        tuple(name for name in wanted if name not in found),
        tuple(name for name in found if name not in wanted),
        tuple(name for name in both if wanted[name].shape != found[name].shape),
        tuple(name for name in both if wanted[name].is_floating_point() and found[name].dtype not in FLOATS),
    )


def fit_weights(path: Path, model: nn.Module, *, resize: bool = False, average: bool = False) -> str:
    """Check that a file's tensors are those of the architecture, before any of them is read.

    Parameters
    ----------
    path : a weights file that `check_weights` has accepted.
    model : the architecture on the meta device.
    resize : whether OpenCLIP may interpolate position embeddings of another length.
    average : whether its moving average is taken.

    Returns
    -------
    Prefix that all names have in the file but not in the architecture (`module.`, `_orig_mod.`), mostly empty.

    Raises
    ------
    VlmrankError : they do not fit; says how they differ.
    """
    tensors = read_tensors(path, values=False, average=average)
    tried = {}
    for prefix in ["", *common_prefixes(list(tensors))]:
        plain = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        tried[prefix] = (misfit(model, plain, resize=resize), plain)
        if not tried[prefix][0]:
            return prefix
    best, plain = min(tried.values(), key=lambda one: (bool(one[0].reason), one[0].size))
    raise VlmrankError(f"{path} does not fit the architecture: {_told(best, plain, model)}")


def _told(found: Misfit, tensors: Mapping[str, Tensor], model: nn.Module) -> str:
    if found.missing or found.unknown or found.reason:
        begin = Counter(name.split(".")[0] for name in tensors).most_common(4)
        named = " and ".join(f"{start}. ({count})" for start, count in begin)
        parts = [
            f"{len(names)} tensors {word} ({names[0]}, ...)"
            for names, word in ((found.missing, "are missing"), (found.unknown, "are not part of it"))
            if names
        ]
        if any(name.startswith(TRANSFORMERS) for name in tensors):
            parts.append("these are the names of the transformers library: take the repository's open_clip_model file")
        if any(AVERAGE in start.lower() for start, _ in begin):
            parts.append(f"it holds a moving average (EMA): {ASK_FOR_AVERAGE}")
        return f"{', '.join(parts) or found.reason}; names in the file begin with {named}"
    if found.shapes:
        name = found.shapes[0]
        have, want = list(tensors[name].shape) if name in tensors else "?", list(model.state_dict()[name].shape)
        size = "image size or context length" if "pos" in name else "architecture"
        return f"{name} has the shape {have}, the architecture {want}: these are weights for another {size}"
    name = found.quantised[0]
    kind = str(tensors[name].dtype).removeprefix("torch.") if name in tensors else "whole numbers"
    return (
        f"{name} and {len(found.quantised) - 1} more are {kind}: quantised weights are not read, give the original ones"
    )
