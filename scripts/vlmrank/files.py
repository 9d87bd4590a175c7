"""Open files made by others: regular files only, with a size limit that holds for compressed content too."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import zlib
from pathlib import Path
from typing import BinaryIO

from vlmrank.errors import VlmrankError

MIB, GIB = 1 << 20, 1 << 30
MOST_CONFIG = 4 * MIB  # a model's configuration
MOST_TEXT = 256 * MIB  # a sheet, a list of images or a table, unpacked
MOST_IMAGE = 512 * MIB  # one image, as a file or inside a tar
MOST_TAR = 16 << 40  # one tar file of images
MOST_WEIGHTS = 128 * GIB  # a model's weights
MOST_TAR_HEADER = MIB  # one header inside a tar

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_PACKED = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_ARCHIVES = {b"PK\x03\x04": "a zip archive", b"7z\xbc\xaf": "a 7z archive", b"\x28\xb5\x2f\xfd": "a zstd file"}
_BLOCK = MIB


class RefusedFileError(VlmrankError):
    """A file that is not read at all: not a regular file, or too large for its kind.

    Attributes
    ----------
    fault : the sentence without the file's name.
    """

    def __init__(self, path: str | os.PathLike[str], fault: str):
        super().__init__(f"{os.fspath(path)} {fault}")
        self.fault = fault


def size_of(number: int) -> str:
    """A number of bytes for people.

    Examples
    --------
    >>> size_of(300), size_of(4 << 20), size_of(3 << 40)
    ('300 bytes', '4 MiB', '3072 GiB')
    """
    for unit, name in ((GIB, "GiB"), (MIB, "MiB")):
        if number >= unit:
            return f"{number / unit:.4g} {name}"
    return f"{number} bytes"


def open_regular(path: str | os.PathLike[str], *, most: int) -> BinaryIO:
    """Open a file for binary reading; never blocks on a pipe or a device.

    Parameters
    ----------
    most : largest size in bytes.

    Raises
    ------
    OSError : missing, not readable, links that lead in a circle.
    RefusedFileError : a folder, pipe, device or socket; larger than `most`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # opening a pipe would block
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            kind = next((name for test, name in _KINDS if test(found.st_mode)), "no file")
            raise RefusedFileError(path, f"is {kind}, not a file")
        if found.st_size > most:
            raise RefusedFileError(path, f"has {size_of(found.st_size)}, more than the {size_of(most)} that are read")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | os.PathLike[str], *, most: int) -> bytes:
    """Content of a file; raises as `open_regular`."""
    with open_regular(path, most=most) as file:
        return _read(file, most, path)


def read_text(path: str | os.PathLike[str], *, most: int = MOST_TEXT) -> str:
    """Text of a file in UTF-8, with or without a byte order mark, lines ended by line feeds.

    `.gz`, `.bz2` and `.xz` are unpacked up to `most`.

    Raises
    ------
    OSError, RefusedFileError : as `open_regular`; unpacked larger than `most`; an archive.
    UnicodeDecodeError : not UTF-8.
    """
    with open_regular(path, most=most) as file:
        unpack = _PACKED.get(Path(path).suffix.lower())
        if unpack is None:
            content = _read(file, most, path)
        else:
            try:
                with unpack(file) as inside:
                    content = _read(inside, most, path)
            except (EOFError, zlib.error, lzma.LZMAError) as error:
                raise OSError(f"it is no complete {Path(path).suffix} file ({error})") from error
    archive = next((name for start, name in _ARCHIVES.items() if content.startswith(start)), None)
    if archive:
        raise RefusedFileError(path, f"is {archive}: unpack it")
    return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def read_parquet(path: str | os.PathLike[str], *, most: int = MOST_TEXT):
    """Table of a Parquet file as `pyarrow.Table`, read in batches until it is complete or larger than `most`.

    Raises
    ------
    OSError, RefusedFileError : as `open_regular`; more than `most` in memory.
    VlmrankError : no Parquet.
    """
    import pyarrow
    import pyarrow.parquet

    with open_regular(path, most=most) as file:
        batches, size = [], 0
        try:
            parquet = pyarrow.parquet.ParquetFile(file)
            for batch in parquet.iter_batches(batch_size=4096):
                size += batch.nbytes
                if size > most:
                    raise RefusedFileError(path, f"holds more than the {size_of(most)} that are read")
                batches.append(batch)
            return pyarrow.Table.from_batches(batches, schema=parquet.schema_arrow)
        except (pyarrow.ArrowException, OSError, MemoryError) as error:
            raise VlmrankError(f"{os.fspath(path)} is not a parquet file that can be read ({error})") from error


def _read(file: BinaryIO, most: int, path: str | os.PathLike[str]) -> bytes:
    """Read to the end in pieces, since neither the size on disk nor a packed size is reliable."""
    parts, size = [], 0
    while part := file.read(min(_BLOCK, most + 1 - size)):
        parts.append(part)
        size += len(part)
        if size > most:
            raise RefusedFileError(path, f"holds more than the {size_of(most)} that are read")
    return b"".join(parts)


class CappedReader:
    """A binary file that refuses a single read of more than `most` bytes, for parsers that trust sizes in headers.

    Raises
    ------
    RefusedFileError : from `read`.
    """

    def __init__(self, file: BinaryIO, most: int, name: str):
        self._file, self._most, self._name = file, most, name
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        """As a file's `read`, with a size."""
        if not 0 <= size <= self._most:
            raise RefusedFileError(self._name, f"has a header of {size_of(size)}, more than {size_of(self._most)}")
        return self._file.read(size)
