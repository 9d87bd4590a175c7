"""Source packs: one file per model with what a new target needs of the sources, in place of their images.

A pack is a zip file. `pack.json` holds the model's facts, the settings, and of each source its card without paths and
test images, its accuracy and its group. `pairs/<identity>.h5` are finished pairs under the identities that they have in
a result store, so a pair is used only where computing it would give the same. A pack holds no images and no weights.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmrank.errors import OK, VlmrankError
from vlmrank.store.files import DamagedFile, atomic
from vlmrank.store.hdf5 import attributes_of, change_attributes, open_hdf5
from vlmrank.store.identities import MODEL_FACTS

FORMAT = 1
SUFFIX = ".vlmpack"
CONTENTS = "pack.json"
MOST_CONTENTS = 64 << 20  # bytes that are read of `pack.json`, and
MOST_PAIR = 1 << 30  # of one pair
DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")  # as in the datasets sheet
NAMES = ("model", "architecture", "pretrained")
PACKED_KIND = "pack"  # of the row of a source that comes from a pack


@dataclass(frozen=True)
class Pack:
    """What a pack holds, without its pairs.

    Attributes
    ----------
    path : the file.
    model : names and facts of the model, as in its card.
    settings : `options` of the conductance, `code` and `versions` that made the pairs.
    datasets : source -> its card; paths, labels and test images are left out, `packed` is true.
    groups : source -> its group of siblings, where it has one.
    accuracy : source -> acc1, n and per_class {class: [acc, n]} of this model.
    """

    path: Path
    model: Mapping[str, Any]
    settings: Mapping[str, Any]
    datasets: Mapping[str, Mapping[str, Any]]
    groups: Mapping[str, str]
    accuracy: Mapping[str, Mapping[str, Any]]

    def is_of(self, model: Mapping[str, Any]) -> bool:
        """Whether a model with this card has the weights, configuration and tokenizer that the pack was made with."""
        return all(self.model.get(name) == model.get(name) for name in MODEL_FACTS)

    def take(self, identity: str, destination: str | os.PathLike[str], **names: str) -> bool:
        """Make `destination` a copy of the pair of this identity; False if the pack has none.

        Parameters
        ----------
        names : attributes that each user chooses, which are not part of the identity: model, dataset, ...

        Raises
        ------
        VlmrankError : the pair is damaged, or not the one that its name says.
        """
        with _opened(self.path) as file:
            try:
                member = file.getinfo(f"pairs/{identity}.h5")
            except KeyError:
                return False
            with atomic(destination) as partial:
                partial.write_bytes(_read(file, member, MOST_PAIR))
                try:
                    with open_hdf5(partial, "pair") as pair:
                        found = attributes_of(pair)
                except DamagedFile as error:
                    raise VlmrankError(f"{self.path}: the pair {identity[:12]} is {error.what}; get it anew") from error
                if found.get("identity") != identity or found.get("status") != OK:
                    raise VlmrankError(f"{self.path}: the pair {identity[:12]} is another than its name says")
                changed = {name: value for name, value in names.items() if found.get(name) != value}
                if changed:
                    change_attributes(partial, changed)
        return True


@contextlib.contextmanager
def _opened(path: Path):
    try:
        with zipfile.ZipFile(path) as file:
            yield file
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, zipfile.zlib.error) as error:
        raise VlmrankError(f"{path}: is no pack, or a damaged one ({error}); get it anew") from error
    except OSError as error:
        raise VlmrankError(f"{path}: cannot be read ({error.strerror or error})") from error


def _read(file: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> bytes:
    """The content of a member; no more than `most` bytes are ever unpacked."""
    with file.open(member) as opened:
        content = opened.read(most + 1)
    if len(content) > most:
        raise VlmrankError(f"{file.filename}: {member.filename} is larger than {most >> 20} MiB")
    return content


def write_pack(path: str | os.PathLike[str], pack: Pack, pairs: Mapping[str, str | os.PathLike[str]]) -> None:
    """Write a pack beside `path`, then rename it.

    Parameters
    ----------
    pack : what goes into `pack.json`; its own path does not count.
    pairs : identity -> pair file.
    """
    content = {name: getattr(pack, name) for name in ("model", "settings", "datasets", "groups", "accuracy")}
    with atomic(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(_member(CONTENTS), json.dumps({"format": FORMAT, **content}, sort_keys=True, ensure_ascii=False))
        for identity, source in sorted(pairs.items()):
            file.writestr(_member(f"pairs/{identity}.h5"), Path(source).read_bytes())


def _member(name: str) -> zipfile.ZipInfo:
    """A member without a date, so that equal content gives equal files."""
    member = zipfile.ZipInfo(name)
    member.compress_type = zipfile.ZIP_DEFLATED
    return member


def find_packs(places: Sequence[str]) -> list[Path]:
    """The pack files that a configuration names: files, and all `.vlmpack` files of folders.

    Raises
    ------
    VlmrankError : a path does not exist, or a folder holds no pack.
    """
    found: list[Path] = []
    for place in map(Path, places):
        files = sorted(place.glob(f"*{SUFFIX}")) if place.is_dir() else [place]
        if not files or not all(path.is_file() for path in files):
            what = f"the folder {place} holds no {SUFFIX} file" if place.is_dir() else f"{place} does not exist"
            raise VlmrankError(f"packs: {what}; `vlmrank pack` makes them")
        found += files
    return list(dict.fromkeys(found))


def read_pack(path: str | os.PathLike[str]) -> Pack:
    """Read what a pack holds.

    Raises
    ------
    VlmrankError : not a pack, a damaged one, or one of another format.
    """
    path = Path(path)
    try:
        state = path.stat()
    except OSError as error:
        raise VlmrankError(f"{path}: cannot be read ({error.strerror})") from error
    return _read_pack(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=4096)
def _read_pack(path: Path, *_: int) -> Pack:
    with _opened(path) as file:
        try:
            content = json.loads(_read(file, file.getinfo(CONTENTS), MOST_CONTENTS))
            number = content["format"]
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise VlmrankError(f"{path}: is no pack: it has no readable {CONTENTS}") from error
    if number != FORMAT:
        raise VlmrankError(f"{path}: is a pack of format {number}, this vlmrank reads format {FORMAT}: make it anew")
    parts = {name: content.get(name) for name in ("model", "settings", "datasets", "groups", "accuracy")}
    if not all(isinstance(part, dict) for part in parts.values()):
        raise VlmrankError(f"{path}: {CONTENTS} lacks a part")
    for name, card in parts["datasets"].items():
        if not DATASET.fullmatch(name) or not isinstance(card, dict):
            raise VlmrankError(f"{path}: {name!r} is no name of a dataset")
    return Pack(path=path, **parts)


def packed_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """A dataset card as a pack holds it: identifiers and hashes of the images, no paths, labels or test images."""
    lists = {
        part: [{"id": one["id"], "sha256": one["sha256"]} for one in card[part]] for part in ("images", "predicted")
    }
    return {**card, **lists, "test": None, "n_test": 0, "no_test": "", "packed": True}


def first_cards(packs: Sequence[Pack]) -> dict[str, tuple[Pack, Mapping[str, Any]]]:
    """Each source of the packs: the first pack that has it, and its card there."""
    found: dict[str, tuple[Pack, Mapping[str, Any]]] = {}
    for pack in packs:
        for name, card in pack.datasets.items():
            found.setdefault(name, (pack, card))
    return found


def why_missing(
    packs: Sequence[Pack], model: Mapping[str, Any], dataset: Mapping[str, Any], settings: Mapping[str, Any]
) -> str:
    """Why no pack has a pair, in one sentence.

    Parameters
    ----------
    packs : those of this model's name.
    model, dataset : their cards.
    settings : `options`, `code` and `versions` of this run.
    """
    name = dataset["dataset"].partition("@")[0]  # of a twin, its dataset
    if not packs:
        return f"the source {name} comes from a pack, and no pack is of this model"
    fits = [pack for pack in packs if pack.is_of(model)]
    if not fits:
        parts = sorted(name for name in MODEL_FACTS if packs[0].model.get(name) != model.get(name))
        return f"{packs[0].path.name} was made with another model of this name: they differ in {', '.join(parts)}"
    pack = next((pack for pack in fits if name in pack.datasets), None)
    if pack is None:
        return f"{fits[0].path.name} does not hold the source {name}"
    told = []
    for part in ("options", "versions"):
        theirs, ours = pack.settings.get(part) or {}, settings.get(part) or {}
        told += [
            f"{key} is {theirs.get(key)!r} there and {ours.get(key)!r} here"
            for key in sorted({*theirs, *ours})
            if theirs.get(key) != ours.get(key)
        ]
    if pack.settings.get("code") != settings.get("code"):
        told.append("it is of a vlmrank whose code computes conductance in another way")
    parts = ("images", "predicted", *(("classes", "templates") if name == dataset["dataset"] else ()))
    if any(pack.datasets[name].get(part) != dataset.get(part) for part in parts):
        told.append(f"its {name} has other images or class names than that of the first pack")
    return f"{pack.path.name} does not fit: {'; '.join(told) or 'its pair is missing'}"
