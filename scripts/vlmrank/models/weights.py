"""Find a model's weights file (registry, hub, folder or checkpoint), and refuse files that would run code."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path

from vlmrank.errors import VlmrankError
from vlmrank.files import MIB, MOST_WEIGHTS, open_regular, size_of
from vlmrank.models.download import MissingFileError, url_file
from vlmrank.models.hub import hub_file, is_in_cache, revision_of
from vlmrank.models.model_config import CONFIG_FILE
from vlmrank.models.names import HUB, LOCAL
from vlmrank.models.pickled import check_packing

PICKLED = (".pt", ".pth", ".bin")
BYTES_PER_PARAMETER = 32  # in float64: weights, an average of them, and two moments of the optimiser
SUFFIXES = (".safetensors", *PICKLED)
HUB_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # in the order in which OpenCLIP looks


@dataclass(frozen=True)
class Weights:
    """A weights file on this machine.

    Attributes
    ----------
    source : `local-dir`, `hf-hub`, `tag` or `file`.
    path : the file.
    revision : commit of the hub's repository, empty elsewhere.
    """

    source: str
    path: Path
    revision: str = ""


@dataclass(frozen=True)
class HubPlace:
    """Weights on the hub: `files` are names for the same weights, of which the first that exists is taken."""

    repository: str
    files: tuple[str, ...]


def source_of(architecture: str, pretrained: str | None) -> str:
    """Kind of a row of the models sheet.

    Examples
    --------
    >>> source_of("local-dir:my model", None), source_of("ViT-B-32", "openai"), source_of("ViT-B-32", "a/b.pt")
    ('local-dir', 'tag', 'file')
    """
    if architecture.startswith(LOCAL):
        return "local-dir"
    if architecture.startswith(HUB):
        return "hf-hub"
    return "file" if pretrained and Path(pretrained).suffix in (*SUFFIXES, ".npz", ".ckpt", ".pkl") else "tag"


def hub_place(entry: dict) -> HubPlace | None:
    """Place on the hub of an entry of OpenCLIP's registry, in the order in which OpenCLIP itself looks."""
    if not entry.get("hf_hub"):
        return None
    repository, filename = os.path.split(entry["hf_hub"])
    if not filename:
        return HubPlace(repository, HUB_NAMES)
    safe = f"{filename[:-4]}.safetensors" if filename.endswith((".bin", ".pth")) else ""
    return HubPlace(repository, (safe, filename) if safe else (filename,))


def in_cache(place: HubPlace, cache: str | os.PathLike[str] | None) -> Path | None:
    """The weights file, if the cache has it; never asks the network."""
    found = (is_in_cache(place.repository, name, cache=cache) for name in place.files)
    return next((path for path in found if path), None)


def _from_hub(place: HubPlace, cache: str | os.PathLike[str] | None, offline: bool, afresh: bool) -> Path:
    present = None if afresh else in_cache(place, cache)
    if present:
        return present
    missing: MissingFileError | None = None
    for name in place.files:
        try:
            return hub_file(place.repository, name, cache=cache, offline=offline, afresh=afresh)
        except MissingFileError as error:
            missing = error
    raise missing or MissingFileError(f"{place.repository} names no weights")


def find_weights(
    architecture: str,
    pretrained: str | None = None,
    *,
    cache: str | os.PathLike[str] | None = None,
    offline: bool,
    afresh: bool = False,
) -> Weights:
    """Find the weights of a row of the models sheet; download them unless `offline`, with `afresh` in any case.

    Raises
    ------
    VlmrankError : they do not exist or cannot be downloaded; one line that says what to do.
    """
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    source = source_of(architecture, pretrained)
    if source == "local-dir":
        return Weights(source, _in_folder(Path(architecture.removeprefix(LOCAL))))
    if source == "hf-hub":
        repository = architecture.removeprefix(HUB)
        hub_file(repository, CONFIG_FILE, cache=cache, offline=offline)
        path = _from_hub(HubPlace(repository, HUB_NAMES), cache, offline, afresh)
        return Weights(source, path, revision_of(path))
    if architecture not in open_clip.list_models():
        raise VlmrankError(f"OpenCLIP has no architecture {architecture!r}; `vlmrank models` lists them")
    if source == "file":
        path = Path(pretrained or "")
        if path.suffix not in SUFFIXES:
            raise VlmrankError(f"{path} is refused: weights are read from {', '.join(SUFFIXES)} files only")
        if not path.is_file():
            raise VlmrankError(f"the checkpoint {path} does not exist")
        return Weights(source, path)
    entry = get_pretrained_cfg(architecture, pretrained or "")
    if not entry:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"
        what = f"has no pretrained tag {pretrained!r}" if pretrained else "needs a pretrained tag"
        raise VlmrankError(f"{architecture} {what}; OpenCLIP has: {tags}")
    place = hub_place(entry)
    if place:
        path = _from_hub(place, cache, offline, afresh)
        return Weights(source, path, revision_of(path))
    folder = cache or Path.home() / ".cache" / "clip"
    return Weights(source, url_file(entry["url"], cache=folder, offline=offline, afresh=afresh))


def _in_folder(folder: Path) -> Path:
    if not (folder / CONFIG_FILE).is_file():
        raise VlmrankError(f"{folder} holds no {CONFIG_FILE}")
    from vlmrank.models.open_clip_adapter import checkpoint_in_folder

    found = checkpoint_in_folder(folder)
    if found is None:
        raise VlmrankError(f"{folder} holds no weights (open_clip_model.safetensors)")
    return found


def check_weights(path: Path, *, parameters: int | None = None) -> None:
    """Read a weights file's table of contents and refuse what cannot be read, or only by running code from inside it.

    Parameters
    ----------
    parameters : of the architecture, if known: a file that holds far more than a training state of it is not read.

    Raises
    ------
    VlmrankError : incomplete, not a weights file, too large, or a pickle that is more than tensors.
    """
    try:
        with open_regular(path, most=MOST_WEIGHTS) as file:
            size, start = path.stat().st_size, file.read(40)
    except OSError as error:
        raise VlmrankError(f"{path} cannot be read ({error.strerror or error})") from error
    if size < 1024 and start.startswith(b"version https://git-lfs"):
        raise VlmrankError(f"{path} is a Git LFS pointer, not the weights: run `git lfs pull` there")
    if parameters is not None and size > BYTES_PER_PARAMETER * parameters + MIB:
        raise VlmrankError(
            f"{path} has {size_of(size)}; the architecture has {parameters / 1e6:,.1f} million parameters, of which "
            f"even a training state takes no more than {size_of(BYTES_PER_PARAMETER * parameters + MIB)}"
        )
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as file:
                if not list(file.keys()):
                    raise VlmrankError(f"{path} holds no weights")
        except (SafetensorError, OSError) as error:
            raise VlmrankError(f"{path} is no complete safetensors file ({error}); fetch or copy it again") from error
        return
    check_packing(path)
    import torch

    try:
        try:
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise VlmrankError(
            f"{path} is refused: reading it would run code from inside it, not only load tensors; save the state_dict "
            "alone, best as safetensors"
        ) from error
    except (RuntimeError, MemoryError, OSError, EOFError, ValueError, KeyError, TypeError) as error:
        if "TorchScript" in str(error):
            raise VlmrankError(
                f"{path} is refused: it is a TorchScript program, not only tensors; save its state_dict as safetensors"
            ) from error
        raise VlmrankError(f"{path} is no complete weights file ({' '.join(str(error).split())[:200]})") from error
