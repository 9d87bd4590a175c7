"""Inspect a PyTorch weights file without unpickling it: how it is packed, and what its pickle names.

`torch.load(weights_only=True)` runs no code from a file, but trusts the sizes that the file states.
"""

from __future__ import annotations

import contextlib
import pickletools
import zipfile
from pathlib import Path
from typing import BinaryIO

from vlmrank.errors import VlmrankError
from vlmrank.files import MOST_TEXT, MOST_WEIGHTS, open_regular, size_of

LEGACY_PICKLES = 5  # magic number, protocol, system, content, keys of the storages; then the storages themselves
GREEDY = {"bytearray"}  # given a number, it allocates that much memory


def check_packing(path: Path) -> None:
    """Refuse a weights file that expands when it is read.

    `torch.save` writes a zip archive without compression, or a sequence of pickles.

    Raises
    ------
    VlmrankError : a TorchScript program; compressed or overlapping parts; a pickle that allocates memory by number.
    """
    with open_regular(path, most=MOST_WEIGHTS) as file:
        try:
            if not zipfile.is_zipfile(file):
                file.seek(0)
                _check_pickles(file, path, LEGACY_PICKLES)
                return
            with zipfile.ZipFile(file) as archive:
                parts = archive.infolist()
                if any("/code/" in part.filename for part in parts):
                    raise VlmrankError(
                        f"{path} is refused: it is a TorchScript program, not only tensors; save its state_dict as "
                        "safetensors"
                    )
                packed = next((part for part in parts if part.compress_type != zipfile.ZIP_STORED), None)
                if packed or sum(part.file_size for part in parts) > path.stat().st_size:
                    raise VlmrankError(
                        f"{path} is refused: {packed.filename if packed else 'it'} grows when it is unpacked, which "
                        "torch.save never writes; save the state_dict again, best as safetensors"
                    )
                for part in parts:
                    if part.filename.endswith(".pkl"):
                        if part.file_size > MOST_TEXT:
                            raise VlmrankError(f"{path} is refused: {part.filename} has {size_of(part.file_size)}")
                        with archive.open(part) as inside:
                            _check_pickles(inside, path, 1)
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            reason = " ".join(str(error).split())[:200]
            raise VlmrankError(f"{path} is no complete weights file ({reason}); fetch or copy it again") from error


def _check_pickles(file: BinaryIO, path: Path, number: int) -> None:
    with contextlib.suppress(ValueError):  # where this reader fails, torch's fails too and says why
        for _ in range(number):
            for _, argument, _ in pickletools.genops(file):
                if isinstance(argument, str) and argument.split(" ")[-1] in GREEDY:
                    raise VlmrankError(
                        f"{path} is refused: its pickle names {argument}, which no weights need; save the state_dict "
                        "alone, best as safetensors"
                    )
